#include "src/model/generator.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "src/model/device_memory.h"

namespace tll {
namespace {

constexpr PassKind kPass = PassKind::inference;

}  // namespace

template <class Float>
struct Generator<Float>::Run {
  // A live sequence. slots[i] uses slot i of the cache, so live sequences are adjacent.
  struct Slot {
    size_t request = 0;
    int length = 0;    // tokens in the cache
    int32_t next = 0;  // the token to feed
  };
  std::span<const GenerateRequest> requests;
  const SamplingOptions& sampling;
  const OnToken& on_token;
  const OnEnd& on_end;
  std::vector<std::vector<int32_t>> results;
  std::vector<Slot> slots;
  size_t waiting = 0;  // the next request to begin

  bool any_waiting() const { return waiting < requests.size(); }
};

template <class Float>
Generator<Float>::Generator(Llama<Float>& model, int sequences, int capacity) : model_(model), sequences_(sequences) {
  const ModelOptions& options = model.options();
  TLL_CHECK(sequences > 0 && capacity > 0 && sequences <= options.max_tokens, "sequences {} capacity {} tokens {}", sequences,
            capacity, options.max_tokens);
  capacity_ = std::min(capacity, options.max_positions);
  longest_prompt_ = std::min(capacity_, options.max_tokens);
  kv_width_ = model.config().kv_heads * model.config().head_dim;
  rope_ = rope_rows(model.config(), options.max_positions);
  const int again = rope_rows(model.config(), capacity_).length_after_switch();
  TLL_CHECK(options.max_tokens >= again, "tokens {}, and a cache of {} is written again", options.max_tokens, again);
}

template <class Float>
void Generator<Float>::place(Arena& arena, Arena* staging) {
  const int64_t L = model_.config().layers, N = model_.options().max_tokens, S = sequences_;
  const auto place = [](Arena& to, auto*& pointer, const char* name, const std::vector<int64_t>& shape) {
    to.place(pointer, std::string("generation.") + name, shape, Category::scratch, {StepPhase::evaluation, StepPhase::eval_head});
  };
  place(arena, keys_, "keys", {L, S, capacity_, kv_width_});
  place(arena, values_, "values", {L, S, capacity_, kv_width_});
  place(arena, scores_, "scores", {S, model_.config().heads, capacity_});
  const auto indices = [&](Arena& to, Indices& all) {
    place(to, all.tokens, "tokens", {N});
    place(to, all.positions, "positions", {N});
    place(to, all.slots, "slots", {N});
    place(to, all.places, "places", {N});
    place(to, all.cu_seqlens, "cu_seqlens", {S + 2});
    place(to, all.rows, "rows", {S});
    place(to, all.lengths, "lengths", {S});
  };
  indices(arena, on_device_);
  host_ = on_device_;
  if (!staging) return;
  indices(*staging, host_);
  place(*staging, logits_, "logits", {S, model_.config().vocab_size});
}

// N entries of the per-token indices, and all of the per-sequence ones.
template <class Float>
void Generator<Float>::upload_indices(const Device& device, int N) {
  const auto copy = [&](int32_t* to, const int32_t* from, int count) {
    upload(device, to, from, static_cast<size_t>(count) * sizeof(int32_t));
  };
  copy(on_device_.tokens, host_.tokens, N);
  copy(on_device_.positions, host_.positions, N);
  copy(on_device_.slots, host_.slots, N);
  copy(on_device_.places, host_.places, N);
  copy(on_device_.cu_seqlens, host_.cu_seqlens, sequences_ + 2);
  copy(on_device_.rows, host_.rows, sequences_);
  copy(on_device_.lengths, host_.lengths, sequences_);
}

template <class Float>
void Generator<Float>::check(std::span<const GenerateRequest> requests) const {
  for (const GenerateRequest& r : requests) {
    if (r.prompt.empty()) fail(kExitUsage, "the prompt has no tokens: give at least one");
    if (r.prompt.size() > static_cast<size_t>(longest_prompt_))
      fail(kExitUsage, "the prompt has {} tokens, but there is room for {}: shorten it, or give a larger --seq-len",
           r.prompt.size(), longest_prompt_);
    for (const int32_t id : r.prompt)
      if (id < 0 || id >= model_.config().vocab_size)
        fail(kExitUsage, "the prompt has token id {}, but the model's vocabulary is {} ids: is the tokenizer another model's?",
             id, model_.config().vocab_size);
  }
}

template <class Float>
std::vector<std::vector<int32_t>> Generator<Float>::generate(const Device& device, std::span<const GenerateRequest> requests,
                                                             const SamplingOptions& sampling, const OnToken& on_token,
                                                             const OnEnd& on_end) {
  TLL_CHECK(keys_ && sampling.temperature >= 0, "not placed, or temperature {}", sampling.temperature);
  check(requests);
  model_.enter(device, StepPhase::evaluation);
  Run run{.requests = requests,
          .sampling = sampling,
          .on_token = on_token,
          .on_end = on_end,
          .results = std::vector<std::vector<int32_t>>(requests.size()),
          .slots = {}};
  while (run.any_waiting() || !run.slots.empty()) {
    while (run.any_waiting() && run.slots.size() < static_cast<size_t>(sequences_)) prefill(device, run);
    write_caches_again(device, run);
    if (!run.slots.empty()) decode(device, run);
  }
  return std::move(run.results);
}

// One forward pass over as many waiting prompts as there are free slots and rows.
template <class Float>
void Generator<Float>::prefill(const Device& device, Run& run) {
  const int max_tokens = model_.options().max_tokens;
  const size_t first = run.slots.size();
  int N = 0, docs = 0;
  const Indices& h = host_;
  h.cu_seqlens[0] = 0;
  for (; run.any_waiting() && run.slots.size() < static_cast<size_t>(sequences_); run.waiting++) {
    const GenerateRequest& r = run.requests[run.waiting];
    const int length = static_cast<int>(r.prompt.size());
    if (r.max_new_tokens <= 0) {
      if (run.on_end) run.on_end(run.waiting);
      continue;
    }
    if (N + length > max_tokens) break;
    for (int i = 0; i < length; i++) {
      h.tokens[N + i] = r.prompt[static_cast<size_t>(i)], h.places[N + i] = i;
      h.positions[N + i] = rope_.first_row(length) + i;
      h.slots[N + i] = static_cast<int32_t>(run.slots.size());
    }
    N += length;
    h.rows[docs++] = N - 1;
    h.cu_seqlens[docs] = N;
    run.slots.push_back({.request = run.waiting, .length = length});
  }
  if (docs > 0) forward_documents(device, run, N, docs, first);
}

template <class Float>
void Generator<Float>::write_caches_again(const Device& device, Run& run) {
  if (rope_.switch_at == 0) return;
  // From the last slot down: a sequence that moves into a free slot was already looked at.
  for (size_t s = run.slots.size(); s-- > 0;) {
    auto& slot = run.slots[s];
    if (slot.length != rope_.switch_at) continue;
    const std::span<const int32_t> prompt = run.requests[slot.request].prompt;
    const std::vector<int32_t>& result = run.results[slot.request];
    const int length = ++slot.length;
    TLL_CHECK(prompt.size() + result.size() == static_cast<size_t>(length), "{} tokens, and {} of a prompt and {} new ones",
              length, prompt.size(), result.size());
    const Indices& h = host_;
    std::copy(result.begin(), result.end(), std::copy(prompt.begin(), prompt.end(), h.tokens));
    for (int i = 0; i < length; i++) {
      h.places[i] = i, h.positions[i] = rope_.first_row(length) + i;
      h.slots[i] = static_cast<int32_t>(s);
    }
    h.rows[0] = length - 1;
    h.cu_seqlens[0] = 0, h.cu_seqlens[1] = length;
    forward_documents(device, run, length, 1, s);
  }
}

template <class Float>
void Generator<Float>::forward_documents(const Device& device, Run& run, int N, int docs, size_t first) {
  const Indices& h = host_;
  const int max_tokens = model_.options().max_tokens;
  const size_t chosen = static_cast<size_t>(docs);
  // Padded to a multiple of 64, so that the shapes of GEMMs repeat, for which algorithms are chosen once. The padding is a
  // document of its own.
  constexpr int kMultiple = 64;
  const int padded = std::min(max_tokens, (N + kMultiple - 1) / kMultiple * kMultiple);
  for (int i = N; i < padded; i++) h.tokens[i] = 0, h.positions[i] = 0, h.places[i] = 0, h.slots[i] = -1;
  if (padded > N) h.cu_seqlens[++docs] = padded;
  upload_indices(device, padded);

  const Indices& d = on_device_;
  Batch batch{.N = padded, .docs = docs, .tokens = d.tokens, .positions = d.positions, .cu_seqlens = d.cu_seqlens};
  if (device.profile) {
    batch.pairs = visible_pairs(h.cu_seqlens, docs, 0);
    batch.window_pairs = visible_pairs(h.cu_seqlens, docs, model_.config().any_window());
  }
  model_.send_embedding(device, host_.tokens, batch.N, kPass);
  model_.embed(device, batch, kPass);
  for (int l = 0; l < model_.config().layers; l++) {
    const RowList read = l + 1 < model_.config().layers ? RowList{} : RowList{d.rows, static_cast<int>(chosen)};
    const Block<Float> block = model_.block(device, batch, l, kPass, read);
    block.project_qkv(model_.resid(l, kPass));
    write_cache(device, l, block.kept().qkv, padded);
    block.attend();
    block.finish(model_.resid(l, kPass), model_.resid(l + 1, kPass));
  }
  model_.final_norm(device, static_cast<int>(chosen), kPass);
  choose(device, run, first, chosen);
}

// One forward pass with a row per live sequence.
template <class Float>
void Generator<Float>::decode(const Device& device, Run& run) {
  const LlamaConfig& c = model_.config();
  const int B = static_cast<int>(run.slots.size()), q_width = c.heads * c.head_dim, stride = q_width + 2 * kv_width_;
  for (int b = 0; b < B; b++) {
    auto& slot = run.slots[static_cast<size_t>(b)];
    host_.tokens[b] = slot.next;
    host_.places[b] = slot.length++;
    host_.slots[b] = b;
    host_.lengths[b] = slot.length;
    host_.positions[b] = rope_.first_row(slot.length) + host_.places[b];
  }
  upload_indices(device, B);
  const Indices& d = on_device_;
  const Batch batch{.N = B, .tokens = d.tokens, .positions = d.positions};
  model_.send_embedding(device, host_.tokens, batch.N, kPass);
  model_.embed(device, batch, kPass);
  for (int l = 0; l < c.layers; l++) {
    const Block<Float> block = model_.block(device, batch, l, kPass);
    block.project_qkv(model_.resid(l, kPass));
    write_cache(device, l, block.kept().qkv, B);
    tll::run(device, AttentionDecode<Float>{.out = block.kept().att.data,
                                            .q = block.kept().qkv,
                                            .k = keys(l, 0),
                                            .v = values(l, 0),
                                            .scores = scores_,
                                            .lengths = d.lengths,
                                            .B = B,
                                            .H = c.heads,
                                            .G = c.kv_heads,
                                            .D = c.head_dim,
                                            .stride = stride,
                                            .capacity = capacity_,
                                            .window = c.window(l),
                                            .scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim)),
                                            .out_stride = block.kept().att.stride});
    block.finish(model_.resid(l, kPass), model_.resid(l + 1, kPass));
  }
  model_.final_norm(device, B, kPass);
  choose(device, run, 0, run.slots.size());
}

