// On a CPU: the bf16 matmul where the processor multiplies bf16; else the packed fp32 GEMM of sgemm.h, or that of narrow_gemm.h.
// A few rows (generation) are dot products, bound by reading the weights.
#include "kernels/matmul.h"

#include "kernels/matmul_bf16.h"
#include "kernels/narrow_gemm.h"

namespace tll {
namespace {

void dot_rows_any(const Matmul<float>& op) {
  copy_addend(op);
  with_storage_type(op.b.dtype, [&](auto b) {
    using B = decltype(b);
    const auto row = [&](int n, int) { return static_cast<const B*>(op.b.data) + n * op.b.stride; };
    const bool a_float = op.a.dtype == DType::f32, out_float = op.out.dtype == DType::f32;
    const int threads = cpu_threads();
    constexpr int kAtOnce = kVector == 16 ? 4 : 2;  // for whose sums there are registers
    if (a_float)
      return out_float ? dot_rows<kAtOnce, float, B, float>(op, threads, row)
                       : dot_rows<kAtOnce, float, B, bf16>(op, threads, row);
    out_float ? dot_rows<kAtOnce, bf16, B, float>(op, threads, row) : dot_rows<kAtOnce, bf16, B, bf16>(op, threads, row);
  });
}

// Where AVX-512 multiplies bf16, a narrow product with Aᵀ is turned: the rows of A are then read where they lie.
bool any_bf16(const Matmul<float>& op) {
  const bool both = op.a.dtype == DType::bf16 && op.b.dtype == DType::bf16;
  if (!both || bf16_instructions() != Bf16Instructions::avx512 || !can_be_turned(op)) return matmul_bf16(op);
  narrow_turned(op, [](const Matmul<float>& turned) {
    const bool done = matmul_bf16(turned);
    TLL_CHECK(done, "{} floats of scratch", turned.scratch.size);
  });
  return true;
}

void matmul_float(const Matmul<float>& op) {
  if (is_empty(op)) return;
  if (op.rows() <= few_rows_of(op.a.dtype) && !op.a.transposed && op.b.transposed && op.a.dtype != DType::f16)
    return dot_rows_any(op);
  if ((kIsa == kIsaWithBf16 && any_bf16(op)) || narrow_matmul(op)) return;
  packed_matmul(op, [&](float* to, int col, int cols, int first, int inner) {
    pack_any<kPanelColumns>(to, op.b.t(), col, cols, first, inner, 1.0f);
  });
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
  if constexpr (is_oracle<Acc>) {
    copy_addend(*this);
    matmul_plain(*this);
  } else {
    matmul_float(*this);
  }
}

template void Matmul<float>::cpu<kIsa>() const;
#ifdef TLL_ORACLE
TLL_INSTANTIATE_ORACLE(Matmul)
#endif

}  // namespace tll
