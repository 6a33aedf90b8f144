#include "src/train/trainer.h"

#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/model/device_memory.h"

namespace tll {

template <class Float>
void Trainer<Float>::place(Arena& arena, Arena* staging, bool training) {
  buffers_.place(arena, staging, model_.options().max_tokens);
  const auto state = [](Arena& a) {
    return static_cast<StepState*>(a.place_bytes("step.state", {kStepStateDoubles}, DType::f64, Category::scratch));
  };
  step_ = state(arena);
  host_step_ = staging ? state(*staging) : step_;
  if (!training) return;
  arena.place(partial_, "norm.partial", {SumOfSquares::blocks(model_.trained().count)}, Category::scratch,
              during(StepPhase::update));
  factors_ = static_cast<AdamWFactors*>(
      arena.place_bytes("step.factors", {sizeof(AdamWFactors) / sizeof(float)}, DType::f32, Category::scratch));
}

// Forward, loss and backward; gradients accumulate.
template <class Float>
void Trainer<Float>::micro_batch(const Device& device, const Batch& batch) {
  {
    const NamedRange range(device, "forward");
    model_.forward(device, batch);
  }
  const NamedRange range(device, "backward");
  model_.add_loss(device, batch, &step_->loss, &step_->loss_factor);
  model_.backward(device, batch);
}

template <class Float>
void Trainer<Float>::update(const Device& device) {
  const NamedRange range(device, "update");
  model_.enter(device, StepPhase::update);
  const TrainedRange<Float>& trained = model_.trained();
  run(device,
      SumOfSquares{
          .out = &step_->norm_squared, .partial = partial_, .x = trained.gradients, .n = trained.count, .dtype = trained.dtype});
  run(device, UpdateDecision{.state = step_,
                             .factors = factors_,
                             .beta1 = optimizer_.options().beta1,
                             .beta2 = optimizer_.options().beta2,
                             .weight_decay = optimizer_.options().weight_decay,
                             .clip = options_.clip,
                             .scale_losses = kScalesLosses});
  optimizer_.enqueue(device, trained.values, trained.gradients, trained.dtype, factors_);
  model_.refresh_compute_copies(device);
}

template <class Float>
StepResult Trainer<Float>::step(const Device& device, Loader& loader) {
  const LoaderState before = loader.state();
  const StepInfo info = loader.next_step();
  StepResult result;
  result.tokens = info.tokens, result.target_tokens = info.target_tokens;
  result.lr = options_.schedule.learning_rate(state.step);
  const uint64_t step = static_cast<uint64_t>(state.step);
  if (info.target_tokens == 0) {
    result.skipped = true;
    result.loss = std::numeric_limits<double>::quiet_NaN();
    state.step++;
    return result;
  }
  StepState& s = *host_step_;
  s = {};
  s.lr = result.lr;
  s.updates = static_cast<double>(state.updates);
  s.loss_scale = state.loss_scale, s.steady = static_cast<double>(state.steady);
  s.loss_factor = state.loss_scale / static_cast<double>(info.target_tokens);
  upload(device, step_, &s, sizeof(s));
  model_.enter(device, StepPhase::step);
  const bool whole = options_.grad_accum == 1;
  if (!whole) model_.trained().clear_gradients(device);
  for (int m = 0; m < options_.grad_accum; m++) {
    if (stop_requested()) {
      loader.restore(before);
      throw Stopped("training");
    }
    buffers_.wait(device);
    loader.micro_batch(m, buffers_.view);
    if (buffers_.view.target_count == 0) continue;
    const uint64_t key = dropout_key(options_.seed, step, static_cast<uint64_t>(m), 0, 0) | 1;  // 0 would mean no dropout
    const Batch batch = buffers_.upload(device, model_.options().max_tokens, key);
    result.pairs += batch.pairs, result.window_pairs += batch.window_pairs;
    const StepPart part = whole ? StepPart::whole : StepPart::micro_batch;
    model_.enter(device, StepPhase::batch);
    model_.send_embedding(device, buffers_.view.tokens, batch.N);
    graphs_.run(device, {part, batch.N, batch.docs, batch.target_rows}, [&] {
      model_.passed(StepPhase::batch);
      if (whole) model_.trained().clear_gradients(device);
      micro_batch(device, batch);
      if (whole) update(device);
    });
    model_.passed(whole ? StepPhase::update : StepPhase::backward_qkv);
  }
  if (!whole)
    graphs_.run(device, {StepPart::update}, [&] {
      model_.passed(StepPhase::backward_qkv);
      update(device);
    });
  model_.passed(StepPhase::update);
  download(device, &s, step_, sizeof(s));
  synchronize(device);
  state.step++;
  result.loss = s.loss / static_cast<double>(info.target_tokens);
  result.grad_norm = s.grad_norm;
  result.skipped = s.skipped != 0;
  // Gradients that overflow are how the loss scale finds its value, so such a step is not counted. A loss that is not finite is.
  const bool searching = state.loss_scale > 1 && std::isfinite(result.loss);
  if (!result.skipped || !searching) state.skipped_in_a_row = result.skipped ? state.skipped_in_a_row + 1 : 0;
  state.updates = static_cast<int64_t>(s.updates);
  state.loss_scale = s.loss_scale, state.steady = static_cast<int64_t>(s.steady);
  return result;
}

template <class Float>
double Trainer<Float>::step_seconds(const Device& dry, int rows, int length) {
  double& seconds = dry.dry->seconds;
  model_.trained().clear_gradients(dry);
  const double begin = seconds;
  const Batch batch = buffers_.full(rows, length);
  model_.send_embedding(dry, batch.tokens, batch.N, PassKind::training);
  micro_batch(dry, batch);
  synchronize(dry);
  seconds += (options_.grad_accum - 1) * (seconds - begin);  // each of the others takes as long
  update(dry);
  synchronize(dry);
  return seconds;
}

template <class Float>
typename Trainer<Float>::Evaluation Trainer<Float>::evaluate(const Device& device, BatchSource& source, const OnLosses& on_losses,
                                                             Evaluation* partial) {
  Evaluation total;
  *host_step_ = {};
  upload(device, step_, host_step_, sizeof(StepState));
  const auto result = [&] {
    download(device, host_step_, step_, sizeof(StepState));
    synchronize(device);
    if (total.target_tokens > 0) total.loss = host_step_->loss / static_cast<double>(total.target_tokens);
    return total;
  };
  try {
    const int64_t batches = source.batches();
    for (Phase phase("evaluating", batches); total.batches < batches; phase.advance()) {
      buffers_.wait(device);
      source.next(buffers_.view);
      total.batches++;
      const int count = buffers_.view.target_count;
      if (count == 0) continue;
      const Batch batch = buffers_.upload(device, model_.options().max_tokens);
      model_.enter(device, StepPhase::evaluation);
      model_.send_embedding(device, buffers_.view.tokens, batch.N, PassKind::inference);
      model_.forward(device, batch, PassKind::inference);
      model_.add_loss(device, batch, &step_->loss, nullptr, PassKind::inference);
      total.target_tokens += count;
      if (on_losses) on_losses(buffers_.view, HostCopy(device, model_.losses(), count).data());
    }
  } catch (const Stopped&) {
    if (partial) *partial = result();
    throw;
  }
  return result();
}

template class Trainer<float>;
template class Trainer<bf16>;
template class Trainer<half>;

}  // namespace tll
