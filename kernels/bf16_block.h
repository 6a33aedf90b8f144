// Blocks of bf16 products, by AMX or by AVX-512's dot products of pairs: what the GEMM and the attention of processors that
// multiply bf16 are made of.
//
// A panel of B has 32 columns: for each pair of rows of B, a 32-bit number for each column, which holds the pair. Rows of A are
// read 32 elements at a time. A block of 32 x 32 sums is four tiles of AMX, or 12 of its rows at a time in 24 registers.
#pragma once

#include <immintrin.h>

#include <algorithm>

#include "kernels/bf16_instructions.h"
#include "kernels/gemm_parts.h"
#include "kernels/matrix.h"

namespace tll {
namespace {

constexpr int kBlock = 32;                  // rows and columns of a block of sums, and the elements of A at a time
constexpr int kStep = kBlock / 2 * kBlock;  // 32-bit numbers of a panel for 32 rows of B
constexpr int64_t kBlockSums = kBlock * kBlock;

inline int divide_up(int a, int b) { return (a + b - 1) / b; }
// The next line of cache; kLine floats are enough for it.
constexpr int kLine = 16;
inline float* line(float* at) { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(at) + 63) / 64 * 64); }

// ---- packing ------------------------------------------------------------------------------------------------------------------

// 16 rows of 16 numbers become 16 columns.
inline __attribute__((always_inline)) void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]), r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]), r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 4; j++) {
      t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  }
  for (int j = 0; j < 8; j++) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
  }
}

inline __mmask32 first_words(int n) { return n >= 32 ? ~__mmask32{0} : n <= 0 ? 0 : (__mmask32{1} << n) - 1; }
inline __m512i load_words(const bf16* from, int n) { return _mm512_maskz_loadu_epi16(first_words(n), from); }

// Two rows of up to 32 elements become pairs: of the first 16 columns and of the others.
inline __attribute__((always_inline)) void interleave(const bf16* row, const bf16* next, int n, __m512i& low, __m512i& high) {
  const __m512i a = row ? load_words(row, n) : _mm512_setzero_si512(), b = next ? load_words(next, n) : _mm512_setzero_si512();
  alignas(64) static constexpr uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i at = _mm512_load_si512(kLow);
  low = _mm512_permutex2var_epi16(a, at, b);
  high = _mm512_permutex2var_epi16(a, _mm512_add_epi16(at, _mm512_set1_epi16(16)), b);
}

// The panel of `cols` columns of B from column `col` on, rows k … k+inner-1, padded with zeros to a multiple of 32 rows.
// ask_ahead: what follows is asked for ahead of its use, for processors that do not foresee steps from row to row.
inline void pack_panel(uint32_t* to, const ConstMatrix& b, int col, int cols, int k, int inner, bool ask_ahead = false) {
  const bf16* data = static_cast<const bf16*>(b.data);
  for (int first = 0; first < inner; first += kBlock, to += kStep) {
    const int left = std::min(kBlock, inner - first);
    if (!b.transposed) {
      for (int pair = 0; pair < kBlock / 2; pair++) {
        const bf16* row = data + (k + first + 2 * pair) * b.stride + col;
        if (ask_ahead) __builtin_prefetch(row + kBlock * b.stride), __builtin_prefetch(row + (kBlock + 1) * b.stride);
        __m512i low, high;
        interleave(2 * pair < left ? row : nullptr, 2 * pair + 1 < left ? row + b.stride : nullptr, cols, low, high);
        _mm512_storeu_si512(to + pair * kBlock, low);
        _mm512_storeu_si512(to + pair * kBlock + 16, high);
      }
      continue;
    }
    for (int half = 0; half < kBlock; half += 16) {
      __m512i rows[16];
      for (int c = 0; ask_ahead && c < 16; c++) __builtin_prefetch(data + (col + half + c) * b.stride + k + first + 4 * kBlock);
      for (int c = 0; c < 16; c++)
        rows[c] = half + c < cols ? load_words(data + (col + half + c) * b.stride + k + first, left) : _mm512_setzero_si512();
      transpose(rows);
      for (int pair = 0; pair < 16; pair++) _mm512_storeu_si512(to + pair * kBlock + half, rows[pair]);
    }
  }
}