template <class Float>
void Generator<Float>::choose(const Device& device, Run& run, size_t first, size_t count) {
  const size_t vocabulary = static_cast<size_t>(model_.config().vocab_size);
  const size_t known = run.sampling.vocab_size > 0 ? static_cast<size_t>(run.sampling.vocab_size) : vocabulary;
  const size_t most = static_cast<size_t>(model_.logit_rows(kPass));
  const size_t stride = on_host(device) ? static_cast<size_t>(model_.logit_stride()) : vocabulary;  // of the host's logits
  const Acc* logits = nullptr;
  for (size_t i = 0; i < count; i++) {
    if (i % most == 0) {
      const int rows = static_cast<int>(std::min(most, count - i));
      logits = model_.logits_from(device, static_cast<int>(i), rows, kPass);
      if (!on_host(device)) {
        model_.download_logits(device, logits_, logits, rows);
        synchronize(device);
        logits = logits_;
      }
    }
    auto& slot = run.slots[first + i];
    const std::vector<int32_t>& result = run.results[slot.request];
    const double uniform = sampling_uniform(run.sampling.seed, slot.request, result.size());
    std::vector<int32_t> text;  // so far, where it matters
    if (run.sampling.repeat_penalty != 1) {
      const std::span<const int32_t> prompt = run.requests[slot.request].prompt;
      text.assign(prompt.begin(), prompt.end());
      text.insert(text.end(), result.begin(), result.end());
    }
    const std::span<const Acc> row(logits + i % most * stride, std::min(known, vocabulary));
    slot.next = sample_token(row, run.sampling, uniform, text);
  }
  // Removes the sequences that ended, from the last slot down. So a sequence that moves into a free slot was already checked.
  for (size_t i = first + count; i-- > first;) {
    const auto slot = run.slots[i];
    const std::vector<int32_t>& eos = run.sampling.eos;
    std::vector<int32_t>& result = run.results[slot.request];
    bool ended = std::find(eos.begin(), eos.end(), slot.next) != eos.end();
    if (!ended) {
      result.push_back(slot.next);
      ended = result.size() >= static_cast<size_t>(run.requests[slot.request].max_new_tokens) || slot.length >= capacity_;
      if (run.on_token && !run.on_token(slot.request, slot.next)) ended = true;
    }
    if (!ended) continue;
    if (run.on_end) run.on_end(slot.request);
    move_slot(device, static_cast<int>(i), static_cast<int>(run.slots.size()) - 1, run.slots.back().length);
    run.slots[i] = run.slots.back();
    run.slots.pop_back();
  }
}

template <class Float>
void Generator<Float>::write_cache(const Device& device, int layer, const Float* qkv, int N) {
  const int q_width = model_.config().heads * model_.config().head_dim;
  tll::run(device, CacheWrite<Float>{.keys = keys(layer, 0),
                                     .values = values(layer, 0),
                                     .k = qkv + q_width,
                                     .v = qkv + q_width + kv_width_,
                                     .slots = on_device_.slots,
                                     .positions = on_device_.places,
                                     .N = N,
                                     .W = kv_width_,
                                     .stride = q_width + 2 * kv_width_,
                                     .capacity = capacity_});
}

template <class Float>
void Generator<Float>::move_slot(const Device& device, int to, int from, int length) {
  if (to == from) return;
  const size_t bytes = static_cast<size_t>(length) * static_cast<size_t>(kv_width_) * sizeof(Float);
  for (int l = 0; l < model_.config().layers; l++) {
    copy_within(device, keys(l, to), keys(l, from), bytes);
    copy_within(device, values(l, to), values(l, from), bytes);
  }
}

template class Generator<float>;
template class Generator<bf16>;
template class Generator<half>;
template class Generator<double>;

}  // namespace tll
