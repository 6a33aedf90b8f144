// A panel of B has 32 columns: for each pair of rows of B, a 32-bit number for each column, which holds the pair. Rows of A are
// read where they lie, 32 elements at a time. What is left of them behind the last 32, and an A that is stored transposed, is
// packed.
//
// A piece is some panels of B times some rows. Its thread packs the panels and walks over blocks of 32 rows; AMX holds such a
// block of 32 x 32 sums in four tiles, AVX-512 12 of its rows in 24 registers.
#include "kernels/matmul_bf16.h"

#include <immintrin.h>

#include <algorithm>

#include "src/base/parallel.h"

namespace tll {
namespace {

constexpr int kBlock = 32;                      // rows and columns of a block of sums, and the elements of A at a time
constexpr int kStep = kBlock / 2 * kBlock;      // 32-bit numbers of a panel for 32 elements of inner
constexpr int kLongInner = 1024, kOnce = 2048;  // longer than kOnce: kLongInner of inner at a time, with sums in memory
constexpr int kMostPanels = 4;
constexpr int64_t kOwn = Matmul<float>::kOwn, kBlockSums = kBlock * kBlock;
constexpr int kMostRows = 1024;  // of a piece
static_assert(kOnce * kBlock / 2 + kBlockSums <= kOwn);
static_assert(kLongInner * kBlock / 2 + kMostRows * kBlock <= kOwn);

int divide_up(int a, int b) { return (a + b - 1) / b; }

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

__mmask32 first_words(int n) { return n >= 32 ? ~__mmask32{0} : n <= 0 ? 0 : (__mmask32{1} << n) - 1; }
__m512i load_words(const bf16* from, int n) { return _mm512_maskz_loadu_epi16(first_words(n), from); }

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
void pack_panel(uint32_t* to, const ConstMatrix& b, int col, int cols, int k, int inner) {
  const bf16* data = static_cast<const bf16*>(b.data);
  for (int first = 0; first < inner; first += kBlock, to += kStep) {
    const int left = std::min(kBlock, inner - first);
    if (!b.transposed) {
      for (int pair = 0; pair < kBlock / 2; pair++) {
        const bf16* row = data + (k + first + 2 * pair) * b.stride + col;
        __m512i low, high;
        interleave(2 * pair < left ? row : nullptr, 2 * pair + 1 < left ? row + b.stride : nullptr, cols, low, high);
        _mm512_storeu_si512(to + pair * kBlock, low);
        _mm512_storeu_si512(to + pair * kBlock + 16, high);
      }
      continue;
    }
    for (int half = 0; half < kBlock; half += 16) {
      __m512i rows[16];
      for (int c = 0; c < 16; c++)
        rows[c] = half + c < cols ? load_words(data + (col + half + c) * b.stride + k + first, left) : _mm512_setzero_si512();
      transpose(rows);
      for (int pair = 0; pair < 16; pair++) _mm512_storeu_si512(to + pair * kBlock + half, rows[pair]);
    }
  }
}

// 16 rows of A from column k on, `left` of them in A, to rows of 32 elements, `step` from one to the next.
void pack_rows(bf16* to, int64_t step, const ConstMatrix& a, int row, int k, int left) {
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

template <int kRows>
inline __attribute__((always_inline)) void avx512_rows(const Rows& a, const uint32_t* b, float* sums, bool add) {
  __m512 sum[kRows][2];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < 2; j++) sum[i][j] = add ? _mm512_loadu_ps(sums + i * kBlock + j * 16) : _mm512_setzero_ps();
  for (int s = 0; s < a.steps(); s++) {
    const bf16* rows = s < a.whole ? a.data + s * kBlock : a.tail;
    const int64_t stride = s < a.whole ? a.stride : kBlock;
    for (int pair = 0; pair < kBlock / 2; pair++, b += kBlock) {
      const auto b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b)),
                 b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 16));
#pragma GCC unroll 12
      for (int i = 0; i < kRows; i++) {
        int both;
        __builtin_memcpy(&both, rows + i * stride + 2 * pair, sizeof(both));
        const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
        sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
        sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < 2; j++) _mm512_storeu_ps(sums + i * kBlock + j * 16, sum[i][j]);
}
void avx512_block(const Rows& a, const uint32_t* b, int rows, float* sums, bool add) {
  int r = 0;
  for (; r + 12 <= rows; r += 12) avx512_rows<12>(a.from(r), b, sums + r * kBlock, add);
  for (; r + 4 <= rows; r += 4) avx512_rows<4>(a.from(r), b, sums + r * kBlock, add);
  for (; r < rows; r++) avx512_rows<1>(a.from(r), b, sums + r * kBlock, add);
}

