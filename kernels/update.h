// Whether and how an optimizer step changes the weights, decided on the device, so that a captured step need not ask the host.
//
//   norm   = sqrt(norm_squared) / loss_scale               of the gradients as they are without the loss scale
//   finite = isfinite(loss) and isfinite(norm)
//   finite:  updates += 1;  grad_scale = min(1, clip / (norm + 1e-6)) / loss_scale     (torch.nn.utils.clip_grad_norm_)
//   not:     the step is skipped: nothing of weights and moments changes
//
// Dynamic loss scaling (Micikevicius et al. 2018; the constants are torch.amp.GradScaler's): fp16 gradients below 2^-24 vanish, so
// the loss is multiplied by a power of two, which is halved when a gradient overflows and doubled after growth_interval updates
// without an overflow.
#pragma once

#include "kernels/adamw.h"

namespace tll {

// Doubles throughout, so that memory of the device holds it as one tensor. One for a run; the host reads it after each step.
struct StepState {
  double lr = 0;           // set by the host before a step
  double loss_factor = 0;  // set by the host before a step: loss_scale / target tokens of the step, CrossEntropy's scale
  double loss = 0;         // Σ over targets of the cross entropy
  double norm_squared = 0; // of the gradients times loss_scale
  double grad_norm = 0;    // of the gradients
  double skipped = 0;      // 1: this step was not finite
  double updates = 0;      // AdamW's t
  double loss_scale = 1;
  double steady = 0;       // updates since the loss scale changed
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
  bool scale_losses;  // loss_scale changes; otherwise it stays 1
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
      *factors = {0, 1, 0, 1, 0};
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
