#include "src/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/adamw.h"

namespace tll {

void BatchBuffers::place(Arena& arena, int64_t tokens) {
  arena.place(view.tokens, "batch.tokens", {tokens}, Category::activations);
  arena.place(view.targets, "batch.targets", {tokens}, Category::activations);
  arena.place(view.positions, "batch.positions", {tokens}, Category::activations);
  arena.place(view.cu_seqlens, "batch.cu_seqlens", {tokens + 1}, Category::activations);
}

Batch BatchBuffers::used(int64_t capacity) const {
  constexpr int64_t kMultiple = 64;
  const int64_t rounded = (view.token_count + kMultiple - 1) / kMultiple * kMultiple;
  const int n = static_cast<int>(std::min(capacity, rounded));
  Batch batch{n, view.documents, view.tokens, view.targets, view.positions, view.cu_seqlens};
  if (n > view.token_count) view.cu_seqlens[++batch.docs] = n;  // the padding that is left is a document of its own
  return batch;
}

template <class Float>
void Trainer<Float>::place(Arena& arena, bool optimizer) {
  buffers_.place(arena, model_.options().max_tokens);
  if (!optimizer) return;
  arena.place(partial_, "norm.partial", {SumOfSquares::blocks(model_.trained_count())}, Category::scratch);
  arena.place(norm_, "norm", {1}, Category::scratch);
}

template <class Float>
double Trainer<Float>::gradient_norm(const Device& device) {
  run(device, SumOfSquares{.out = norm_, .partial = partial_, .x = model_.gradients(), .n = model_.trained_count()});
  return std::sqrt(*norm_);
}

template <class Float>
double Trainer<Float>::accumulate(const Device& device, const Batch& batch, double scale, int micro) {
  const uint64_t key = dropout_key(options_.seed, static_cast<uint64_t>(state.step), static_cast<uint64_t>(micro), 0, 0);
  model_.forward(device, batch, key | 1);
  const double loss = real_part(model_.loss(device, batch, scale, true));
  model_.backward(device, batch);
  return loss;
}

template <class Float>
StepResult Trainer<Float>::step(const Device& device, Loader& loader) {
  const StepInfo info = loader.next_step();
  StepResult result;
  result.tokens = info.tokens, result.target_tokens = info.target_tokens;
  result.lr = options_.schedule.learning_rate(state.step);
  state.step++;
  if (info.target_tokens == 0) {
    result.skipped = true;
    return result;
  }
  std::memset(model_.gradients(), 0, static_cast<size_t>(model_.trained_count()) * sizeof(*model_.gradients()));
  const double scale = 1.0 / static_cast<double>(info.target_tokens);
  double sum = 0;
  for (int m = 0; m < options_.grad_accum; m++) {
    loader.micro_batch(m, buffers_.view);
    if (buffers_.view.target_count == 0) continue;
    sum += accumulate(device, buffers_.used(model_.options().max_tokens), scale, m);
  }
  result.loss = sum * scale;
  result.grad_norm = gradient_norm(device);
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    state.skipped_in_a_row++;
    result.skipped = true;
    return result;
  }
  state.skipped_in_a_row = 0;
  state.updates++;
  const double factor = options_.clip > 0 ? std::min(1.0, options_.clip / (result.grad_norm + 1e-6)) : 1.0;
  run(device, AdamW{.param = model_.values(),
                    .m = model_.moment1(),
                    .v = model_.moment2(),
                    .grad = model_.gradients(),
                    .n = model_.trained_count(),
                    .t = state.updates,
                    .lr = result.lr,
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .eps = options_.eps,
                    .weight_decay = options_.weight_decay,
                    .grad_scale = factor});
  model_.refresh_compute_copy(device);
  return result;
}

template <class Float>
typename Trainer<Float>::Evaluation Trainer<Float>::evaluate(const Device& device, Loader& loader) {
  Evaluation total;
  double sum = 0;
  const LoaderState start = loader.state();
  for (int64_t s = 0; s < loader.steps_per_epoch(); s++) {
    total.target_tokens += loader.next_step().target_tokens;
    loader.micro_batch(0, buffers_.view);
    if (buffers_.view.target_count == 0) continue;
    const Batch batch = buffers_.used(model_.options().max_tokens);
    model_.forward(device, batch);
    sum += real_part(model_.loss(device, batch, 0, false));
  }
  loader.restore(start);
  total.loss = total.target_tokens > 0 ? sum / static_cast<double>(total.target_tokens) : 0;
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

}  // namespace tll
