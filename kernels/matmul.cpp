// On a CPU: oneDNN's product in float; its bf16 product where the processor has one; else bf16 and fp16 operands are widened
// block by block and go through the float product. A few rows (generation) are dot products, bound by reading the weights.
#include "kernels/matmul.h"

#include <dnnl.h>

#include <algorithm>
#include <cstring>

#include "kernels/matmul_bf16.h"

namespace tll {
namespace {

constexpr int kFewRows = 8;

template <class In>
void widen_rows(float* out, int64_t out_stride, const In* in, int64_t in_stride, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < width; c++) out[r * out_stride + c] = to_acc(in[r * in_stride + c]);
}

// Stored rows r0 … of a matrix as float: in place if they are so already, else widened into `room`.
struct FloatRows {
  const float* data;
  int64_t stride;
};
FloatRows float_rows(const Matrix& m, int64_t first_row, int64_t first_column, int64_t rows, int64_t width, float* room) {
  const int64_t offset = first_row * m.stride + first_column;
  switch (m.dtype) {
    case DType::f32:
      return {static_cast<const float*>(m.data) + offset, m.stride};
    case DType::bf16:
      widen_rows(room, width, static_cast<const bf16*>(m.data) + offset, m.stride, rows, width);
      break;
    case DType::f16:
      widen_rows(room, width, static_cast<const half*>(m.data) + offset, m.stride, rows, width);
      break;
    default:
      TLL_CHECK(false, "matmul of {}", dtype_name(m.dtype));
  }
  return {room, width};
}

void sgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, FloatRows a, FloatRows b, float beta, float* c,
           int64_t ldc) {
  const dnnl_status_t status =
      dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a.data, a.stride, b.data, b.stride, beta, c, ldc);
  TLL_CHECK(status == dnnl_success, "sgemm {} {} {}: {}", m, n, k, static_cast<int>(status));
}

template <class Out, bool kAccumulate>
void narrow_rows(Out* out, int64_t out_stride, const float* in, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < width; c++) {
      const float sum = kAccumulate ? to_acc(out[r * out_stride + c]) + in[r * width + c] : in[r * width + c];
      out[r * out_stride + c] = from_acc<Out>(sum);
    }
}

// out (rows, cols) for a few rows: each weight is read once.
template <class A, class B, class Out>
void dot_rows(const Matmul<float>& op) {
  const A* a = static_cast<const A*>(op.a.data);
  const B* b = static_cast<const B*>(op.b.data);
  Out* out = static_cast<Out*>(op.out);
#pragma omp parallel for schedule(static)
  for (int n = 0; n < op.cols; n++) {
    const B* w = b + n * op.b.stride;
    for (int m = 0; m < op.rows; m++) {
      const A* x = a + m * op.a.stride;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int k = 0; k < op.inner; k++) sum += to_acc(x[k]) * to_acc(w[k]);
      Out& y = out[m * op.out_stride + n];
      y = from_acc<Out>(static_cast<float>(op.alpha) * sum + (op.accumulate ? to_acc(y) : 0.0f));
    }
  }
}
template <class A, class B>
void dot_rows_any_out(const Matmul<float>& op) {
  if (op.out_dtype == DType::f32) return dot_rows<A, B, float>(op);
  return dot_rows<A, B, bf16>(op);
}
template <class A>
void dot_rows_any_weight(const Matmul<float>& op) {
  switch (op.b.dtype) {
    case DType::f32:
      return dot_rows_any_out<A, float>(op);
    case DType::bf16:
      return dot_rows_any_out<A, bf16>(op);
    default:
      return dot_rows_any_out<A, half>(op);
  }
}

