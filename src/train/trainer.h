// One optimizer step, and the loss over a validation split. All memory is planned beforehand.
#pragma once

#include <functional>
#include <optional>

#include "src/model/llama.h"
#include "src/train/batch_buffers.h"
#include "src/train/gradient_sums.h"
#include "src/train/optimizer.h"
#include "src/train/schedule.h"
#include "src/train/step_graphs.h"

namespace tll {

struct TrainerOptions {
  Schedule schedule;
  double clip = 1;  // largest norm of the gradients; 0: off
  uint64_t seed = 42;
  int grad_accum = 1;  // micro-batches of a step on each rank
};

// The position of a run. A checkpoint holds it, the trained values, the optimizer's state and the loader's state.
struct TrainerState {
  int64_t step = 0;              // steps done
  int64_t updates = 0;           // steps that changed the weights: AdamW's t
  int64_t skipped_in_a_row = 0;  // steps that were not finite, up to now
  double loss_scale = 1;         // fp16: what the loss is multiplied by (kernels/update.h)
  int64_t steady = 0;            // updates since the last skipped step or growth of the loss scale
};

struct StepResult {
  double loss = 0;  // mean over the step's targets, before the update; NaN where there are none
  double grad_norm = 0, lr = 0;
  int64_t tokens = 0, target_tokens = 0;
  double pairs = 0, window_pairs = 0;  // Batch's, of the whole step
  bool skipped = false;                // not finite, or no targets: the weights did not change
};

// What an evaluation computes the loss of, batch after batch.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual int64_t batches() const = 0;
  virtual void next(BatchView& batch) = 0;
};

// One epoch of a loader, which is afterwards where it was before.
class LoaderBatches : public BatchSource {
 public:
  explicit LoaderBatches(Loader& loader) : loader_(loader), start_(loader.state()) {}
  ~LoaderBatches() override { loader_.restore(start_); }
  LoaderBatches(const LoaderBatches&) = delete;
  LoaderBatches& operator=(const LoaderBatches&) = delete;
  int64_t batches() const override { return loader_.steps_per_epoch(); }
  void next(BatchView& batch) override { loader_.next_step(), loader_.micro_batch(0, batch); }

 private:
  Loader& loader_;
  LoaderState start_;
};

template <class Float>
class Trainer {
 public:
  using Acc = acc_t<Float>;
  static constexpr bool kScalesLosses = std::is_same_v<Float, half>;
  Trainer(Llama<Float>& model, Optimizer& optimizer, const TrainerOptions& options)
      : model_(model),
        optimizer_(optimizer),
        options_(options),
        buffers_(model.config(), model.options().max_positions),
        sums_(model.trained(), options.grad_accum) {
    if (kScalesLosses) state.loss_scale = UpdateDecision::kFirstLossScale;
  }
  // Places the batch and the step's state; with `training` also what an update needs besides the optimizer's state.
  void place(Arena& arena, Arena* staging, bool training);
  // After the second place(). `collectives`: null on a single rank.
  void initialize(const Device& device, Collectives* collectives, bool training);

  // Throws Stopped between two micro-batches if a signal to stop has come, to any rank: the state is then the one before the
  // step.
  StepResult step(const Device& device, Loader& loader);
  // What a step on full rows would take, in seconds; it computes nothing (device.dry). All memory is placed, but none need be
  // there.
  double step_seconds(const Device& dry, int rows, int length);
  // Mean cross entropy over all targets of the batches.
  struct Evaluation {
    std::optional<double> loss;  // nothing: there are no targets
    int64_t target_tokens = 0;
    int64_t batches = 0;
  };
  // Called after each batch that has targets, with the loss of each in the order of the batch.
  using OnLosses = std::function<void(const BatchView& batch, const Acc* losses)>;
  // With several ranks a source has every rank's part of each batch, and the result is that of a single rank, on all of them.
  // A phase: see src/base/phase.h. If a signal to stop ends it, `partial` has what was computed until then.
  Evaluation evaluate(const Device& device, BatchSource& source, const OnLosses& on_losses = {}, Evaluation* partial = nullptr);

  // Whether a signal to stop has come, to any rank. All ranks ask at the same time.
  bool stops() const;
  void set_schedule(const Schedule& schedule) { options_.schedule = schedule; }

  TrainerState state;
  BatchBuffers& buffers() { return buffers_; }
  const StepGraphs& graphs() const { return graphs_; }

 private:
  void micro_batch(const Device& device, const Batch& batch);
  void update(const Device& device);
  void wait(const Device& device) const;

  Llama<Float>& model_;
  Optimizer& optimizer_;
  TrainerOptions options_;
  BatchBuffers buffers_;
  GradientSums<Float> sums_;
  Collectives* collectives_ = nullptr;
  StepGraphs graphs_;
  StepState *step_ = nullptr, *host_step_ = nullptr;  // (1)  on the device, and the host's copy (on the CPU the same)
  AdamWFactors* factors_ = nullptr;                   // (1)
};

}  // namespace tll
