// Rotary position embedding (Su et al. 2021) with half-split pairing ("rotate_half"): dimension i is rotated with i + R/2.
//
// D: the values of a head. R: how many of them are turned, the first; R = D but for a partial rotary embedding.
//
// Table:     angle[p,i] = p · inv_freq[i] in float; cos and sin are computed in double, rounded, and multiplied by `scale`
// Forward:   y[i]       = x[i]·cos - x[i+R/2]·sin          i < R/2; in place, every head of q and k, one rounding
//            y[i+R/2]   = x[i+R/2]·cos + x[i]·sin
// Backward:  the transposed rotation, which is the same with -sin. In place; nothing is saved.
#pragma once

#include "kernels/device.h"

namespace tll {

template <class Float>
struct RopeTable {
  using Scalar = Float;
  static constexpr const char* kName = "rope_table";
  acc_t<Float>* cos;      // (P, R/2)
  acc_t<Float>* sin;      // (P, R/2)
  const float* inv_freq;  // (R/2)
  int P, R;               // positions 0 … P-1
  float scale = 1;        // other than 1 in YaRN and LongRoPE, where scores grow by its square
  void check() const { TLL_CHECK(cos && sin && inv_freq && P > 0 && R > 0 && R % 2 == 0, "P {} R {}", P, R); }
  Cost cost() const { return {1.0 * P * R * sizeof(acc_t<Float>), 1.0 * P * R}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// Both directions: `backward` negates sin.
template <class Float>
struct Rope {
  using Scalar = Float;
  static constexpr const char* kName = "rope";
  Float* x;  // (N, stride)  head h of row n at x[n·stride + h·D]: q's H heads, then k's G heads if they are adjacent
  const acc_t<Float>* cos;   // (P, R/2)
  const acc_t<Float>* sin;   // (P, R/2)
  const int32_t* positions;  // (N)  each in [0, P)
  int N, heads, D, R, stride;
  bool backward;
  void check() const {
    TLL_CHECK(x && cos && sin && positions && N >= 0 && heads > 0 && R % 2 == 0 && R <= D && stride >= heads * D,
              "N {} heads {} D {} R {} stride {}", N, heads, D, R, stride);
  }
  Cost cost() const { return {2.0 * N * heads * R * sizeof(Float), 3.0 * N * heads * R}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
