// One optimizer step, and the loss over a validation split. Everything here works in memory that was planned beforehand.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "data/loader.h"
#include "kernels/update.h"
#include "src/model/llama.h"
#include "src/train/schedule.h"

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
  double loss_scale = 1;  // fp16: what the loss is multiplied by (kernels/update.h)
  int64_t steady = 0;     // updates since it changed
};

struct StepResult {
  double loss = 0;  // mean over the step's targets, before the update
  double grad_norm = 0, lr = 0;
  int64_t tokens = 0, target_tokens = 0;
  bool skipped = false;  // not finite, or nothing to train: the weights are as they were
};

// Room for one batch of the loader: `view` is the host's, for the loader to fill; on a CUDA device there is a copy on the device.
class BatchBuffers {
 public:
  BatchView view;
  // `staging` is memory of the host beside a CUDA device, null on the CPU, where there is one copy.
  void place(Arena& arena, Arena* staging, int64_t tokens);
  ~BatchBuffers();
  // Waits until the device has its copy of the last batch, and view may change.
  void wait(const Device& device);
  // The batch without the padding behind it, on the device (enqueued). Rounded up to a few padding tokens, so that the shapes of
  // products repeat from step to step. dropout_key 0: no dropout.
  Batch used(const Device& device, int64_t capacity, uint64_t dropout_key = 0);

 private:
  int32_t *tokens_ = nullptr, *targets_ = nullptr, *positions_ = nullptr, *cu_seqlens_ = nullptr;  // of the device
  uint64_t *key_ = nullptr, *host_key_ = nullptr;                                                  // (1)
  Device device_;
  void* copied_ = nullptr;  // CUDA: the event after the last copy
};

// What a captured part of a step depends on: which part it is, and the sizes that launches are made of.
enum class StepPart : uint8_t { whole, micro_batch, update };
struct StepShape {
  StepPart part;
  int N = 0, docs = 0, target_rows = 0;
  bool operator==(const StepShape&) const = default;
};

// Graphs of steps, one for each shape that occurred twice, so that a step costs one launch (CUDA alone).
class StepGraphs {
 public:
  StepGraphs() = default;
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;
  // Runs what body enqueues: as a graph where graphs are to be had, else as it is.
  template <class Body>
  void run(const Device& device, const StepShape& shape, const Body& body) {
    if (void* graph = wanted(device) ? graph_of(device, shape, body) : nullptr)
      cuda_launch_graph(device, graph);
    else
      body();
  }

 private:
  static bool wanted(const Device& device);
  void* graph_of(const Device& device, const StepShape& shape, const std::function<void()>& body);
  static constexpr size_t kMost = 24;  // shapes beyond these are not captured: a graph takes memory of the device
  Device device_;
  std::vector<std::pair<StepShape, void*>> graphs_;  // null: it occurred once
};

template <class Float>
class Trainer {
 public:
  static constexpr bool kScalesLosses = std::is_same_v<Float, half>;
  Trainer(Llama<Float>& model, const TrainerOptions& options) : model_(model), options_(options) {
    if (kScalesLosses) state.loss_scale = UpdateDecision::kFirstLossScale;
  }
  void place(Arena& arena, Arena* staging, bool optimizer);

  StepResult step(const Device& device, Loader& loader);
  // Mean cross entropy over all targets of the loader's split, in file order. `tokens` counts targets.
  struct Evaluation {
    double loss = 0;
    int64_t target_tokens = 0;
  };
  Evaluation evaluate(const Device& device, Loader& loader);

  void set_options(const TrainerOptions& options) { options_ = options; }

  TrainerState state;
  const Schedule& schedule() const { return options_.schedule; }
  BatchBuffers& buffers() { return buffers_; }

 private:
  void micro_batch(const Device& device, const Batch& batch);
  void update(const Device& device);

  Llama<Float>& model_;
  TrainerOptions options_;
  BatchBuffers buffers_;
  StepGraphs graphs_;
  double* partial_ = nullptr;
  StepState *step_ = nullptr, *host_step_ = nullptr;  // (1)  of the device, and the host's copy (on the CPU the same)
  AdamWFactors* factors_ = nullptr;                   // (1)
};

// Arithmetic of one forward and backward pass over these tokens, as this engine does it: what the share of the peak counts.
double step_flops(const LlamaConfig&, const ModelOptions&, int64_t tokens, int64_t targets);

}  // namespace tll
