// GEMM: out (rows, cols) = alpha · A (rows, inner) · B (inner, cols)  [+ addend, or + out].
//
// An operand may be stored transposed and may have any of the training types, so one op serves every linear layer. The weight W
// is stored (out, in), as Hugging Face stores it:
//
//   forward          y  (N, out)  = x  (N, in)  · Wᵀ          b = W.t()
//   input gradient   dx (N, in)   = dy (N, out) · W
//   weight gradient  dW (out, in) += dyᵀ · x                  a = dy.t(), out in float
//   LoRA             the same three with A (r, in) and B (out, r)
//
// Bound by arithmetic, unless rows or inner is small.
#pragma once

#include "kernels/device.h"
#include "kernels/matrix.h"

namespace tll {

struct Scratch {
  float* data = nullptr;
  int64_t size = 0;  // floats
};

// Acc: the type of the accumulators. float takes operands of fp32, bf16 and fp16 and writes the same, on a CPU fp32 and bf16;
// double and complex, the oracle types, take and write their own type.
template <class Acc>
struct Matmul {
  using Scalar = Acc;
  static constexpr const char* kName = "matmul";
  Matrix out;  // not transposed
  ConstMatrix a, b;
  double alpha = 1;
  bool accumulate = false;  // += instead of =
  Scratch scratch = {};     // scratch_floats(threads); on CUDA kCudaScratch, or fewer
  // What accumulate adds, such as the residual of a block: of out's shape, stride and type. It may not overlap out in part.
  // null: out itself.
  const void* addend = nullptr;
  const char* role = kName;  // which of a step's products it is, for the profile

  // What is added to a part of out, which lies as the part does; null: nothing.
  const void* addend_of(const Matrix& part) const {
    if (!accumulate || !addend) return accumulate ? part.data : nullptr;
    return static_cast<const std::byte*>(addend) + (static_cast<std::byte*>(part.data) - static_cast<std::byte*>(out.data));
  }

  TLL_HOST_DEVICE int rows() const { return out.row_count; }
  TLL_HOST_DEVICE int cols() const { return out.col_count; }
  TLL_HOST_DEVICE int inner() const { return a.col_count; }

  // On a CPU: the packed block of A, which all threads share, a part of B for each thread, and float sums of a bf16 result. The
  // sizes do not depend on those of the operands: larger matrices are cut into blocks that fit.
  static constexpr int64_t kShared = 1 << 19, kOwn = 1 << 16, kSums = 1 << 18;
  // On CUDA: the partial sums of split-K, and the workspace of cuBLASLt: 32 MiB, what its manual recommends for the largest GPUs,
  // and what aligning it to 256 bytes may cost.
  static constexpr int64_t kCudaScratch = (32 << 20) / sizeof(float) + 64;
  static int64_t scratch_floats(int threads) { return is_oracle<Acc> ? 0 : kShared + kSums + kOwn * threads; }
  void check() const {
    TLL_CHECK(out.data && a.data && b.data && rows() >= 0 && cols() >= 0 && inner() >= 0 && !out.transposed &&
                  a.row_count == rows() && b.row_count == inner() && b.col_count == cols() && out.stride >= cols() &&
                  a.stride >= a.stored_cols() && b.stride >= b.stored_cols(),
              "rows {} cols {} inner {}, a ({}, {}) b ({}, {}), strides {} {} {}", rows(), cols(), inner(), a.row_count,
              a.col_count, b.row_count, b.col_count, out.stride, a.stride, b.stride);
    for (DType t : {out.dtype, a.dtype, b.dtype})
      TLL_CHECK(is_oracle<Acc> ? t == dtype_of<Acc> : t == DType::f32 || t == DType::bf16 || t == DType::f16, "matmul of {}",
                dtype_name(t));
  }
  Cost cost() const {
    const double m = rows(), n = cols(), k = inner();
    return {m * k * dtype_bytes(a.dtype) + k * n * dtype_bytes(b.dtype) + (accumulate ? 2 : 1) * m * n * dtype_bytes(out.dtype),
            2.0 * m * n * k};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

bool cpu_has_bf16_matmul();  // this processor multiplies bf16 (kernels/matmul_bf16.h)

}  // namespace tll
