// AdamW (Loshchilov & Hutter 2019; Kingma & Ba 2015) on one flat array, in torch's order of operations.
//
//   g = gradient · grad_scale                         grad_scale is the clipping factor divided by the loss scale
//   p = p · (1 - lr·weight_decay)
//   m = beta1·m + (1-beta1)·g        v = beta2·v + (1-beta2)·g²
//   p = p - lr/(1-beta1^t) · m / (sqrt(v / (1-beta2^t)) + eps)           t counts from 1
//
// Computed in float, and p is rounded once. Memory-bound: reads 4 numbers and writes 3 per element.
#pragma once

#include <cmath>

#include "kernels/device.h"

namespace tll {

// The factors that all elements of a step share. UpdateDecision (kernels/update.h) computes them on the device.
struct AdamWFactors {
  float apply;       // 0: skip the step
  float decay;       // 1 - lr·weight_decay
  float step;        // lr / (1 - beta1^t)
  float root;        // 1 / sqrt(1 - beta2^t)
  float grad_scale;  // multiplies the gradient first
  float alpha;       // -lr · c2 / (1 - beta1^t), and
  float c2;          // sqrt(1 - beta2^t): the same as step and root, for AdamW8bit
};
TLL_HOST_DEVICE inline AdamWFactors adamw_factors(double t, double lr, double beta1, double beta2, double weight_decay,
                                                  double grad_scale) {
  const double c1 = 1.0 - std::pow(beta1, t), c2 = std::sqrt(1.0 - std::pow(beta2, t));
  return {1.0f,
          static_cast<float>(1.0 - lr * weight_decay),
          static_cast<float>(lr / c1),
          static_cast<float>(1.0 / c2),
          static_cast<float>(grad_scale),
          static_cast<float>(-lr * c2 / c1),
          static_cast<float>(c2)};
}

struct AdamW {
  using Scalar = float;
  static constexpr const char* kName = "adamw";
  void* param;       // (n)  in and out; fp32, bf16 or fp16
  float* m;          // (n)  in and out
  float* v;          // (n)  in and out
  const void* grad;  // (n)  of the same type
  DType dtype;
  const AdamWFactors* factors;  // (1)  device memory
  int64_t n;
  double beta1, beta2, eps;
  void check() const { TLL_CHECK(n >= 0 && factors && (n == 0 || (param && m && v && grad)), "n {}", n); }
  Cost cost() const { return {(16.0 + 3.0 * static_cast<double>(dtype_bytes(dtype))) * n, 12.0 * n}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
