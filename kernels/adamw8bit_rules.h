// The arithmetic of AdamW8bit, which CPU and CUDA share. No product is added outside of an fmaf, so that no compiler can fuse
// what is to be rounded twice.
#pragma once

#include <cmath>

#include "kernels/adamw8bit.h"
#include "kernels/quantized_rules.h"

namespace tll {
namespace {

struct MomentConstants {
  float beta1, beta2, rest1, rest2, eps;
};
inline MomentConstants moment_constants(const AdamW8bit& op) {
  const float beta1 = static_cast<float>(op.beta1), beta2 = static_cast<float>(op.beta2);
  return {beta1, beta2, 1.0f - beta1, 1.0f - beta2, static_cast<float>(op.eps)};
}

// The tensor that a block belongs to: the last whose first block is not beyond it.
TLL_HOST_DEVICE inline TrainedSpan span_of(const AdamW8bit& op, int64_t block) {
  int low = 0, high = op.span_count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (op.spans[middle].first_block <= block)
      low = middle;
    else
      high = middle;
  }
  return op.spans[low];
}

TLL_HOST_DEVICE inline float first_moment(float g, float decoded, float absmax, const MomentConstants& k) {
  return fmaf(g, k.rest1, (decoded * absmax) * k.beta1);
}
TLL_HOST_DEVICE inline float second_moment(float g, float decoded, float absmax, const MomentConstants& k) {
  return fmaf(g, g * k.rest2, (decoded * absmax) * k.beta2);
}
TLL_HOST_DEVICE inline float first_moment(float g, float m, const MomentConstants& k) { return fmaf(m, k.beta1, k.rest1 * g); }
TLL_HOST_DEVICE inline float second_moment(float g, float v, const MomentConstants& k) {
  return fmaf(v, k.beta2, k.rest2 * (g * g));
}
// Before the weight decay.
TLL_HOST_DEVICE inline float moved(float p, float m, float v, const AdamWFactors& f, const MomentConstants& k) {
  return fmaf(f.alpha, m / fmaf(f.c2, k.eps, sqrtf(v)), p);
}

// 1/absmax; 0 where that is infinite: for a block of zeros, or below 2^-128.
TLL_HOST_DEVICE inline float reciprocal(float absmax) {
  const float inverse = 1.0f / absmax;
  return inverse <= 0x1.fffffep127f ? inverse : 0.0f;
}

// The nearest code of m or v, as it is stored: with m's sign, and guarded.
TLL_HOST_DEVICE inline int first_code(const float* map, int code, float m) {
  const int neighbour = m > 0 ? code + 1 : code - 1;
  return std::signbit(map[code]) == std::signbit(m) ? code : neighbour;
}
TLL_HOST_DEVICE inline int second_code(int code, float v, bool guard) { return guard && code == 0 && v > 0 ? 1 : code; }

}  // namespace
}  // namespace tll
