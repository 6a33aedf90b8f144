// One optimizer step, and the loss over a validation split. Everything here works in memory that was planned beforehand.
#pragma once

#include <optional>

#include "data/loader.h"
#include "kernels/reduce.h"
#include "src/llama.h"
#include "src/schedule.h"

namespace tll {

struct TrainerOptions {
  Schedule schedule;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double clip = 1;  // 0: off
  uint64_t seed = 42;
  int grad_accum = 1;
};

// Where a run is, beside the trained values, the two moments and the loader's state: what a checkpoint must hold.
struct TrainerState {
  int64_t step = 0;     // steps done
  int64_t updates = 0;  // of them, those that changed the weights: AdamW's t
  int64_t skipped_in_a_row = 0;
};

struct StepResult {
  double loss = 0;  // mean over the step's targets, before the update
  double grad_norm = 0, lr = 0;
  int64_t tokens = 0, target_tokens = 0;
  bool skipped = false;  // not finite, or nothing to train: the weights are as they were
};

// Room for one batch of the loader, and the batch without the padding behind it.
struct BatchBuffers {
  BatchView view;
  void place(Arena& arena, int64_t tokens);
  // Rounded up to a few padding tokens, so that the shapes of products repeat from step to step.
  Batch used(int64_t capacity) const;
};

template <class Float>
class Trainer {
 public:
  Trainer(Llama<Float>& model, const TrainerOptions& options) : model_(model), options_(options) {}
  void place(Arena& arena, bool optimizer);

  StepResult step(const Device& device, Loader& loader);
  // Mean cross entropy over all targets of the loader's split, in file order. `tokens` counts targets.
  struct Evaluation {
    double loss = 0;
    int64_t target_tokens = 0;
  };
  Evaluation evaluate(const Device& device, Loader& loader);

  // Gradients of one batch, accumulated; the loss summed over targets. For dump and for tests.
  double accumulate(const Device& device, const Batch& batch, double scale, int micro);

  void set_options(const TrainerOptions& options) { options_ = options; }

  TrainerState state;
  const Schedule& schedule() const { return options_.schedule; }
  BatchBuffers& buffers() { return buffers_; }

 private:
  double gradient_norm(const Device& device);

  Llama<Float>& model_;
  TrainerOptions options_;
  BatchBuffers buffers_;
  double *partial_ = nullptr, *norm_ = nullptr;
};

// Arithmetic of one forward and backward pass over these tokens, as this engine does it: what the share of the peak counts.
double step_flops(const LlamaConfig&, const ModelOptions&, int64_t tokens, int64_t targets);

}  // namespace tll