// 16 rows of A from column k on, `left` of them in A, to rows of 32 elements, `step` from one to the next.
inline void pack_rows(bf16* to, int64_t step, const ConstMatrix& a, int row, int k, int left) {
  const bf16* data = static_cast<const bf16*>(a.data);
  const int height = std::min(16, a.row_count - row);
  if (!a.transposed) {
    for (int r = 0; r < height; r++) _mm512_storeu_si512(to + r * step, load_words(data + (row + r) * a.stride + k, left));
    return;
  }
  __m512i pairs[16], unused;
  for (int p = 0; p < 16; p++) {
    const bf16* from = data + (k + 2 * p) * a.stride + row;
    interleave(2 * p < left ? from : nullptr, 2 * p + 1 < left ? from + a.stride : nullptr, height, pairs[p], unused);
  }
  transpose(pairs);
  for (int r = 0; r < height; r++) _mm512_storeu_si512(to + r * step, pairs[r]);
}

// ---- a block of sums ----------------------------------------------------------------------------------------------------------

// Rows of A: `whole` times 32 elements where they lie, and then, unless tail is null, 32 packed ones.
struct Rows {
  const bf16* data;
  int64_t stride;
  int whole;
  const bf16* tail;
  int steps() const { return whole + (tail != nullptr); }
  Rows from(int row) const { return {data + row * stride, stride, whole, tail ? tail + row * kBlock : nullptr}; }
};

// Pairs of rows of B for 32 columns, one pair after the other: of a panel, or of B where it lies, (inner, cols).
struct PanelPairs {
  const uint32_t* at;
  inline __attribute__((always_inline)) void load(int pair, __m512i& low, __m512i& high) const {
    low = _mm512_loadu_si512(at + pair * kBlock), high = _mm512_loadu_si512(at + pair * kBlock + 16);
  }
};
struct PlainPairs {
  const bf16* at;
  int64_t stride;
  int inner, cols;
  inline __attribute__((always_inline)) void load(int pair, __m512i& low, __m512i& high) const {
    const bf16* row = at + 2 * pair * stride;
    __builtin_prefetch(row + kBlock * stride), __builtin_prefetch(row + (kBlock + 1) * stride);
    interleave(2 * pair < inner ? row : nullptr, 2 * pair + 1 < inner ? row + stride : nullptr, cols, low, high);
  }
};

template <int kRows, class Pairs>
void avx512_rows(const Rows& a, const Pairs& b, float* sums, int64_t stride, bool add) {
  __m512 sum[kRows][2];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < 2; j++) sum[i][j] = add ? _mm512_loadu_ps(sums + i * stride + j * 16) : _mm512_setzero_ps();
  for (int s = 0; s < a.steps(); s++) {
    const bf16* rows = s < a.whole ? a.data + s * kBlock : a.tail;
    const int64_t row_stride = s < a.whole ? a.stride : kBlock;
    for (int pair = 0; pair < kBlock / 2; pair++) {
      __m512i low, high;
      b.load(s * (kBlock / 2) + pair, low, high);
#pragma GCC unroll 12
      for (int i = 0; i < kRows; i++) {
        int both;
        __builtin_memcpy(&both, rows + i * row_stride + 2 * pair, sizeof(both));
        const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
        sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, reinterpret_cast<__m512bh>(low));
        sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, reinterpret_cast<__m512bh>(high));
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < 2; j++) _mm512_storeu_ps(sums + i * stride + j * 16, sum[i][j]);
}
template <class Pairs>
void avx512_block(const Rows& a, const Pairs& b, int rows, float* sums, int64_t stride, bool add) {
  equal_parts<12>(rows, [&]<int kRows>(int first, std::integral_constant<int, kRows>) {
    avx512_rows<kRows>(a.from(first), b, sums + first * stride, stride, add);
  });
}

