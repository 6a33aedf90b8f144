// RMSNorm over each head of q and k, between their projections and RoPE, as in Qwen3 (transformers 5.24,
// models/qwen3/modeling_qwen3.py). The heads of q share one weight, those of k another. v is not normalised.
//
// Per row n and head h of H + G, with w of q or of k, d = 0 … D-1, as kernels/rmsnorm.h has it for whole rows:
// Forward:   rstd[n,h]  = (1/D · Σ_d x[n,h,d]² + eps)^(-1/2)
//            out[n,h,d] = w[d] · round(x[n,h,d] · rstd[n,h])
// Backward:  u[d]       = dout[n,h,d] · w[d]
//            dx[n,h,d]  = rstd · u[d] - rstd³/D · (Σ_j u[j]·x[n,h,j]) · x[n,h,d]        in place of dout
//            dw[d]     += Σ_n Σ_h dout[n,h,d] · x[n,h,d] · rstd[n,h]                    only if the weights are trained
//
// Saved: rstd, and x. Memory-bound: moves 2 (N, (H+G)·D) tensors forward, 3 backward. The derivation is in
// dev/notes/derivations.md.
#pragma once

#include "kernels/device.h"

namespace tll {

template <class Float>
struct QkNormForward {
  using Scalar = Float;
  static constexpr const char* kName = "qk_norm_forward";
  Float* out;              // (N, out_stride)  head h of row n at h·D: q's H heads, then k's G heads; x itself: in place
  acc_t<Float>* rstd;      // (N, H+G)         null: no backward pass needs it
  const Float* x;          // (N, x_stride)
  const Float *w_q, *w_k;  // (D)
  int N, H, G, D, out_stride, x_stride;
  double eps;
  void check() const {
    TLL_CHECK(out && x && w_q && w_k && N >= 0 && H > 0 && G > 0 && D > 0 && out_stride >= (H + G) * D && eps >= 0 &&
                  x_stride >= (H + G) * D && (out != x || out_stride == x_stride),
              "N {} H {} G {} D {} strides {} {} eps {}", N, H, G, D, out_stride, x_stride, eps);
  }
  Cost cost() const {
    const double heads = 1.0 * N * (H + G);
    return {(2 * heads + 2) * D * sizeof(Float) + (rstd ? heads * sizeof(acc_t<Float>) : 0), 4 * heads * D};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct QkNormBackward {
  using Scalar = Float;
  static constexpr const char* kName = "qk_norm_backward";
  Float* d;                  // (N, stride)    in: dout, out: dx
  acc_t<Float>*dw_q, *dw_k;  // (D)        +=  null, both: the weights are frozen
  const Float* x;            // (N, x_stride)
  const Float *w_q, *w_k;    // (D)
  const acc_t<Float>* rstd;  // (N, H+G)
  float* scratch;            // (cuda_scratch(D))  on CUDA, if the weights are trained
  int N, H, G, D, stride, x_stride;
  // The sums of dw over parts of the rows, one after the other for q and k.
  static constexpr int kMostParts = 128;
  static constexpr int64_t cuda_scratch(int D) { return int64_t{2} * kMostParts * D; }
  void check() const {
    TLL_CHECK(d && x && w_q && w_k && rstd && N >= 0 && H > 0 && G > 0 && D > 0 && stride >= (H + G) * D &&
                  x_stride >= (H + G) * D && !dw_q == !dw_k,
              "N {} H {} G {} D {} strides {} {}", N, H, G, D, stride, x_stride);
  }
  Cost cost() const {
    const double heads = 1.0 * N * (H + G);
    return {(3 * heads + 2) * D * sizeof(Float) + heads * sizeof(acc_t<Float>), 8 * heads * D};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
