// Rows of A are read where they lie. What is left of them behind the last 32 elements, and an A that is stored transposed, is
// packed. A piece is some panels of B times some rows: its thread packs the panels and walks over blocks of 32 rows.
#include "kernels/matmul_bf16.h"

#include "kernels/bf16_block.h"
#include "src/base/parallel.h"

namespace tll {
namespace {

constexpr int kLongInner = 1024, kOnce = 2048;  // longer than kOnce: kLongInner of inner at a time, with sums in memory
constexpr int kMostPanels = 4;
constexpr int64_t kOwn = Matmul<float>::kOwn;
constexpr int kMostRows = 1024;  // of a piece
static_assert(kOnce * kBlock / 2 + kBlockSums <= kOwn);
static_assert(kLongInner * kBlock / 2 + kMostRows * kBlock <= kOwn);

// out = or += alpha · sums
template <bool kFloat, bool kAdd>
void store_block_as(const Matrix& out, const float* sums, float alpha) {
  const __m512 scale = _mm512_set1_ps(alpha);
  for (int first = 0; first < out.col_count; first += 16) {
    const int left = out.col_count - first;
    for (int r = 0; r < out.row_count; r++) {
      const int64_t at = r * out.stride + first;
      const __m512 sum = _mm512_loadu_ps(sums + r * kBlock + first);
      if constexpr (kFloat) {
        float* to = static_cast<float*>(out.data) + at;
        const __m512 y =
            kAdd ? _mm512_fmadd_ps(sum, scale, _mm512_maskz_loadu_ps(first_16(left), to)) : _mm512_mul_ps(sum, scale);
        _mm512_mask_storeu_ps(to, first_16(left), y);
      } else {
        bf16* to = static_cast<bf16*>(out.data) + at;
        store_bf16(to, left, kAdd ? _mm512_fmadd_ps(sum, scale, load_bf16(to, left)) : _mm512_mul_ps(sum, scale));
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
      Bf16Blocks blocks(with);
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
            blocks.multiply(a, b, height, op.cols() - p * kBlock, to, kBlock, step > 0);
            if (step + steps == all_steps)
              store_block(op.out.rows(r0 + row, height).cols(p * kBlock, std::min(kBlock, op.cols() - p * kBlock)), to,
                          static_cast<float>(op.alpha), op.accumulate);
          }
        }
      }
    });
  }
}

}  // namespace tll
