// AdamW (Loshchilov & Hutter 2019; Kingma & Ba 2015) over one flat float range, with torch's order of operations.
//
//   g = gradient · grad_scale                         grad_scale carries the clipping factor
//   p = p · (1 - lr·weight_decay)
//   m = beta1·m + (1-beta1)·g        v = beta2·v + (1-beta2)·g²
//   p = p - lr/(1-beta1^t) · m / (sqrt(v / (1-beta2^t)) + eps)           t counts from 1
//
// Bound by memory: reads 4 floats, writes 3.
#pragma once

#include "kernels/device.h"

namespace tll {

struct AdamW {
  using Scalar = float;
  static constexpr const char* kName = "adamw";
  float* param;       // (n)  in and out
  float* m;           // (n)  in and out
  float* v;           // (n)  in and out
  const float* grad;  // (n)
  int64_t n;
  int64_t t;
  double lr, beta1, beta2, eps, weight_decay, grad_scale;
  void check() const { TLL_CHECK(n >= 0 && t >= 1 && (n == 0 || (param && m && v && grad)), "n {} t {}", n, t); }
  Cost cost() const { return {28.0 * n, 12.0 * n}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
