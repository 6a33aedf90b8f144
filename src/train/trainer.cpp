#include "src/train/trainer.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/attention.h"
#include "src/model/device_memory.h"

namespace tll {

void BatchBuffers::place(Arena& arena, Arena* staging, int64_t tokens) {
  const auto both = [&](int32_t*& device, int32_t*& host, const std::string& name, int64_t n) {
    arena.place(device, name, {n}, Category::activations);
    host = device;
    if (staging) staging->place(host, name, {n}, Category::activations);
  };
  both(tokens_, view.tokens, "batch.tokens", tokens);
  both(targets_, view.targets, "batch.targets", tokens);
  both(positions_, view.positions, "batch.positions", tokens);
  both(cu_seqlens_, view.cu_seqlens, "batch.cu_seqlens", staging ? 2 * tokens + 1 : tokens + 1);
  const auto key = [](Arena& a) {
    return static_cast<uint64_t*>(a.place_bytes("batch.dropout_key", {sizeof(uint64_t)}, DType::u8, Category::activations));
  };
  key_ = key(arena);
  host_key_ = staging ? key(*staging) : key_;
}

BatchBuffers::~BatchBuffers() {
  if (copied_) cuda_close_event(device_, copied_);
}

void BatchBuffers::wait(const Device& device) {
  if (copied_) cuda_wait_event(device, copied_);
}

Batch BatchBuffers::used(const Device& device, int64_t capacity, uint64_t dropout_key) {
  constexpr int64_t kMultiple = 64;
  const auto round_up = [&](int64_t n) {
    return static_cast<int>(std::min(capacity, (n + kMultiple - 1) / kMultiple * kMultiple));
  };
  const int n = round_up(view.token_count);
  Batch batch{n, view.documents, tokens_, targets_, positions_, cu_seqlens_};
  if (n > view.token_count) view.cu_seqlens[++batch.docs] = n;  // the padding that is left is a document of its own
  if (device.profile) batch.pairs = visible_pairs(view.cu_seqlens, batch.docs, 0);
  *host_key_ = dropout_key;
  if (dropout_key != 0) batch.dropout_key = key_;
  batch.target_rows = view.target_count;
  if (on_host(device)) return batch;
  // Few different shapes: documents are rounded up to a power of two by empty ones at the end, which no row belongs to.
  batch.target_rows = round_up(view.target_count);
  const int documents = static_cast<int>(std::bit_ceil(static_cast<unsigned>(batch.docs)));
  std::fill(view.cu_seqlens + batch.docs + 1, view.cu_seqlens + documents + 1, n);
  batch.docs = documents;
  if (!copied_) device_ = device, copied_ = cuda_open_event(device);
  const size_t bytes = static_cast<size_t>(n) * sizeof(int32_t);
  upload(device, tokens_, view.tokens, bytes);
  upload(device, targets_, view.targets, bytes);
  upload(device, positions_, view.positions, bytes);
  upload(device, cu_seqlens_, view.cu_seqlens, (static_cast<size_t>(documents) + 1) * sizeof(int32_t));
  upload(device, key_, host_key_, sizeof(uint64_t));
  cuda_record_event(device, copied_);
  return batch;
}

StepGraphs::~StepGraphs() {
  for (const auto& [shape, graph] : graphs_)
    if (graph) cuda_close_graph(device_, graph);
}

// A profile waits after each op, which a graph cannot.
bool StepGraphs::wanted(const Device& device) { return !on_host(device) && !device.profile; }

void* StepGraphs::graph_of(const Device& device, const StepShape& shape, const std::function<void()>& body) {
  auto seen = std::find_if(graphs_.begin(), graphs_.end(), [&](const auto& g) { return g.first == shape; });
  if (seen == graphs_.end()) {
    if (graphs_.size() < kMost) graphs_.emplace_back(shape, nullptr);
    return nullptr;  // the first time as it is: libraries load their kernels then, which must not happen in a capture
  }
  if (!seen->second) device_ = device, seen->second = cuda_capture(device, body);
  return seen->second;
}

template <class Float>
void Trainer<Float>::place(Arena& arena, Arena* staging, bool optimizer) {
  buffers_.place(arena, staging, model_.options().max_tokens);
  const auto state = [](Arena& a) {
    return static_cast<StepState*>(a.place_bytes("step.state", {kStepStateDoubles}, DType::f64, Category::scratch));
  };
  step_ = state(arena);
  host_step_ = staging ? state(*staging) : step_;
  if (!optimizer) return;
  arena.place(partial_, "norm.partial", {SumOfSquares::blocks(model_.trained_count())}, Category::scratch);
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
  run(device,
      SumOfSquares{.out = &step_->norm_squared, .partial = partial_, .x = model_.gradients(), .n = model_.trained_count()});
  run(device, UpdateDecision{.state = step_,
                             .factors = factors_,
                             .beta1 = options_.beta1,
                             .beta2 = options_.beta2,
                             .weight_decay = options_.weight_decay,
                             .clip = options_.clip,
                             .scale_losses = kScalesLosses});
  run(device, AdamW{.param = model_.values(),
                    .m = model_.moment1(),
                    .v = model_.moment2(),
                    .grad = model_.gradients(),
                    .factors = factors_,
                    .n = model_.trained_count(),
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .eps = options_.eps});
  model_.refresh_compute_copy(device);
}

template <class Float>
StepResult Trainer<Float>::step(const Device& device, Loader& loader) {
  const StepInfo info = loader.next_step();
  StepResult result;
  result.tokens = info.tokens, result.target_tokens = info.target_tokens;
  result.lr = options_.schedule.learning_rate(state.step);
  const uint64_t step = static_cast<uint64_t>(state.step++);
  if (info.target_tokens == 0) {
    result.skipped = true;
    return result;
  }
  StepState& s = *host_step_;
  s = {};
  s.lr = result.lr;
  s.updates = static_cast<double>(state.updates);
  s.loss_scale = state.loss_scale, s.steady = static_cast<double>(state.steady);
  s.loss_factor = state.loss_scale / static_cast<double>(info.target_tokens);
  upload(device, step_, &s, sizeof(s));
  const bool whole = options_.grad_accum == 1;
  if (!whole) model_.clear_gradients(device);
  for (int m = 0; m < options_.grad_accum; m++) {
    buffers_.wait(device);
    loader.micro_batch(m, buffers_.view);
    if (buffers_.view.target_count == 0) continue;
    const uint64_t key = dropout_key(options_.seed, step, static_cast<uint64_t>(m), 0, 0) | 1;
    const Batch batch = buffers_.used(device, model_.options().max_tokens, key);
    const StepPart part = whole ? StepPart::whole : StepPart::micro_batch;
    graphs_.run(device, {part, batch.N, batch.docs, batch.target_rows}, [&] {
      if (whole) model_.clear_gradients(device);
      micro_batch(device, batch);
      if (whole) update(device);
    });
  }
  if (!whole) graphs_.run(device, {StepPart::update}, [&] { update(device); });
  download(device, &s, step_, sizeof(s));
  synchronize(device);
  result.loss = s.loss / static_cast<double>(info.target_tokens);
  result.grad_norm = s.grad_norm;
  result.skipped = s.skipped != 0;
  // That a gradient overflows is how the loss scale finds its place; a loss that is not finite is another matter.
  const bool searching = state.loss_scale > 1 && std::isfinite(result.loss);
  if (!result.skipped || !searching) state.skipped_in_a_row = result.skipped ? state.skipped_in_a_row + 1 : 0;
  state.updates = static_cast<int64_t>(s.updates);
  state.loss_scale = s.loss_scale, state.steady = static_cast<int64_t>(s.steady);
  return result;
}

template <class Float>
typename Trainer<Float>::Evaluation Trainer<Float>::evaluate(const Device& device, Loader& loader) {
  Evaluation total;
  const LoaderState start = loader.state();
  *host_step_ = {};
  upload(device, step_, host_step_, sizeof(StepState));
  for (int64_t s = 0; s < loader.steps_per_epoch(); s++) {
    total.target_tokens += loader.next_step().target_tokens;
    buffers_.wait(device);
    loader.micro_batch(0, buffers_.view);
    if (buffers_.view.target_count == 0) continue;
    const Batch batch = buffers_.used(device, model_.options().max_tokens);
    model_.forward(device, batch);
    model_.add_loss(device, batch, &step_->loss, nullptr);
  }
  loader.restore(start);
  download(device, host_step_, step_, sizeof(StepState));
  synchronize(device);
  total.loss = total.target_tokens > 0 ? host_step_->loss / static_cast<double>(total.target_tokens) : 0;
  return total;
}

double step_flops(const LlamaConfig& c, const ModelOptions& o, int64_t tokens, int64_t targets) {
  const double C = c.hidden, q = static_cast<double>(c.heads) * c.head_dim, kv = static_cast<double>(c.kv_heads) * c.head_dim,
               F = c.intermediate;
  const double block = C * (q + 2 * kv) + q * C + 3 * C * F;
  double lora = 0;
  for (const LoraTarget& t : o.lora) {
    const double in[] = {C, C, C, q, C, C, F}, out[] = {q, kv, kv, C, F, F, C};
    lora += t.rank * (in[static_cast<int>(t.target)] + out[static_cast<int>(t.target)]);
  }
  const double n = static_cast<double>(tokens), passes = o.train_all ? 6 : 4;
  const double head = (o.train_all ? 6.0 : 4.0) * static_cast<double>(targets) * C * c.vocab_size;
  return n * (c.layers * block * (passes + (o.recompute ? 2 : 0)) + 6 * lora) + head;
}

template class Trainer<float>;
template class Trainer<bf16>;
template class Trainer<half>;

}  // namespace tll
