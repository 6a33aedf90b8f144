// SwiGLU (Shazeer 2020): act = silu(gate) ⊙ up, silu(z) = z·σ(z), σ(z) = 1/(1+e^-z).
//
// Forward:   act = gate·σ·up
// Backward:  dup   = dact · gate·σ
//            dgate = dact · up · σ · (1 + gate·(1-σ))
//            In place: (gate, up) become (dgate, dup). act is recomputed, because the gradient of down_proj's adapter needs it.
//
// Saved: gate and up. Memory-bound.
#pragma once

#include "kernels/device.h"
#include "kernels/row_stride.h"

namespace tll {

template <class Float>
struct SwigluForward {
  using Scalar = Float;
  static constexpr const char* kName = "swiglu_forward";
  Float* act;            // (N, F)   rows act_stride apart
  const Float* gate_up;  // (N, 2F)  rows gate_up_stride apart; a row is gate, then up
  int N, F;
  int64_t act_stride = 0, gate_up_stride = 0;  // 0: F, 2F
  TLL_HOST_DEVICE int64_t act_row() const { return row_stride(act_stride, F); }
  TLL_HOST_DEVICE int64_t gate_up_row() const { return row_stride(gate_up_stride, int64_t{2} * F); }
  void check() const {
    TLL_CHECK(act && gate_up && N >= 0 && F > 0 && act_row() >= F && gate_up_row() >= int64_t{2} * F, "N {} F {} strides {} {}",
              N, F, act_stride, gate_up_stride);
  }
  Cost cost() const { return {3.0 * N * F * sizeof(Float), 5.0 * N * F}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct SwigluBackward {
  using Scalar = Float;
  static constexpr const char* kName = "swiglu_backward";
  Float* act;         // (N, F)   rows act_stride apart  out; may be dact
  Float* gate_up;     // (N, 2F)  rows gate_up_stride apart  in: gate, up; out: dgate, dup
  const Float* dact;  // (N, F)   rows act_stride apart
  int N, F;
  int64_t act_stride = 0, gate_up_stride = 0;  // 0: F, 2F
  TLL_HOST_DEVICE int64_t act_row() const { return row_stride(act_stride, F); }
  TLL_HOST_DEVICE int64_t gate_up_row() const { return row_stride(gate_up_stride, int64_t{2} * F); }
  void check() const {
    TLL_CHECK(act && gate_up && dact && N >= 0 && F > 0 && act_row() >= F && gate_up_row() >= int64_t{2} * F,
              "N {} F {} strides {} {}", N, F, act_stride, gate_up_stride);
  }
  Cost cost() const { return {6.0 * N * F * sizeof(Float), 10.0 * N * F}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
