// Rows of A are read where they lie. What is left of them behind the last 32 elements, and an A that is stored transposed, is
// packed. A piece is some panels of B times some rows: its thread packs the panels and walks over blocks of 32 rows.
//
// Of a product with few rows, packing B would take longer than multiplying with it: AVX-512 reads the rows of B where they lie.
//
// A long inner dimension is cut into parts. All pieces of one part run before those of the next, so that the part of A stays in
// the caches, and their sums are in memory that all threads share.
#include "kernels/matmul_bf16.h"

#include "kernels/bf16_block.h"
#include "kernels/gemm_parts.h"
#include "src/base/parallel.h"

namespace tll {
namespace {

constexpr int kLongInner = 1024, kOnce = 2048;  // longer than kOnce: kLongInner of inner at a time
constexpr int kMostPanels = 4;                  // of a piece
constexpr int kUnpackedRows = 48;               // which packing B is not worth
constexpr int kMostRows = 1024;                 // whose sums are in shared memory
constexpr int64_t kOwn = Matmul<float>::kOwn, kSums = Matmul<float>::kSums;
static_assert(kOnce * kBlock / 2 + kBlockSums + kLine <= kOwn && kMostRows * kBlock <= kSums);

// out = alpha · sums [+ the addend, which lies as out does]
template <bool kFloat, bool kAdd>
void store_block_as(const Matrix& out, const float* sums, int64_t stride, float alpha, const void* addend) {
  const __m512 scale = _mm512_set1_ps(alpha);
  for (int first = 0; first < out.col_count; first += 16) {
    const int left = out.col_count - first;
    for (int r = 0; r < out.row_count; r++) {
      const int64_t at = r * out.stride + first;
      const __m512 sum = _mm512_loadu_ps(sums + r * stride + first);
      if constexpr (kFloat) {
        float* to = static_cast<float*>(out.data) + at;
        const __m512 y =
            kAdd ? _mm512_fmadd_ps(sum, scale, _mm512_maskz_loadu_ps(first_16(left), static_cast<const float*>(addend) + at))
                 : _mm512_mul_ps(sum, scale);
        _mm512_mask_storeu_ps(to, first_16(left), y);
      } else {
        bf16* to = static_cast<bf16*>(out.data) + at;
        store_bf16(to, left,
                   kAdd ? _mm512_fmadd_ps(sum, scale, load_bf16(static_cast<const bf16*>(addend) + at, left))
                        : _mm512_mul_ps(sum, scale));
      }
    }
  }
}
void store_block(const Matrix& out, const float* sums, int64_t stride, float alpha, const void* addend) {
  const auto store = [&]<bool kFloat>(std::bool_constant<kFloat>) {
    addend ? store_block_as<kFloat, true>(out, sums, stride, alpha, addend)
           : store_block_as<kFloat, false>(out, sums, stride, alpha, nullptr);
  };
  out.dtype == DType::f32 ? store(std::true_type()) : store(std::false_type());
}

// Asks for the cache lines of a block of the result, which is written after its product.
void ask_for(const Matrix& block) {
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(block.dtype));
  char* const at = static_cast<char*>(block.data);
  for (int r = 0; r < block.row_count; r++)
    for (int64_t byte = 0; byte < block.col_count * bytes; byte += 64)
      __builtin_prefetch(at + r * block.stride * bytes + byte, 1);
}

// Rows first … first+rows-1 of A, of which what is not read in place is packed: 32 elements of each step from `whole` on.
struct RowsOfA {
  ConstMatrix a;
  int whole;
  bf16* packed;
  int64_t stride;

