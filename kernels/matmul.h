// Matrix products: out (rows, cols) = alpha · A (rows, inner) · B (inner, cols)  [+ addend, or + out].
//
// All matrices are row-major; an operand may be stored transposed, and may have any of the training types, so that one op
// serves every linear layer with weight W stored (out, in), as Hugging Face stores it:
//
//   forward          y  (N, out)  = x  (N, in)  · Wᵀ          B = W transposed
//   input gradient   dx (N, in)   = dy (N, out) · W
//   weight gradient  dW (out, in) += dyᵀ · x                  A = dy transposed, out in float
//   LoRA             the same three with A (r, in) and B (out, r)
//
// Products are accumulated in float (double, complex for the oracle types). Bound by arithmetic, unless rows or inner is small.
#pragma once

#include "kernels/device.h"

namespace tll {

struct Matrix {
  const void* data;
  DType dtype;
  int64_t stride;           // elements from one stored row to the next
  bool transposed = false;  // stored as (inner, rows) for A, as (cols, inner) for B
};

template <class Float>
struct Matmul {
  using Scalar = Float;
  static constexpr const char* kName = "matmul";
  void* out;  // (rows, cols) of out_dtype
  DType out_dtype;
  int64_t out_stride;
  Matrix a, b;
  int rows, cols, inner;
  double alpha = 1;
  bool accumulate = false;   // += instead of =
  float* scratch = nullptr;  // (scratch_floats(threads)), unless Float is an oracle type
  int64_t scratch_size = 0;
  // (rows, cols) of out_dtype, out_stride apart: what accumulate adds, the residual of a block; null: out itself. It may not
  // overlap out in part.
  const void* addend = nullptr;

  // Packed blocks of B (shared) and of A (one a thread), and sums that are rounded once at the end. Does not depend on the sizes:
  // larger matrices are cut into blocks that fit.
  static constexpr int64_t kPackedB = 1 << 19, kPackedA = 1 << 16, kSums = 1 << 18;
  // On CUDA: parts of sums that are cut, and the workspace of cuBLASLt: 32 MiB, what its manual recommends for the largest GPUs,
  // and what aligning it to 256 bytes may cost.
  static constexpr int64_t kCudaScratch = (32 << 20) / sizeof(float) + 64;
  static int64_t scratch_floats(int threads) { return is_oracle<Float> ? 0 : kPackedB + kSums + kPackedA * threads; }
  void check() const {
    TLL_CHECK(out && a.data && b.data && rows >= 0 && cols >= 0 && inner >= 0 && out_stride >= cols &&
                  a.stride >= (a.transposed ? rows : inner) && b.stride >= (b.transposed ? inner : cols),
              "rows {} cols {} inner {} strides {} {} {}", rows, cols, inner, out_stride, a.stride, b.stride);
  }
  Cost cost() const {
    const double m = rows, n = cols, k = inner;
    return {m * k * dtype_bytes(a.dtype) + k * n * dtype_bytes(b.dtype) + (accumulate ? 2 : 1) * m * n * dtype_bytes(out_dtype),
            2.0 * m * n * k};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

bool cpu_has_bf16_matmul();  // oneDNN has a bf16 product for this processor

}  // namespace tll
