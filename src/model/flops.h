// The flops of training, as this engine does it. The share of the peak that is printed counts these.
#pragma once

#include "src/files/config.h"
#include "src/model/model_options.h"

namespace tll {

// Flops of one forward and backward pass: per token for the blocks, and per target for the head, which computes logits only for
// rows with a target. Attention's scores are not counted.
struct StepFlops {
  double per_token = 0, per_target = 0;
  double of(int64_t tokens, int64_t targets) const {
    return per_token * static_cast<double>(tokens) + per_target * static_cast<double>(targets);
  }
};
StepFlops step_flops(const LlamaConfig& config, const ModelOptions& options);

}  // namespace tll
