// RMSNorm (Zhang & Sennrich 2019), as in Llama.
//
// Forward, per row n:   rstd[n]  = (1/C · Σ_c x[n,c]² + eps)^(-1/2)
//                       out[n,c] = w[c] · round(x[n,c] · rstd[n])         rounded to Float before the weight, as in transformers
// Backward:             u[c] = dout[n,c] · w[c]
//                       dx[n,c] += rstd · u[c] - rstd³/C · (Σ_j u[j]·x[n,j]) · x[n,c]
//                       dw[c]   += Σ_n dout[n,c] · x[n,c] · rstd[n]       only if the weight is trained
//
// Saved: rstd (N floats), and x, the residual stream, which the block keeps anyway. Memory-bound: moves 2 (N, C) tensors forward,
// 4 backward. The derivation is in dev/notes/derivations.md.
#pragma once

#include "kernels/device.h"
#include "kernels/row_stride.h"

namespace tll {

template <class Float>
struct RmsnormForward {
  using Scalar = Float;
  static constexpr const char* kName = "rmsnorm_forward";
  Float* out;          // (N, C), rows out_stride apart
  acc_t<Float>* rstd;  // (N)     saved for backward
  const Float* x;      // (N, C)
  const Float* w;      // (C)
  int N, C;
  double eps;
  int64_t out_stride = 0;  // 0: C
  void check() const {
    TLL_CHECK(out && rstd && x && w && N >= 0 && C > 0 && eps >= 0 && row_stride(out_stride, C) >= C,
              "N {} C {} eps {} stride {}", N, C, eps, out_stride);
  }
  Cost cost() const { return {(2.0 * N * C + C) * sizeof(Float) + N * sizeof(acc_t<Float>), 4.0 * N * C}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct RmsnormBackward {
  using Scalar = Float;
  static constexpr const char* kName = "rmsnorm_backward";
  Float* dx;                 // (N, C), rows dx_stride apart  +=  already holds the gradient of the residual connection
  acc_t<Float>* dw;          // (C)     +=  null: the weight is frozen
  const Float* dout;         // (N, C)
  const Float* x;            // (N, C)
  const Float* w;            // (C)
  const acc_t<Float>* rstd;  // (N)
  int N, C;
  int64_t dx_stride = 0;  // 0: C
  void check() const {
    TLL_CHECK(dx && dout && x && w && rstd && N >= 0 && C > 0 && row_stride(dx_stride, C) >= C, "N {} C {} stride {}", N, C,
              dx_stride);
  }
  Cost cost() const { return {(4.0 * N * C + C) * sizeof(Float), 8.0 * N * C}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
