// On a CPU: oneDNN's bf16 matmul where the processor has one; else the packed fp32 GEMM of sgemm.h. A few rows (generation) are
// dot products, bound by reading the weights.
#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "kernels/matmul_bf16.h"
#include "kernels/sgemm.h"

namespace tll {
namespace {

constexpr int kFewRows = 8;

// A few rows: each weight is read once.
template <class A, class B, class Out>
void dot_rows(const Matmul<float>& op) {
  const A* a = static_cast<const A*>(op.a.data);
  const B* b = static_cast<const B*>(op.b.data);
  Out* out = static_cast<Out*>(op.out.data);
#pragma omp parallel for schedule(static)
  for (int n = 0; n < op.cols(); n++) {
    const B* w = b + n * op.b.stride;
    for (int m = 0; m < op.rows(); m++) {
      const A* x = a + m * op.a.stride;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int k = 0; k < op.inner(); k++) sum += to_acc(x[k]) * to_acc(w[k]);
      Out& y = out[m * op.out.stride + n];
      y = from_acc<Out>(static_cast<float>(op.alpha) * sum + (op.accumulate ? to_acc(y) : 0.0f));
    }
  }
}
void dot_rows_any(const Matmul<float>& op) {
  with_storage_type(op.b.dtype, [&](auto b) {
    using B = decltype(b);
    const bool a_float = op.a.dtype == DType::f32, out_float = op.out.dtype == DType::f32;
    if (a_float) return out_float ? dot_rows<float, B, float>(op) : dot_rows<float, B, bf16>(op);
    out_float ? dot_rows<bf16, B, float>(op) : dot_rows<bf16, B, bf16>(op);
  });
}

// bf16 results of a long sum, which must be rounded once: some rows at a time, first in float.
void packed_gemm_by_rows(const Matmul<float>& op) {
  Matmul<float> part = op;
  part.accumulate = false, part.scratch.size -= Matmul<float>::kSums;
  float* sums = op.scratch.data + part.scratch.size;
  const int64_t most_rows = Matmul<float>::kSums / op.cols();
  TLL_CHECK(most_rows > 0, "{} columns", op.cols());
  for (int64_t r0 = 0; r0 < op.rows(); r0 += most_rows) {
    const int rows = static_cast<int>(std::min(most_rows, op.rows() - r0));
    part.out = matrix(sums, rows, op.cols());
    part.a = op.a.rows(static_cast<int>(r0), rows);
    packed_gemm(part);
    bf16* out = static_cast<bf16*>(op.out.data) + r0 * op.out.stride;
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
      for (int c = 0; c < op.cols(); c++) {
        bf16& to = out[r * op.out.stride + c];
        const float sum = sums[static_cast<int64_t>(r) * op.cols() + c];
        to = round_to_bf16(op.accumulate ? to_acc(to) + sum : sum);
      }
    }
  }
}

// to = from, row by row; from null: zeros.
void set_rows(const Matrix& to, const void* from) {
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(to.dtype));
  for (int64_t r = 0; r < to.row_count; r++) {
    const int64_t at = r * to.stride * bytes;
    void* row = static_cast<std::byte*>(to.data) + at;
    const size_t size = static_cast<size_t>(to.col_count * bytes);
    from ? std::memcpy(row, static_cast<const std::byte*>(from) + at, size) : std::memset(row, 0, size);
  }
}

void matmul_float(const Matmul<float>& op) {
  TLL_CHECK(op.out.dtype != DType::f16, "matmul to {} runs on CUDA only", dtype_name(op.out.dtype));
  if (op.rows() == 0 || op.cols() == 0) return;
  if (op.inner() == 0) {  // an empty sum; oneDNN refuses it
    if (!op.accumulate) set_rows(op.out, nullptr);
    return;
  }
  if (op.rows() <= kFewRows && !op.a.transposed && op.b.transposed && op.a.dtype != DType::f16) return dot_rows_any(op);
  if (matmul_bf16(op)) return;
  TLL_CHECK(op.scratch.data && op.scratch.size >= Matmul<float>::scratch_floats(1), "{} floats of scratch", op.scratch.size);
  if (op.out.dtype == DType::f32 || op.inner() <= kInnerOnce) return packed_gemm(op);
  packed_gemm_by_rows(op);
}

template <class Acc>
void matmul_plain(const Matmul<Acc>& op) {
  const Acc *a = static_cast<const Acc*>(op.a.data), *b = static_cast<const Acc*>(op.b.data);
  Acc* out = static_cast<Acc*>(op.out.data);
  for (int64_t i = 0; i < op.rows(); i++) {
    for (int64_t j = 0; j < op.cols(); j++) {
      Acc sum{};
      for (int64_t k = 0; k < op.inner(); k++)
        sum += a[i * op.a.row_step() + k * op.a.col_step()] * b[k * op.b.row_step() + j * op.b.col_step()];
      Acc& y = out[i * op.out.stride + j];
      y = Acc(op.alpha) * sum + (op.accumulate ? y : Acc(0));
    }
  }
}

}  // namespace

template <class Acc>
template <Isa>
void Matmul<Acc>::cpu() const {
  if (accumulate && addend && addend != out.data) set_rows(out, addend);
  if constexpr (is_oracle<Acc>)
    matmul_plain(*this);
  else
    matmul_float(*this);
}

template void Matmul<float>::cpu<kIsa>() const;
#ifdef TLL_ORACLE
TLL_INSTANTIATE_ORACLE(Matmul)
#endif

}  // namespace tll
