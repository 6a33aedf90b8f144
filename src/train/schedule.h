// Learning rates over a run: warm-up, then constant, linear or cosine, exactly as transformers' optimization.py computes them.
//
// With n updates in all, w of them warm-up, and k = 0 for the first update:
//   k < w                   k / w                              so the first update of a warmed-up run has learning rate 0
//   constant                1                                  always w = 0
//   constant_with_warmup    1
//   linear                  (n - k) / (n - w)
//   cosine                  (1 + cos(pi (k - w) / (n - w))) / 2
// Linear and cosine come near 0 at k = n - 1, but never reach it.
#pragma once

#include <cstdint>
#include <optional>

namespace tll {

enum class ScheduleKind { kConstant, kConstantWithWarmup, kLinear, kCosine };

struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 0;             // the learning rate after warm-up
  int64_t updates = 0;         // n >= 1
  int64_t warmup_updates = 0;  // w >= 0; at w >= n the run ends before warm-up does

  double factor(int64_t update) const;  // of the peak, for update k in 0 ... n - 1
  double learning_rate(int64_t update) const { return peak * factor(update); }
  // Whether the learning rate of an update, once warm-up is known, does not depend on n.
  bool independent_of_length() const { return kind == ScheduleKind::kConstant || kind == ScheduleKind::kConstantWithWarmup; }
};

// w: `warmup_steps` where they are given, else ceil(updates * warmup_ratio), as in transformers. Unlike there, a ratio below 1
// never makes the whole run its warm-up: a run of one step would have learning rate 0 and train nothing.
int64_t warmup_updates(ScheduleKind kind, int64_t updates, std::optional<int64_t> warmup_steps, double warmup_ratio);

}  // namespace tll
