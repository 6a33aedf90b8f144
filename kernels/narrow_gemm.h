// fp32 products with few columns, such as LoRA's: packing the other operand for them would cost as much as the product.
//
//   A row by row (x · Aᵀ, dy · B)   rows of A are read where they lie; B is packed once, and small
//   A transposed (dB += dyᵀ · u)    the transpose is computed, outᵀ = Bᵀ · Aᵀ, for which Aᵀ is packed by copying whole rows of it
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

void narrow_turned(const Matmul<float>& op) {
  Matmul<float> turned = op;
  turned.accumulate = false, turned.addend = nullptr, turned.scratch.size -= Matmul<float>::kSums;
  float* sums = op.scratch.data + turned.scratch.size;
  turned.out = matrix(sums, op.cols(), op.rows());
  turned.a = op.b.t(), turned.b = op.a.t();
  packed_gemm(turned, [&](float* to, int col, int cols, int first, int inner) {
    pack_any<kPanelColumns>(to, op.a, col, cols, first, inner, 1.0f);
  });
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

// Does nothing and returns false if the product is none of these.
bool narrow_matmul(const Matmul<float>& op) {
  if (op.cols() > kNarrow || op.rows() < 2 * kNarrow) return false;
  if (op.a.transposed) {
    if (static_cast<int64_t>(op.rows()) * op.cols() > Matmul<float>::kSums) return false;
    narrow_turned(op);
    return true;
  }
  const int64_t width = round_up(op.cols(), kVector);
  if (op.a.dtype != DType::f32 || op.out.dtype != DType::f32 || width * op.inner() > Matmul<float>::kShared) return false;
  narrow_rows(op, width);
  return true;
}

}  // namespace
}  // namespace tll
