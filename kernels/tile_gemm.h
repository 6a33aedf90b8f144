// A GEMM for tiles in the first two levels of cache: what attention on a CPU is made of.
//
//   C (M, N) = or += A (M, K) · B (K, N)
//
// A has any strides (so it may be transposed), B and C are row-major, N is a multiple of kLanes. The micro-kernel holds a block
// of C in registers; each step loads a few vectors of B and broadcasts single elements of A, so nothing is packed. Of a product
// with a causal matrix it leaves out what is 0, or hidden, for whole blocks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

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

// Which part of a product is wanted. Rows above and columns left of the diagonal of a matrix may be hidden: its element (row,
// col) is seen if row < col + shift + 1.
struct WholeTile {
  int first(int, int) const { return 0; }
  int end(int, int, int K) const { return K; }
  int rows(int, int M) const { return M; }
};
// C is the matrix: the rows that one of the columns up to col_end-1 sees.
struct CausalResult : WholeTile {
  int shift;
  explicit CausalResult(int s) : shift(s) {}
  int rows(int col_end, int M) const { return std::clamp(col_end + shift, 0, M); }
};
// A is the matrix: the columns that are seen in one of the rows row … row+n-1.
struct CausalRows : WholeTile {
  int shift;
  explicit CausalRows(int s) : shift(s) {}
  int first(int row, int) const { return std::max(row - shift, 0); }
};
// A is its transpose.
struct CausalColumns : WholeTile {
  int shift;
  explicit CausalColumns(int s) : shift(s) {}
  int end(int row, int n, int K) const { return std::clamp(row + n + shift, 0, K); }
};

template <int kVectors, class Part>
inline void tile_column(int M, int K, const float* a, ptrdiff_t a_row, ptrdiff_t a_col, const float* b, ptrdiff_t b_row, float* c,
                        ptrdiff_t c_row, bool accumulate, const Part& part) {
  int i = 0;
  const auto blocks = [&]<int kRows>(std::integral_constant<int, kRows>) {
    for (; i + kRows <= M; i += kRows) {
      const int end = part.end(i, kRows, K), first = std::min(part.first(i, kRows), end);
      tile_block<kRows, kVectors>(end - first, a + i * a_row + first * a_col, a_row, a_col, b + first * b_row, b_row,
                                  c + i * c_row, c_row, accumulate);
    }
  };
  blocks(std::integral_constant<int, kTileRows>());
  blocks(std::integral_constant<int, 4>());
  blocks(std::integral_constant<int, 2>());
  blocks(std::integral_constant<int, 1>());
}

template <class Part = WholeTile>
inline void tile_gemm(int M, int N, int K, const float* a, ptrdiff_t a_row, ptrdiff_t a_col, const float* b, ptrdiff_t b_row,
                      float* c, ptrdiff_t c_row, bool accumulate, const Part& part = {}) {
  int j = 0;
  for (; j + 2 * kLanes <= N; j += 2 * kLanes)
    tile_column<2>(part.rows(j + 2 * kLanes, M), K, a, a_row, a_col, b + j, b_row, c + j, c_row, accumulate, part);
  if (j < N) tile_column<1>(part.rows(j + kLanes, M), K, a, a_row, a_col, b + j, b_row, c + j, c_row, accumulate, part);
}

}  // namespace
}  // namespace tll
