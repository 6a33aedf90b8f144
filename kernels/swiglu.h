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

namespace tll {

template <class Float>
struct SwigluForward {
  using Scalar = Float;
  static constexpr const char* kName = "swiglu_forward";
  Float* act;            // (N, F)
  const Float* gate_up;  // (N, 2F)  a row is gate, then up
  int N, F;
  void check() const { TLL_CHECK(act && gate_up && N >= 0 && F > 0, "N {} F {}", N, F); }
  Cost cost() const { return {3.0 * N * F * sizeof(Float), 5.0 * N * F}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct SwigluBackward {
  using Scalar = Float;
  static constexpr const char* kName = "swiglu_backward";
  Float* act;         // (N, F)   out; may be dact
  Float* gate_up;     // (N, 2F)  in: gate, up; out: dgate, dup
  const Float* dact;  // (N, F)
  int N, F;
  void check() const { TLL_CHECK(act && gate_up && dact && N >= 0 && F > 0, "N {} F {}", N, F); }
  Cost cost() const { return {6.0 * N * F * sizeof(Float), 10.0 * N * F}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
