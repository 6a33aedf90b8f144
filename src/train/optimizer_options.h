// Which optimizer, and its constants.
#pragma once

namespace tll {

enum class OptimizerKind { kAdamw };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamw;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};

}  // namespace tll
