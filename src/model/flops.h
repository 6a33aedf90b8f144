// The arithmetic of training, as this engine does it: what a share of the peak counts.
#pragma once

#include "src/files/config.h"
#include "src/model/model_options.h"

namespace tll {

// Flops of one forward and backward pass, without attention's scores: so many a token, and so many a target, whose row of logits
// is computed.
struct StepFlops {
  double per_token = 0, per_target = 0;
  double of(int64_t tokens, int64_t targets) const {
    return per_token * static_cast<double>(tokens) + per_target * static_cast<double>(targets);
  }
};
StepFlops step_flops(const LlamaConfig& config, const ModelOptions& options);

}  // namespace tll