void product(const Matmul<float>& op) {
  if (op.rows == 0 || op.cols == 0) return;
  if (op.inner == 0) {  // an empty sum; oneDNN refuses it
    const size_t row = static_cast<size_t>(op.cols) * dtype_bytes(op.out_dtype);
    for (int64_t r = 0; r < op.rows && !op.accumulate; r++)
      std::memset(static_cast<char*>(op.out) + static_cast<size_t>(r * op.out_stride) * dtype_bytes(op.out_dtype), 0, row);
    return;
  }
  if (op.rows <= kFewRows && !op.a.transposed && op.b.transposed && (op.a.dtype == DType::f32 || op.a.dtype == DType::bf16)) {
    if (op.a.dtype == DType::f32) return dot_rows_any_weight<float>(op);
    return dot_rows_any_weight<bf16>(op);
  }
  if (matmul_bf16(op)) return;

  const bool narrow = op.out_dtype != DType::f32;
  const bool widen_a = op.a.dtype != DType::f32, widen_b = op.b.dtype != DType::f32;
  const float alpha = static_cast<float>(op.alpha);
  if (!narrow && !widen_a && !widen_b)
    return sgemm(op.a.transposed, op.b.transposed, op.rows, op.cols, op.inner, alpha,
                 {static_cast<const float*>(op.a.data), op.a.stride}, {static_cast<const float*>(op.b.data), op.b.stride},
                 op.accumulate ? 1.0f : 0.0f, static_cast<float*>(op.out), op.out_stride);

  // Blocks such that each widened block fits its region of the scratch.
  const int64_t region = op.scratch_size / 3;
  float *room_a = op.scratch, *room_b = room_a + region, *room_out = room_b + region;
  const auto fitting = [&](int64_t most, int64_t width) {
    return std::clamp<int64_t>(region / std::max<int64_t>(width, 1), 0, most);
  };
  int64_t row_block = op.rows, col_block = op.cols, inner_block = op.inner;
  if (widen_b)
    (op.b.transposed ? col_block : inner_block) =
        fitting(op.b.transposed ? op.cols : op.inner, op.b.transposed ? op.inner : op.cols);
  if (widen_a && op.a.transposed) inner_block = std::min(inner_block, fitting(op.inner, op.rows));
  if (widen_a && !op.a.transposed) row_block = fitting(op.rows, op.inner);
  if (narrow) row_block = std::min(row_block, fitting(op.rows, col_block));
  TLL_CHECK(row_block > 0 && col_block > 0 && inner_block > 0 && op.scratch &&
                (!narrow || col_block == op.cols || inner_block == op.inner),
            "matmul {} x {} x {} needs more scratch than {} floats", op.rows, op.cols, op.inner, op.scratch_size);
  for (int64_t r0 = 0; r0 < op.rows; r0 += row_block) {
    const int64_t rows = std::min(row_block, op.rows - r0);
    for (int64_t k0 = 0; k0 < op.inner; k0 += inner_block) {
      const int64_t inner = std::min(inner_block, op.inner - k0);
      const FloatRows a =
          op.a.transposed ? float_rows(op.a, k0, r0, inner, rows, room_a) : float_rows(op.a, r0, k0, rows, inner, room_a);
      for (int64_t c0 = 0; c0 < op.cols; c0 += col_block) {
        const int64_t cols = std::min(col_block, op.cols - c0);
        const FloatRows b =
            op.b.transposed ? float_rows(op.b, c0, k0, cols, inner, room_b) : float_rows(op.b, k0, c0, inner, cols, room_b);
        const int64_t at = r0 * op.out_stride + c0;
        if (!narrow) {
          const float beta = op.accumulate || k0 > 0 ? 1.0f : 0.0f;
          sgemm(op.a.transposed, op.b.transposed, rows, cols, inner, alpha, a, b, beta, static_cast<float*>(op.out) + at,
                op.out_stride);
          continue;
        }
        // With several inner blocks the columns are not cut, so the sum stays in room_out until the last block.
        sgemm(op.a.transposed, op.b.transposed, rows, cols, inner, alpha, a, b, k0 > 0 ? 1.0f : 0.0f, room_out, cols);
        if (k0 + inner < op.inner) continue;
        bf16* out = static_cast<bf16*>(op.out) + at;
        if (op.accumulate)
          narrow_rows<bf16, true>(out, op.out_stride, room_out, rows, cols);
        else
          narrow_rows<bf16, false>(out, op.out_stride, room_out, rows, cols);
      }
    }
  }
}

template <class Float>
void product_plain(const Matmul<Float>& op) {
  const Float *a = static_cast<const Float*>(op.a.data), *b = static_cast<const Float*>(op.b.data);
  Float* out = static_cast<Float*>(op.out);
  for (int64_t i = 0; i < op.rows; i++) {
    for (int64_t j = 0; j < op.cols; j++) {
      Float sum{};
      for (int64_t k = 0; k < op.inner; k++)
        sum += a[op.a.transposed ? k * op.a.stride + i : i * op.a.stride + k] *
               b[op.b.transposed ? j * op.b.stride + k : k * op.b.stride + j];
      Float& y = out[i * op.out_stride + j];
      y = Float(op.alpha) * sum + (op.accumulate ? y : Float(0));
    }
  }
}

}  // namespace

template <class Float>
template <Isa>
void Matmul<Float>::cpu() const {
  if constexpr (is_oracle<Float>) {
    product_plain(*this);
  } else {
    // The types of the operands are run-time values, so float and bf16 training run the same code.
    product(Matmul<float>{out, out_dtype, out_stride, a, b, rows, cols, inner, alpha, accumulate, scratch, scratch_size});
  }
}

TLL_INSTANTIATE(Matmul)

}  // namespace tll
