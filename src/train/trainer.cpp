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
  sums_.place(arena);
  factors_ = static_cast<AdamWFactors*>(
      arena.place_bytes("step.factors", {sizeof(AdamWFactors) / sizeof(float)}, DType::f32, Category::scratch));
}

template <class Float>
void Trainer<Float>::initialize(const Device& device, Collectives* collectives, bool training) {
  collectives_ = collectives;
  sums_.connect(collectives);
  if (training) sums_.initialize(device);
}

// With other ranks, what waits for the device blindly would wait for ever when one of them has ended.
template <class Float>
void Trainer<Float>::wait(const Device& device) const {
  if (collectives_) collectives_->wait(device);
}

template <class Float>
bool Trainer<Float>::stops() const {
  if (collectives_) agree_to_stop(*collectives_);
  return stop_requested();
}

// Forward, loss and backward. Gradients accumulate, or go to the sums.
template <class Float>
void Trainer<Float>::micro_batch(const Device& device, const Batch& batch) {
  const bool apart = model_.trained().apart;
  model_.set_gradient_sink(apart ? &sums_ : nullptr);
  sums_.begin_micro_batch();
  if (apart) set_zero(device, &step_->loss, sizeof(double));
  {
    const NamedRange range(device, "forward");
    model_.forward(device, batch);
  }
  const NamedRange range(device, "backward");
  model_.add_loss(device, batch, &step_->loss, &step_->loss_factor);
  model_.backward(device, batch);
  sums_.end_micro_batch(device);
}

template <class Float>
void Trainer<Float>::update(const Device& device) {
  const NamedRange range(device, "update");
  model_.enter(device, StepPhase::update);
  sums_.finish(device, &step_->loss, &step_->norm_squared);
  const TrainedRange<Float>& trained = model_.trained();
  run(device, UpdateDecision{.state = step_,
                             .factors = factors_,
                             .beta1 = optimizer_.options().beta1,
                             .beta2 = optimizer_.options().beta2,
                             .weight_decay = optimizer_.options().weight_decay,
                             .clip = options_.clip,
                             .scale_losses = kScalesLosses});
  optimizer_.enqueue(device, trained.values, trained.gradients, trained.dtype, factors_);
  if (!trained.splits_values) sums_.share_values(device);
  model_.refresh_compute_copies(device);
  if (trained.splits_values) sums_.share_values(device);
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
  const bool whole = !model_.trained().apart;
  if (!whole) sums_.begin_step(device);
  for (int m = 0; m < options_.grad_accum; m++) {
    if (stops()) {
      loader.restore(before);
      throw Stopped("training");
    }
    wait(device);
    buffers_.wait(device);
    loader.micro_batch(m, buffers_.view);
    if (buffers_.view.target_count == 0 && !collectives_) continue;  // other ranks count on this one, whatever it has
    const uint64_t number = static_cast<uint64_t>(sums_.number_of(m));
    const uint64_t key = dropout_key(options_.seed, step, number, 0, 0) | 1;  // 0 would mean no dropout
    const Batch batch = buffers_.upload(device, model_.options().max_tokens, key);
    result.pairs += batch.pairs, result.window_pairs += batch.window_pairs;
    const StepPart part = whole ? StepPart::whole : StepPart::micro_batch;
    model_.enter(device, StepPhase::batch);
    model_.send_embedding(device, buffers_.view.tokens, batch.N);
    const auto body = [&] {
      model_.passed(StepPhase::batch);
      if (whole) model_.trained().clear_gradients(device);
      micro_batch(device, batch);
      if (whole) update(device);
    };
    // A collective must be captured on all ranks or on none (NCCL's manual, "Using NCCL with CUDA Graphs"), and their batches
    // have other shapes. The update has one shape.
    if (collectives_)
      body();
    else
      graphs_.run(device, {part, batch.N, batch.docs, batch.target_rows}, body);
    model_.passed(whole ? StepPhase::update : StepPhase::backward_qkv);
    if (!whole) sums_.keep_loss(device, &step_->loss, m);
  }
  if (!whole)
    graphs_.run(device, {StepPart::update}, [&] {
      model_.passed(StepPhase::backward_qkv);
      update(device);
    });
  model_.passed(StepPhase::update);
  download(device, &s, step_, sizeof(s));
  wait(device);
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
  sums_.begin_step(dry);
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
  struct Found {
    double loss;
    int64_t targets;
  };
  std::vector<Found> found(collectives_ ? static_cast<size_t>(collectives_->size()) : 1);  // of a batch on each rank
  Found& own = found[collectives_ ? static_cast<size_t>(collectives_->rank()) : 0];
  const bool all_pass = model_.options().ranks.splits_weights();  // also where there is nothing to do
  double sum = 0;
  Evaluation total;
  const auto result = [&] {
    if (total.target_tokens > 0) total.loss = sum / static_cast<double>(total.target_tokens);
    return total;
  };
  try {
    const int64_t batches = source.batches();
    for (Phase phase("evaluating", batches); total.batches < batches; phase.advance()) {
      buffers_.wait(device);
      source.next(buffers_.view);
      total.batches++;
      own = {0, buffers_.view.target_count};
      if (own.targets > 0 || all_pass) {
        set_zero(device, &step_->loss, sizeof(double));
        const Batch batch = buffers_.upload(device, model_.options().max_tokens);
        model_.enter(device, StepPhase::evaluation);
        model_.send_embedding(device, buffers_.view.tokens, batch.N, PassKind::inference);
        model_.forward(device, batch, PassKind::inference);
        model_.add_loss(device, batch, &step_->loss, nullptr, PassKind::inference);
        wait(device);
        if (on_losses && own.targets > 0) on_losses(buffers_.view, HostCopy(device, model_.losses(), own.targets).data());
        own.loss = HostCopy(device, &step_->loss, 1)[0];
      }
      if (collectives_) collectives_->all_gather_host(found.data(), sizeof(Found));
      for (const Found& f : found) sum += f.loss, total.target_tokens += f.targets;
      stops();
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
