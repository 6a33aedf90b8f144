// Learning rates over a run: warm-up, then constant, linear or cosine, exactly as transformers' optimization.py computes them.
//
// With n updates in all, w of them warm-up, and k = 0 for the first update:
//   k < w              k / w                                   so the first update of a warmed-up run has learning rate 0
//   constant           1
//   linear             (n - k) / (n - w)
//   cosine             (1 + cos(pi (k - w) / (n - w))) / 2
// Linear and cosine come near 0 at k = n - 1, but never reach it.
#pragma once

#include <cstdint>

namespace tll {

enum class ScheduleKind { kConstant, kConstantWithWarmup, kLinear, kCosine };

struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 0;             // the learning rate after warm-up
  int64_t updates = 0;         // n >= 1
  int64_t warmup_updates = 0;  // w >= 0; at w >= n the run ends before warm-up does

  double factor(int64_t update) const;  // of the peak, for update k in 0 ... n - 1
  double learning_rate(int64_t update) const { return peak * factor(update); }
};

// w: `warmup_steps` if it is above 0, else ceil(updates * warmup_ratio), the same precedence as in transformers.
int64_t warmup_updates(int64_t updates, int64_t warmup_steps, double warmup_ratio);

}  // namespace tll