// Tiles 0 to 3 are sums, 4 and 5 rows of A, 6 and 7 pairs of B.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
// g++'s intrinsics do not say that they read memory.
inline void finish_stores() { asm volatile("" ::: "memory"); }
void configure_tiles(int rows_of_a) {
  TileConfig config;
  for (int t = 0; t < 8; t++) config.bytes[t] = 64, config.rows[t] = static_cast<uint8_t>(t < 6 ? rows_of_a : 16);
  finish_stores();
  _tile_loadconfig(&config);
}
// kTall: 32 rows; else those of one tile, for which the tiles are configured. kWide: all 32 columns; else the first 16.
template <bool kTall, bool kWide>
void amx_tiles(const Rows& a, const uint32_t* b, float* sums, bool add) {
  constexpr int kSumBytes = kBlock * 4, kPairBytes = kBlock * 4;
  float* const below = sums + 16 * kBlock;
  if (add) {
    _tile_loadd(0, sums, kSumBytes);
    if constexpr (kWide) _tile_loadd(1, sums + 16, kSumBytes);
    if constexpr (kTall) _tile_loadd(2, below, kSumBytes);
    if constexpr (kTall && kWide) _tile_loadd(3, below + 16, kSumBytes);
  } else {
    _tile_zero(0);
    if constexpr (kWide) _tile_zero(1);
    if constexpr (kTall) _tile_zero(2);
    if constexpr (kTall && kWide) _tile_zero(3);
  }
  for (int s = 0; s < a.steps(); s++, b += kStep) {
    const bf16* rows = s < a.whole ? a.data + s * kBlock : a.tail;
    const int64_t stride = s < a.whole ? a.stride : kBlock;
    _tile_loadd(6, b, kPairBytes);
    _tile_loadd(4, rows, stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kWide) _tile_loadd(7, b + 16, kPairBytes);
    if constexpr (kWide) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTall) _tile_loadd(5, rows + 16 * stride, stride * 2);
    if constexpr (kTall) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kTall && kWide) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kSumBytes);
  if constexpr (kWide) _tile_stored(1, sums + 16, kSumBytes);
  if constexpr (kTall) _tile_stored(2, below, kSumBytes);
  if constexpr (kTall && kWide) _tile_stored(3, below + 16, kSumBytes);
}
// `configured`: the rows of A that the tiles are configured for.
void amx_block(const Rows& a, const uint32_t* b, int rows, int cols, float* sums, bool add, int& configured) {
  const auto configure = [&](int wanted) {
    if (configured != wanted) configure_tiles(configured = wanted);
  };
  if (rows == kBlock) {
    configure(16);
    finish_stores();
    return cols > 16 ? amx_tiles<true, true>(a, b, sums, add) : amx_tiles<true, false>(a, b, sums, add);
  }
  for (int r = 0; r < rows; r += 16) {
    configure(std::min(16, rows - r));
    finish_stores();
    if (cols > 16)
      amx_tiles<false, true>(a.from(r), b, sums + r * kBlock, add);
    else
      amx_tiles<false, false>(a.from(r), b, sums + r * kBlock, add);
  }
}

// round_to_bf16() of 16 numbers.
inline __attribute__((always_inline)) __m256i round_16(__m512 x) {
  const __m512i u = _mm512_castps_si512(x), upper = _mm512_srli_epi32(u, 16);
  const __m512i half = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(upper, _mm512_set1_epi32(1)));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, half), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40)));
}

// out = or += alpha · sums
template <bool kFloat, bool kAdd>
void store_block_as(const Matrix& out, const float* sums, float alpha) {
  const __m512 scale = _mm512_set1_ps(alpha);
  for (int first = 0; first < out.col_count; first += 16) {
    const auto mask = static_cast<__mmask16>(first_words(std::min(16, out.col_count - first)));
    for (int r = 0; r < out.row_count; r++) {
      const int64_t at = r * out.stride + first;
      const __m512 sum = _mm512_loadu_ps(sums + r * kBlock + first);
      if constexpr (kFloat) {
        float* to = static_cast<float*>(out.data) + at;
        const __m512 y = kAdd ? _mm512_fmadd_ps(sum, scale, _mm512_maskz_loadu_ps(mask, to)) : _mm512_mul_ps(sum, scale);
        _mm512_mask_storeu_ps(to, mask, y);
      } else {
        bf16* to = static_cast<bf16*>(out.data) + at;
        __m512 y;
        if constexpr (kAdd) {
          const __m512i before = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, to));
          y = _mm512_fmadd_ps(sum, scale, _mm512_castsi512_ps(_mm512_slli_epi32(before, 16)));
        } else {
          y = _mm512_mul_ps(sum, scale);
        }
        _mm256_mask_storeu_epi16(to, mask, round_16(y));
      }
    }
  }
}
void store_block(const Matrix& out, const float* sums, float alpha, bool accumulate) {
  if (out.dtype == DType::f32)
    accumulate ? store_block_as<true, true>(out, sums, alpha) : store_block_as<true, false>(out, sums, alpha);
  else
    accumulate ? store_block_as<false, true>(out, sums, alpha) : store_block_as<false, false>(out, sums, alpha);
}

// ---- the product --------------------------------------------------------------------------------------------------------------

}  // namespace

