// The optimizer: its state beside the trained values, the update, and what a checkpoint holds of it.
#pragma once

#include <string>
#include <vector>

#include "kernels/update.h"
#include "src/model/arena.h"
#include "src/train/optimizer_options.h"

namespace tll {

// A part of the optimizer's state, in memory of the device.
struct StateTensor {
  std::string name;  // in optimizer.safetensors
  DType dtype;
  int64_t count;
  void* data;
  size_t bytes() const { return static_cast<size_t>(count) * dtype_bytes(dtype); }
};

class Optimizer {
 public:
  explicit Optimizer(const OptimizerOptions& options) : options_(options) {}

  // State for `count` values. Its tensors are named after the values' range: "lora.m", "lora.v".
  void place(Arena& arena, const std::string& range, int64_t count);
  // Enqueued: sets the state to zero, as at the start of a run.
  void clear(const Device& device) const;
  // Enqueued: updates values (count) by their gradients (count), with the factors that UpdateDecision wrote.
  void enqueue(const Device& device, float* values, const float* gradients, const AdamWFactors* factors) const;

  const OptimizerOptions& options() const { return options_; }
  // What a checkpoint must hold, flat, in the order of the trained values.
  std::vector<StateTensor> tensors() const;

 private:
  OptimizerOptions options_;
  int64_t count_ = 0;
  float *m_ = nullptr, *v_ = nullptr;  // (count)  AdamW's two moments
};

}  // namespace tll
