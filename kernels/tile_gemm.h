// A GEMM for tiles in the first two levels of cache: what attention on a CPU is made of.
//
//   C (M, N) = or += A (M, K) · B (K, N)
//
// A has any strides (so it may be transposed), B and C are row-major, N is a multiple of kLanes. The micro-kernel holds a block
// of C in registers; each step loads a few vectors of B and broadcasts single elements of A, so nothing is packed.
#pragma once

#include <cstddef>

#include "kernels/numeric.h"

namespace tll {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 12;
#else
constexpr int kLanes = 8, kTileRows = 6;
#endif
constexpr int kPad = 16;  // tiles are padded to this, on every instruction set, so that planned sizes do not depend on it
static_assert(kPad % kLanes == 0);

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

template <int kRows, int kVectors>
inline __attribute__((always_inline)) void tile_block(int K, const float* a, ptrdiff_t a_row, ptrdiff_t a_col, const float* b,
                                                      ptrdiff_t b_row, float* c, ptrdiff_t c_row, bool accumulate) {
  Lanes sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) {
      if (accumulate)
        sum[i][j] = *reinterpret_cast<const Lanes*>(c + i * c_row + j * kLanes);
      else
        sum[i][j] = Lanes{};
    }
  for (int k = 0; k < K; k++) {
    Lanes bv[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) bv[j] = *reinterpret_cast<const Lanes*>(b + k * b_row + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
      const float scalar = a[i * a_row + k * a_col];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; j++) sum[i][j] += scalar * bv[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) *reinterpret_cast<Lanes*>(c + i * c_row + j * kLanes) = sum[i][j];
}

template <int kVectors>
inline void tile_column(int M, int K, const float* a, ptrdiff_t a_row, ptrdiff_t a_col, const float* b, ptrdiff_t b_row, float* c,
                        ptrdiff_t c_row, bool accumulate) {
  int i = 0;
  for (; i + kTileRows <= M; i += kTileRows)
    tile_block<kTileRows, kVectors>(K, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, accumulate);
  for (; i + 4 <= M; i += 4) tile_block<4, kVectors>(K, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, accumulate);
  for (; i + 2 <= M; i += 2) tile_block<2, kVectors>(K, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, accumulate);
  if (i < M) tile_block<1, kVectors>(K, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, accumulate);
}

inline void tile_gemm(int M, int N, int K, const float* a, ptrdiff_t a_row, ptrdiff_t a_col, const float* b, ptrdiff_t b_row,
                      float* c, ptrdiff_t c_row, bool accumulate) {
  int j = 0;
  for (; j + 2 * kLanes <= N; j += 2 * kLanes) tile_column<2>(M, K, a, a_row, a_col, b + j, b_row, c + j, c_row, accumulate);
  if (j < N) tile_column<1>(M, K, a, a_row, a_col, b + j, b_row, c + j, c_row, accumulate);
}

}  // namespace
}  // namespace tll
