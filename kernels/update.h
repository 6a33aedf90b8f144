// Decides on the device whether and how an optimizer step changes the weights, so that a captured step never waits for the host.
//
//   norm   = sqrt(norm_squared) / loss_scale               gradient norm, without the loss scale
//   finite = isfinite(loss) and isfinite(norm)
//   finite:      updates += 1;  grad_scale = min(1, clip / (norm + 1e-6)) / loss_scale     (torch.nn.utils.clip_grad_norm_)
//   not finite:  the step is skipped: weights and moments keep their values
//
// Dynamic loss scaling (Micikevicius et al. 2018; initial scale, factors and interval of torch.amp.GradScaler): fp16 rounds
// gradients of 2^-25 and less to zero, so the loss is multiplied by a power of two. It is halved after a step that is not finite,
// and doubled after kGrowthInterval updates without one.
#pragma once

#include "kernels/adamw.h"

namespace tll {

// All doubles, so that it is one tensor in device memory. One per run; the host reads it after each step.
struct StepState {
  double lr = 0;            // set by the host before a step
  double loss_factor = 0;   // set by the host before a step: loss_scale / target tokens of the step, the `scale` of CrossEntropy
  double loss = 0;          // sum of the cross entropy over the targets
  double norm_squared = 0;  // of the scaled gradients (gradient · loss_scale)
  double grad_norm = 0;     // of the gradients without the loss scale
  double skipped = 0;       // 1: this step was not finite
  double updates = 0;       // AdamW's t
  double loss_scale = 1;
  double steady = 0;  // updates since the last skipped step or growth of the loss scale
};
inline constexpr int kStepStateDoubles = sizeof(StepState) / sizeof(double);

struct UpdateDecision {
  using Scalar = float;
  static constexpr const char* kName = "update_decision";
  static constexpr double kFirstLossScale = 65536, kMostLossScale = 16777216, kGrowthInterval = 2000;
  StepState* state;       // (1)  in and out
  AdamWFactors* factors;  // (1)
  double beta1, beta2, weight_decay;
  double clip;        // 0: off
  bool scale_losses;  // dynamic loss scaling; otherwise loss_scale stays 1
  void check() const { TLL_CHECK(state && factors && clip >= 0, "clip {}", clip); }
  Cost cost() const { return {sizeof(StepState) + sizeof(AdamWFactors), 20}; }
  TLL_HOST_DEVICE void decide() const {
    StepState& s = *state;
    s.grad_norm = std::sqrt(s.norm_squared) / s.loss_scale;
    const bool finite = s.loss - s.loss == 0 && s.grad_norm - s.grad_norm == 0;
    s.skipped = finite ? 0 : 1;
    if (finite) {
      s.updates += 1;
      const double within = clip / (s.grad_norm + 1e-6), factor = clip > 0 && within < 1 ? within : 1;
      *factors = adamw_factors(s.updates, s.lr, beta1, beta2, weight_decay, factor / s.loss_scale);
    } else {
      *factors = {0, 1, 0, 1, 0, 0, 1};
    }
    if (!scale_losses) return;
    s.steady = finite ? s.steady + 1 : 0;
    if (!finite && s.loss_scale > 1) s.loss_scale /= 2;
    if (s.steady >= kGrowthInterval) {
      s.steady = 0;
      if (s.loss_scale < kMostLossScale) s.loss_scale *= 2;
    }
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
