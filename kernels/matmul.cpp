// On a CPU: oneDNN's bf16 product where the processor has one; else the packed float product of sgemm.h, which takes no memory of
// its own. A few rows (generation) are dot products, bound by reading the weights.
#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "kernels/matmul_bf16.h"
#include "kernels/sgemm.h"

namespace tll {
namespace {

constexpr int kFewRows = 8;

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

  TLL_CHECK(op.scratch && op.scratch_size >= Matmul<float>::scratch_floats(1), "{} floats of scratch", op.scratch_size);
  if (op.out_dtype == DType::f32 || op.inner <= kInnerOnce) return packed_product(op);

  // A long sum that is rounded at the end: some rows at a time, first in float.
  Matmul<float> part = op;
  part.out = op.scratch + op.scratch_size - Matmul<float>::kSums;
  part.out_dtype = DType::f32, part.out_stride = op.cols, part.accumulate = false, part.scratch_size -= Matmul<float>::kSums;
  const int64_t most_rows = Matmul<float>::kSums / op.cols;
  TLL_CHECK(most_rows > 0, "{} columns", op.cols);
  for (int64_t r0 = 0; r0 < op.rows; r0 += most_rows) {
    part.rows = static_cast<int>(std::min(most_rows, op.rows - r0));
    part.a.data = static_cast<const std::byte*>(op.a.data) +
                  r0 * (op.a.transposed ? 1 : op.a.stride) * static_cast<int64_t>(dtype_bytes(op.a.dtype));
    packed_product(part);
    bf16* out = static_cast<bf16*>(op.out) + r0 * op.out_stride;
    const float* sums = static_cast<const float*>(part.out);
#pragma omp parallel for schedule(static)
    for (int r = 0; r < part.rows; r++) {
      for (int c = 0; c < op.cols; c++) {
        bf16& to = out[r * op.out_stride + c];
        const float sum = sums[static_cast<int64_t>(r) * op.cols + c];
        to = round_to_bf16(op.accumulate ? to_acc(to) + sum : sum);
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
  if (accumulate && addend && addend != out) {
    const size_t bytes = dtype_bytes(out_dtype), row = static_cast<size_t>(cols) * bytes;
    for (int64_t r = 0; r < rows; r++) {
      const size_t at = static_cast<size_t>(r * out_stride) * bytes;
      std::memcpy(static_cast<char*>(out) + at, static_cast<const char*>(addend) + at, row);
    }
  }
  if constexpr (is_oracle<Float>) {
    product_plain(*this);
  } else {
    // The types of the operands are run-time values, so float and bf16 training run the same code.
    product(Matmul<float>{out, out_dtype, out_stride, a, b, rows, cols, inner, alpha, accumulate, scratch, scratch_size});
  }
}

TLL_INSTANTIATE(Matmul)

}  // namespace tll