void multiply_bf16(const Matmul<float>& op, Bf16Instructions with) {
  const int threads = static_cast<int>(std::clamp<int64_t>((op.scratch.size - Matmul<float>::kShared) / kOwn, 1, cpu_threads()));
  const int inner = op.inner(), all_steps = divide_up(inner, kBlock), whole = op.a.transposed ? 0 : inner / kBlock;
  const int packed_steps = all_steps - whole;  // of A
  const int64_t packed_stride = int64_t{packed_steps} * kBlock;
  const auto line = [](float* at) { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(at) + 63) / 64 * 64); };
  constexpr int kLine = 16;  // floats
  bf16* const packed = reinterpret_cast<bf16*>(line(op.scratch.data + threads * kOwn));
  const int64_t room = 2 * (op.scratch.size - threads * kOwn - kLine);

  // Blocks of rows for which A fits, if it is packed; a piece that adds up parts of inner has room for kMostRows.
  const int part = inner <= kOnce ? all_steps : kLongInner / kBlock;
  const bool once = part == all_steps;
  int64_t most_rows = once ? op.rows() : kMostRows;
  if (packed_steps > 0) most_rows = std::min(most_rows, std::max<int64_t>(16, room / (packed_steps * kBlock) / 16 * 16));
  TLL_CHECK(packed_steps == 0 || room >= most_rows * packed_steps * kBlock, "{} floats of scratch", op.scratch.size);
  const int panels = divide_up(op.cols(), kBlock);
  const int most_panels =
      once ? static_cast<int>(std::clamp<int64_t>((kOwn - kBlockSums - kLine) / (int64_t{part} * kStep), 1, kMostPanels)) : 1;
  for (int r0 = 0; r0 < op.rows(); r0 += static_cast<int>(most_rows)) {
    const int rows = static_cast<int>(std::min<int64_t>(most_rows, op.rows() - r0)), row_blocks = divide_up(rows, kBlock);
    if (packed_steps > 0)
      parallel_for(divide_up(rows, 16), 32 * kBlock * packed_steps, [&](int64_t sixteen) {
        const int row = static_cast<int>(sixteen) * 16;
        for (int s = 0; s < packed_steps; s++) {
          const int k = (whole + s) * kBlock;
          pack_rows(packed + row * packed_stride + s * kBlock, packed_stride, op.a.rows(r0, rows), row, k,
                    std::min(kBlock, inner - k));
        }
      });
    const int groups = std::min(panels, std::max(divide_up(panels, most_panels), 2 * threads));
    const int parts = std::clamp(2 * threads / groups, 1, row_blocks);
    parallel_pieces(groups * parts, threads, [&](int64_t piece, int worker) {
      const int group = static_cast<int>(piece) / parts, row_part = static_cast<int>(piece) % parts;
      const int first_panel = panels * group / groups, last_panel = panels * (group + 1) / groups;
      const int first_block = row_blocks * row_part / parts, last_block = row_blocks * (row_part + 1) / parts;
      float* const own = line(op.scratch.data + worker * kOwn);
      // The sums come first; of several blocks only where parts of inner are added up.
      float* const sums = own;
      uint32_t* const pairs = reinterpret_cast<uint32_t*>(own + (once ? 1 : last_block - first_block) * kBlockSums);
      int configured = 0;
      for (int step = 0; step < all_steps; step += part) {
        const int steps = std::min(part, all_steps - step), k = step * kBlock;
        for (int p = first_panel; p < last_panel; p++)
          pack_panel(pairs + (p - first_panel) * steps * kStep, op.b, p * kBlock, std::min(kBlock, op.cols() - p * kBlock), k,
                     std::min(inner - k, steps * kBlock));
        for (int block = first_block; block < last_block; block++) {
          const int row = block * kBlock, height = std::min(kBlock, rows - row);
          for (int p = first_panel; p < last_panel; p++) {
            float* const to = sums + (once ? 0 : block - first_block) * kBlockSums;
            const uint32_t* b = pairs + (p - first_panel) * steps * kStep;
            const int in_place = std::clamp(whole - step, 0, steps);
            const bf16* data = static_cast<const bf16*>(op.a.data) + (r0 + row) * op.a.stride + k;
            const bf16* packed_rows = packed + row * packed_stride;
            const Rows a = op.a.transposed ? Rows{packed_rows + k, packed_stride, steps, nullptr}
                                           : Rows{data, op.a.stride, in_place, in_place < steps ? packed_rows : nullptr};
            if (with == Bf16Instructions::amx)
              amx_block(a, b, height, op.cols() - p * kBlock, to, step > 0, configured);
            else
              avx512_block(a, b, height, to, step > 0);
            if (step + steps == all_steps)
              store_block(op.out.rows(r0 + row, height).cols(p * kBlock, std::min(kBlock, op.cols() - p * kBlock)), to,
                          static_cast<float>(op.alpha), op.accumulate);
          }
        }
      }
      if (configured != 0) _tile_release();
    });
  }
}

}  // namespace tll