// Tiles 0 to 3 are sums, 4 and 5 rows of A, 6 and 7 pairs of B.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
// g++'s intrinsics do not say that they read memory.
inline void finish_stores() { asm volatile("" ::: "memory"); }
inline void configure_tiles(int rows_of_a) {
  TileConfig config;
  for (int t = 0; t < 8; t++) config.bytes[t] = 64, config.rows[t] = static_cast<uint8_t>(t < 6 ? rows_of_a : 16);
  finish_stores();
  _tile_loadconfig(&config);
}
// kTall: 32 rows; else those of one tile, for which the tiles are configured. kWide: all 32 columns; else the first 16.
template <bool kTall, bool kWide>
void amx_tiles(const Rows& a, const uint32_t* b, float* sums, int64_t stride, bool add) {
  constexpr int kPairBytes = kBlock * 4;
  const int64_t sum_bytes = stride * 4;
  float* const below = sums + 16 * stride;
  if (add) {
    _tile_loadd(0, sums, sum_bytes);
    if constexpr (kWide) _tile_loadd(1, sums + 16, sum_bytes);
    if constexpr (kTall) _tile_loadd(2, below, sum_bytes);
    if constexpr (kTall && kWide) _tile_loadd(3, below + 16, sum_bytes);
  } else {
    _tile_zero(0);
    if constexpr (kWide) _tile_zero(1);
    if constexpr (kTall) _tile_zero(2);
    if constexpr (kTall && kWide) _tile_zero(3);
  }
  for (int s = 0; s < a.steps(); s++, b += kStep) {
    const bf16* rows = s < a.whole ? a.data + s * kBlock : a.tail;
    const int64_t row_stride = s < a.whole ? a.stride : kBlock;
    _tile_loadd(6, b, kPairBytes);
    _tile_loadd(4, rows, row_stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kWide) _tile_loadd(7, b + 16, kPairBytes);
    if constexpr (kWide) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTall) _tile_loadd(5, rows + 16 * row_stride, row_stride * 2);
    if constexpr (kTall) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kTall && kWide) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, sum_bytes);
  if constexpr (kWide) _tile_stored(1, sums + 16, sum_bytes);
  if constexpr (kTall) _tile_stored(2, below, sum_bytes);
  if constexpr (kTall && kWide) _tile_stored(3, below + 16, sum_bytes);
}

// One thread's blocks, by the instructions that it was made for.
class Bf16Blocks {
 public:
  explicit Bf16Blocks(Bf16Instructions with) : with_(with) {}
  ~Bf16Blocks() {
    if (configured_ != 0) _tile_release();
  }
  Bf16Blocks(const Bf16Blocks&) = delete;

  // sums (rows, 32) = or += A (rows, inner) · panel b, for up to 32 rows. Of a panel of up to 16 columns AMX leaves the other
  // sums as they are. `stride` is that of the rows of sums.
  void multiply(const Rows& a, const uint32_t* b, int rows, int cols, float* sums, int64_t stride, bool add) {
    if (with_ != Bf16Instructions::amx) return avx512_block(a, PanelPairs{b}, rows, sums, stride, add);
    if (rows == kBlock) {
      configure(16);
      return cols > 16 ? amx_tiles<true, true>(a, b, sums, stride, add) : amx_tiles<true, false>(a, b, sums, stride, add);
    }
    for (int r = 0; r < rows; r += 16) {
      configure(std::min(16, rows - r));
      if (cols > 16)
        amx_tiles<false, true>(a.from(r), b, sums + r * stride, stride, add);
      else
        amx_tiles<false, false>(a.from(r), b, sums + r * stride, stride, add);
    }
  }

 private:
  void configure(int rows_of_a) {
    if (configured_ != rows_of_a) configure_tiles(configured_ = rows_of_a);
    finish_stores();
  }
  Bf16Instructions with_;
  int configured_ = 0;  // the rows of A that the tiles are for; 0: none
};

// ---- up to 16 elements
// ----------------------------------------------------------------------------------------------------------

// round_to_bf16() of 16 numbers.
inline __attribute__((always_inline)) __m256i round_16(__m512 x) {
  const __m512i u = _mm512_castps_si512(x), upper = _mm512_srli_epi32(u, 16);
  const __m512i half = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(upper, _mm512_set1_epi32(1)));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, half), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40)));
}

// The first n of 16 elements, as float, and back; n may be more.
inline __mmask16 first_16(int n) { return static_cast<__mmask16>(first_words(std::min(16, n))); }
inline __m512 load_bf16(const bf16* from, int n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_16(n), from)), 16));
}
inline void store_bf16(bf16* to, int n, __m512 x) { _mm256_mask_storeu_epi16(to, first_16(n), round_16(x)); }

}  // namespace
}  // namespace tll
