// One optimizer step, and the loss over a validation split. Everything here works in memory that was planned beforehand.
#pragma once

#include "src/model/llama.h"
#include "src/train/batch_buffers.h"
#include "src/train/optimizer.h"
#include "src/train/schedule.h"
#include "src/train/step_graphs.h"

namespace tll {

struct TrainerOptions {
  Schedule schedule;
  double clip = 1;  // largest norm of the gradients; 0: off
  uint64_t seed = 42;
  int grad_accum = 1;
};

// Where a run is. A checkpoint holds it beside the trained values, the optimizer's state and the loader's.
struct TrainerState {
  int64_t step = 0;     // steps done
  int64_t updates = 0;  // of them, those that changed the weights: AdamW's t
  int64_t skipped_in_a_row = 0;
  double loss_scale = 1;  // fp16: what the loss is multiplied by (kernels/update.h)
  int64_t steady = 0;     // updates since it changed
};

struct StepResult {
  double loss = 0;  // mean over the step's targets, before the update
  double grad_norm = 0, lr = 0;
  int64_t tokens = 0, target_tokens = 0;
  bool skipped = false;  // not finite, or nothing to train: the weights are as they were
};

template <class Float>
class Trainer {
 public:
  static constexpr bool kScalesLosses = std::is_same_v<Float, half>;
  Trainer(Llama<Float>& model, Optimizer& optimizer, const TrainerOptions& options)
      : model_(model), optimizer_(optimizer), options_(options) {
    if (kScalesLosses) state.loss_scale = UpdateDecision::kFirstLossScale;
  }
  // Batches, and with `training` what an update needs beside the optimizer's state.
  void place(Arena& arena, Arena* staging, bool training);

  StepResult step(const Device& device, Loader& loader);
  // Mean cross entropy over all targets of the loader's split, in file order. `tokens` counts targets.
  struct Evaluation {
    double loss = 0;
    int64_t target_tokens = 0;
  };
  Evaluation evaluate(const Device& device, Loader& loader);

  void set_schedule(const Schedule& schedule) { options_.schedule = schedule; }

  TrainerState state;
  BatchBuffers& buffers() { return buffers_; }

 private:
  void micro_batch(const Device& device, const Batch& batch);
  void update(const Device& device);

  Llama<Float>& model_;
  Optimizer& optimizer_;
  TrainerOptions options_;
  BatchBuffers buffers_;
  StepGraphs graphs_;
  double* partial_ = nullptr;
  StepState *step_ = nullptr, *host_step_ = nullptr;  // (1)  of the device, and the host's copy (on the CPU the same)
  AdamWFactors* factors_ = nullptr;                   // (1)
};

}  // namespace tll
