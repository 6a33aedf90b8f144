// fp32 products with few columns or rows, such as LoRA's: packing the other operand for them would cost as much as the product.
//
//   few columns (x · Aᵀ, dy · B)    rows of A are read where they lie; B is packed once, and small
//   few rows (dA += zᵀ · x)         rows of B are read where they lie, and A too
//   few columns, A transposed       the transpose is computed, outᵀ = Bᵀ · Aᵀ, which has few rows
//     (dB += dyᵀ · u)
#pragma once

#include "kernels/sgemm.h"
#include "kernels/tile_gemm.h"

namespace tll {
namespace {

constexpr int kNarrow = 64;
static_assert(kLanes == kVector);

// rows x (kVectors · kVector) of out = or += rows of A · a panel of B, of which `cols` columns are wanted.
template <int kVectors>
void narrow_panel(const float* a, int64_t a_stride, const float* b, float* out, int64_t stride, int rows, int cols, int inner,
                  bool accumulate) {
  constexpr int kWidth = kVectors * kVector;
  alignas(64) float tile[kTileRows * kWidth];
  for (int r = 0; r < rows; r += kTileRows) {
    const int height = std::min(kTileRows, rows - r);
    const bool whole = height == kTileRows && cols == kWidth;
    float* to = whole ? out + r * stride : tile;
    const float* from = a + r * a_stride;
    if (height == kTileRows)
      tile_block<kTileRows, kVectors>(inner, from, a_stride, 1, b, kWidth, to, whole ? stride : kWidth, whole && accumulate);
    else
      for (int i = 0; i < height; i++)
        tile_block<1, kVectors>(inner, from + i * a_stride, a_stride, 1, b, kWidth, tile + i * kWidth, kWidth, false);
    for (int i = 0; !whole && i < height; i++)
      for (int c = 0; c < cols; c++) {
        float& y = out[(r + i) * stride + c];
        y = tile[i * kWidth + c] + (accumulate ? y : 0.0f);
      }
  }
}

void narrow_rows(const Matmul<float>& op, int64_t width) {
  constexpr int kRows = 4 * kTileRows;
  const float* a = static_cast<const float*>(op.a.data);
  float *out = static_cast<float*>(op.out.data), *b = op.scratch.data;
  const int inner = op.inner(), panels = static_cast<int>(width / kVector);
  // Panels of one vector, each (inner, kVector); two of them side by side are one of two vectors.
  const auto is_paired = [&](int p) { return p + 1 < panels; };
  const ConstMatrix bt = op.b.t();
  for (int p = 0; p < panels; p += is_paired(p) ? 2 : 1) {
    const int cols = std::min(is_paired(p) ? kPanelColumns : kVector, op.cols() - p * kVector);
    float* panel = b + static_cast<int64_t>(p) * kVector * inner;
    parallel_ranges((inner + kInner - 1) / kInner, 2 * kPanelColumns * kInner, [&](int64_t begin, int64_t end) {
      const int first = static_cast<int>(begin) * kInner, length = std::min(inner, static_cast<int>(end) * kInner) - first;
      if (is_paired(p))
        pack_any<kPanelColumns>(panel + static_cast<int64_t>(first) * kPanelColumns, bt, p * kVector, cols, first, length,
                                static_cast<float>(op.alpha));
      else
        pack_any<kVector>(panel + static_cast<int64_t>(first) * kVector, bt, p * kVector, cols, first, length,
                          static_cast<float>(op.alpha));
    });
  }
  parallel_pieces((op.rows() + kRows - 1) / kRows, cpu_threads(), [&](int64_t piece, int) {
    const int row = static_cast<int>(piece) * kRows, rows = std::min(kRows, op.rows() - row);
    for (int k = 0; k < inner; k += kInner) {
      const int length = std::min(kInner, inner - k);
      for (int p = 0; p < panels; p += is_paired(p) ? 2 : 1) {
        const int step = is_paired(p) ? kPanelColumns : kVector, cols = std::min(step, op.cols() - p * kVector);
        const float* panel = b + static_cast<int64_t>(p) * kVector * inner + static_cast<int64_t>(k) * step;
        const float* from = a + row * op.a.stride + k;
        float* to = out + row * op.out.stride + p * kVector;
        const bool accumulate = op.accumulate || k > 0;
        if (is_paired(p))
          narrow_panel<2>(from, op.a.stride, panel, to, op.out.stride, rows, cols, length, accumulate);
        else
          narrow_panel<1>(from, op.a.stride, panel, to, op.out.stride, rows, cols, length, accumulate);
      }
    }
  });
}

// Part of a result with few rows: the sums of all its rows in a panel of columns. b: (inner, kPanelColumns), b_row apart.
void few_rows_panel(const Matmul<float>& op, int k, int inner, const float* b, int64_t b_row, float* sums, bool accumulate) {
  const float* a = static_cast<const float*>(op.a.data) + k * op.a.col_step();
  const int64_t row_step = op.a.row_step();
  equal_parts<kTileRows>(op.rows(), [&]<int kRows>(int row, std::integral_constant<int, kRows>) {
    tile_block<kRows, 2>(inner, a + row * row_step, row_step, op.a.col_step(), b, b_row, sums + row * kPanelColumns,
                         kPanelColumns, accumulate);
  });
}

// Few rows, of fp32 matrices, B as stored. What the last columns lack to a panel is packed.
void few_rows(const Matmul<float>& op) {
  constexpr int kAtOnce = 64;  // rows of B, the next of which are asked for meanwhile
  const float* b = static_cast<const float*>(op.b.data);
  const int panels = (op.cols() + kPanelColumns - 1) / kPanelColumns;
  parallel_for(panels, 2 * op.rows() * op.inner(), [&](int64_t panel) {
    alignas(64) float sums[kNarrow * kPanelColumns], rest[kAtOnce * kPanelColumns];
    const int col = static_cast<int>(panel) * kPanelColumns, cols = std::min(kPanelColumns, op.cols() - col);
    for (int k = 0; k < op.inner(); k += kAtOnce) {
      const int inner = std::min(kAtOnce, op.inner() - k);
      const float* rows = b + k * op.b.stride + col;
      for (int r = kAtOnce; r < std::min(2 * kAtOnce, op.inner() - k); r++)
        for (int c = 0; c < cols; c += 64 / static_cast<int>(sizeof(float))) __builtin_prefetch(rows + r * op.b.stride + c);
      const bool whole = cols == kPanelColumns;
      if (!whole) pack_any<kPanelColumns>(rest, op.b.t(), col, cols, k, inner, 1.0f);
      few_rows_panel(op, k, inner, whole ? rows : rest, whole ? op.b.stride : kPanelColumns, sums, k > 0);
    }
    for (int r = 0; r < op.rows(); r++) {
      float* out = static_cast<float*>(op.out.data) + r * op.out.stride + col;
      for (int c = 0; c < cols; c++)
        out[c] = static_cast<float>(op.alpha) * sums[r * kPanelColumns + c] + (op.accumulate ? out[c] : 0.0f);
    }
  });
}
bool has_few_rows(const Matmul<float>& op) {
  return op.rows() <= kNarrow && op.cols() >= 2 * kNarrow && !op.b.transposed && op.a.dtype == DType::f32 &&
         op.b.dtype == DType::f32 && op.out.dtype == DType::f32;
}

// out = or += outᵀ transposed, where multiply() computes outᵀ = Bᵀ · Aᵀ as a product of its own, with fp32 results.
template <class Multiply>
void narrow_turned(const Matmul<float>& op, const Multiply& multiply) {
  copy_addend(op);
  Matmul<float> turned = op;
  turned.accumulate = false, turned.addend = nullptr, turned.scratch.size -= Matmul<float>::kSums;
  float* sums = op.scratch.data + turned.scratch.size;
  turned.out = matrix(sums, op.cols(), op.rows());
  turned.a = op.b.t(), turned.b = op.a.t();
  multiply(turned);
  parallel_for(op.rows(), 4 * op.cols(), [&](int64_t r) {
    for (int c = 0; c < op.cols(); c++) {
      const float sum = sums[static_cast<int64_t>(c) * op.rows() + r];
      if (op.out.dtype == DType::f32) {
        float& y = static_cast<float*>(op.out.data)[r * op.out.stride + c];
        y = op.accumulate ? y + sum : sum;
      } else {
        bf16& y = static_cast<bf16*>(op.out.data)[r * op.out.stride + c];
        y = round_to_bf16(op.accumulate ? to_acc(y) + sum : sum);
      }
    }
  });
}
// Whether that is worth it, and fits.
bool can_be_turned(const Matmul<float>& op) {
  return op.a.transposed && op.cols() <= kNarrow && op.rows() >= 2 * kNarrow &&
         static_cast<int64_t>(op.rows()) * op.cols() <= Matmul<float>::kSums;
}

// Does nothing and returns false if the product is none of these.
bool narrow_matmul(const Matmul<float>& op) {
  if (can_be_turned(op)) {
    narrow_turned(op, [](const Matmul<float>& turned) {
      if (has_few_rows(turned)) return few_rows(turned);
      packed_gemm(turned, [&](float* to, int col, int cols, int first, int inner) {
        pack_any<kPanelColumns>(to, turned.b.t(), col, cols, first, inner, 1.0f);
      });
    });
    return true;
  }
  if (has_few_rows(op)) {
    copy_addend(op);
    few_rows(op);
    return true;
  }
  if (op.a.transposed || op.cols() > kNarrow || op.rows() < 2 * kNarrow) return false;
  const int64_t width = round_up(op.cols(), kVector);
  if (op.a.dtype != DType::f32 || op.out.dtype != DType::f32 || width * op.inner() > Matmul<float>::kShared) return false;
  copy_addend(op);
  narrow_rows(op, width);
  return true;
}

}  // namespace
}  // namespace tll
