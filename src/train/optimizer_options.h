// Which optimizer, and its constants.
#pragma once

#include <cstdint>

namespace tll {

enum class OptimizerKind { kAdamw, kAdamw8bit };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamw;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool guard = true;        // of kAdamw8bit: see kernels/adamw8bit.h
  bool offload = false;     // CUDA: the state lies in pinned memory of the host, and passes through buffers of the device
  int64_t chunk = 1 << 20;  // values whose state passes at once
};

}  // namespace tll