  Rows from(int row, int step, int steps) const {
    const bf16* behind = packed + row * stride;
    if (a.transposed) return {behind + step * kBlock, stride, steps, nullptr};
    const int in_place = std::clamp(whole - step, 0, steps);
    return {static_cast<const bf16*>(a.data) + row * a.stride + step * kBlock, a.stride, in_place,
            in_place < steps ? behind : nullptr};
  }
};

// One part of inner of some rows and some panels: its steps, and where its sums are. null: they are of one block at a time.
struct Part {
  int step, steps, first_panel, panels;
  float* sums;
  bool is_last;
};

// out: these rows of the result.
void multiply_part(const Matmul<float>& op, Bf16Instructions with, int threads, const RowsOfA& a, const Matrix& out,
                   const Part& part) {
  const int rows = out.row_count, row_blocks = divide_up(rows, kBlock);
  const int64_t panel_floats = int64_t{part.steps} * kStep, own_sums = part.sums ? 0 : kBlockSums;
  const int most_panels = static_cast<int>(std::clamp<int64_t>((kOwn - own_sums - kLine) / panel_floats, 1, kMostPanels));
  const auto [groups, row_parts] = share_out(part.panels, most_panels, row_blocks, threads);
  parallel_pieces(groups * row_parts, threads, [&](int64_t piece, int worker) {
    const int group = static_cast<int>(piece) / row_parts, row_part = static_cast<int>(piece) % row_parts;
    const int first = part.panels * group / groups, last = part.panels * (group + 1) / groups;
    const int first_block = row_blocks * row_part / row_parts, last_block = row_blocks * (row_part + 1) / row_parts;
    const int k = part.step * kBlock, inner = std::min(op.inner() - k, part.steps * kBlock);
    float* const own = line(op.scratch.data + worker * kOwn);
    uint32_t* const pairs = reinterpret_cast<uint32_t*>(own + own_sums);
    const int64_t stride = part.sums ? int64_t{part.panels} * kBlock : kBlock;
    Bf16Blocks blocks(with);
    const auto cols = [&](int panel) { return std::min(kBlock, op.cols() - (part.first_panel + panel) * kBlock); };
    const bool avx512 = with == Bf16Instructions::avx512, in_place = avx512 && !op.b.transposed && rows <= kUnpackedRows;
    for (int p = first; p < last && !in_place; p++)
      pack_panel(pairs + (p - first) * panel_floats, op.b, (part.first_panel + p) * kBlock, cols(p), k, inner, avx512);
    for (int block = first_block; block < last_block; block++) {
      const int row = block * kBlock, height = std::min(kBlock, rows - row);
      for (int p = first; p < last; p++) {
        float* const to = part.sums ? part.sums + row * stride + p * kBlock : own;
        const Matrix result = out.rows(row, height).cols((part.first_panel + p) * kBlock, cols(p));
        if (part.is_last) ask_for(result);
        const Rows a_rows = a.from(row, part.step, part.steps);
        if (in_place) {
          const bf16* b = static_cast<const bf16*>(op.b.data) + k * op.b.stride + (part.first_panel + p) * kBlock;
          avx512_block(a_rows, PlainPairs{b, op.b.stride, inner, cols(p)}, height, to, stride, part.step > 0);
        } else {
          blocks.multiply(a_rows, pairs + (p - first) * panel_floats, height, cols(p), to, stride, part.step > 0);
        }
        if (part.is_last) store_block(result, to, stride, static_cast<float>(op.alpha), op.addend_of(result));
      }
    }
  });
}

}  // namespace

void multiply_bf16(const Matmul<float>& op, Bf16Instructions with) {
  const int threads = static_cast<int>(std::clamp<int64_t>((op.scratch.size - Matmul<float>::kShared) / kOwn, 1, cpu_threads()));
  const int inner = op.inner(), all_steps = divide_up(inner, kBlock), panels = divide_up(op.cols(), kBlock);
  const bool once = inner <= kOnce;
  const int whole = op.a.transposed ? 0 : inner / kBlock, packed_steps = all_steps - whole;
  float *const sums = line(op.scratch.data + threads * kOwn), *const shared = sums + (once ? 0 : kSums);
  const int64_t room = 2 * (op.scratch.data + op.scratch.size - shared), packed_stride = int64_t{packed_steps} * kBlock;

  // Blocks of rows for which A fits, if it is packed, and of some panels for which the sums fit.
  int64_t most_rows = once ? op.rows() : kMostRows;
  if (packed_steps > 0) most_rows = std::min(most_rows, std::max<int64_t>(16, room / packed_stride / 16 * 16));
  TLL_CHECK(packed_steps == 0 || room >= most_rows * packed_stride, "{} floats of scratch", op.scratch.size);
  for (int r0 = 0; r0 < op.rows(); r0 += static_cast<int>(most_rows)) {
    const int rows = static_cast<int>(std::min<int64_t>(most_rows, op.rows() - r0));
    const RowsOfA a{op.a.rows(r0, rows), whole, reinterpret_cast<bf16*>(shared), packed_stride};
    if (packed_steps > 0)
      parallel_for(divide_up(rows, 16), 32 * kBlock * packed_steps, [&](int64_t sixteen) {
        const int row = static_cast<int>(sixteen) * 16;
        for (int s = 0; s < packed_steps; s++) {
          const int k = (whole + s) * kBlock;
          pack_rows(a.packed + row * packed_stride + s * kBlock, packed_stride, a.a, row, k, std::min(kBlock, inner - k));
        }
      });
    const Matrix out = op.out.rows(r0, rows);
    if (once) {
      multiply_part(op, with, threads, a, out, {0, all_steps, 0, panels, nullptr, true});
      continue;
    }
    // As many panels for each thread, where that is possible.
    const int most_panels = static_cast<int>(kSums / kBlock / rows), parts = divide_up(panels, most_panels),
              equal = divide_up(divide_up(panels, parts), threads) * threads, at_once = std::min(equal, most_panels);
    for (int first = 0; first < panels; first += at_once) {
      const int count = std::min(at_once, panels - first);
      for (int step = 0; step < all_steps; step += kLongInner / kBlock) {
        const int steps = std::min(kLongInner / kBlock, all_steps - step);
        multiply_part(op, with, threads, a, out, {step, steps, first, count, sums, step + steps == all_steps});
      }
    }
  }
}

}  // namespace tll
