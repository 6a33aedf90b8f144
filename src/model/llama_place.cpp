// The one list of tensors of a model: weights, what is trained, activations, scratch.
#include <algorithm>

#include "kernels/attention.h"
#include "src/base/check.h"
#include "src/files/adapter.h"
#include "src/model/device_memory.h"
#include "src/model/llama.h"
#include "src/model/rope_frequencies.h"

namespace tll {
namespace {

struct Pattern {
  const char* suffix;  // of the checkpoint's name, behind "model.layers.N."
  WeightKind kind;
  const char* name;  // of the joint matrix
};
constexpr Pattern kPatterns[] = {
    {"input_layernorm.weight", WeightKind::norm1, "norm1"},
    {"self_attn.q_proj.weight", WeightKind::qkv, "qkv"},
    {"self_attn.k_proj.weight", WeightKind::qkv, "qkv"},
    {"self_attn.v_proj.weight", WeightKind::qkv, "qkv"},
    {"self_attn.q_proj.bias", WeightKind::qkv_bias, "qkv_bias"},
    {"self_attn.k_proj.bias", WeightKind::qkv_bias, "qkv_bias"},
    {"self_attn.v_proj.bias", WeightKind::qkv_bias, "qkv_bias"},
    {"self_attn.o_proj.weight", WeightKind::o, "o"},
    {"self_attn.o_proj.bias", WeightKind::o_bias, "o_bias"},
    {"post_attention_layernorm.weight", WeightKind::norm2, "norm2"},
    {"mlp.gate_proj.weight", WeightKind::gate_up, "gate_up"},
    {"mlp.up_proj.weight", WeightKind::gate_up, "gate_up"},
    {"mlp.gate_proj.bias", WeightKind::gate_up_bias, "gate_up_bias"},
    {"mlp.up_proj.bias", WeightKind::gate_up_bias, "gate_up_bias"},
    {"mlp.down_proj.weight", WeightKind::down, "down"},
    {"mlp.down_proj.bias", WeightKind::down_bias, "down_bias"},
};

// Which joint matrix a tensor of the checkpoint belongs to.
WeightSlot slot_of(const WeightSpec& spec) {
  constexpr std::string_view kLayers = "model.layers.";
  if (spec.name == "model.embed_tokens.weight") return {.kind = WeightKind::embed, .layer = -1, .name = "embed", .parts = {}};
  if (spec.name == "model.norm.weight") return {.kind = WeightKind::final_norm, .layer = -1, .name = "final_norm", .parts = {}};
  if (spec.name == "lm_head.weight") return {.kind = WeightKind::head, .layer = -1, .name = "head", .parts = {}};
  TLL_CHECK(spec.name.starts_with(kLayers), "weight {}", spec.name);
  const size_t dot = spec.name.find('.', kLayers.size());
  const std::string number = spec.name.substr(kLayers.size(), dot - kLayers.size()), suffix = spec.name.substr(dot + 1);
  for (const Pattern& p : kPatterns)
    if (suffix == p.suffix)
      return {.kind = p.kind, .layer = std::stoi(number), .name = "layers." + number + "." + p.name, .parts = {}};
  check_failed("every weight has a place", __FILE__, __LINE__, spec.name);
}

template <class Float>
Linear<Float>& linear_of(Layer<Float>& l, Target target) {
  switch (target) {
    case Target::q:
    case Target::k:
    case Target::v:
      return l.qkv;
    case Target::o:
      return l.o;
    case Target::gate:
    case Target::up:
      return l.gate_up;
    case Target::down:
      return l.down;
  }
  __builtin_unreachable();
}

}  // namespace

std::vector<WeightSlot> weight_slots(const LlamaConfig& config) {
  std::vector<WeightSlot> slots;
  for (const WeightSpec& spec : weight_specs(config)) {
    WeightSlot slot = slot_of(spec);
    auto same = std::find_if(slots.begin(), slots.end(),
                             [&](const WeightSlot& s) { return s.kind == slot.kind && s.layer == slot.layer; });
    if (same == slots.end()) same = slots.insert(slots.end(), std::move(slot));
    same->rows += spec.shape[0];
    same->cols = spec.shape.size() > 1 ? spec.shape[1] : 1;
    same->parts.push_back(spec);
  }
  return slots;
}

template <class Float>
Llama<Float>::Llama(const LlamaConfig& config, const ModelOptions& options) : config_(config), options_(options) {
  TLL_CHECK(options.max_tokens > 0 && options.max_positions > 0 && options.threads > 0, "tokens {} positions {} threads {}",
            options.max_tokens, options.max_positions, options.threads);
  layers_.resize(static_cast<size_t>(config.layers));
  acts_.resize(options.recompute || !options.gradients ? 1 : layers_.size());
  resid_.resize(layers_.size() + 1);
  slots_ = weight_slots(config);
  // Logits of a chunk of rows take so much at most: enough rows to keep the head's product efficient.
  const bool cuda = options.device == DeviceKind::cuda;
  const int64_t logit_bytes = cuda ? 256 << 20 : 64 << 20, row_bytes = config.vocab_size * static_cast<int64_t>(sizeof(Acc));
  chunk_ = static_cast<int>(std::clamp<int64_t>(logit_bytes / row_bytes, 32, cuda ? 4096 : 1024));
  if (cuda) chunk_ = (chunk_ + 63) / 64 * 64;
  chunk_ = std::min(chunk_, options.max_tokens);

  for (Layer<Float>& l : layers_) {
    for (int t = 0; t < kTargets; t++) {
      const LinearShape shape = linear_shape(config, static_cast<Target>(t));
      Linear<Float>& linear = linear_of(l, static_cast<Target>(t));
      linear.in = static_cast<int>(shape.in), linear.out += static_cast<int>(shape.out), linear.dtype = weight_dtype();
    }
  }
  list_trained();
}

// Offsets in the flat range: every weight in the checkpoint's order, or for each adapted linear layer its stacked A, then each B.
template <class Float>
void Llama<Float>::list_trained() {
  if (options_.train_all) {
    for (WeightSlot& slot : slots_) {
      slot.offset = trained_count_;
      for (const WeightSpec& part : slot.parts) {
        trained_.push_back({part.name, part.shape, trained_count_});
        trained_count_ += trained_.back().size();
      }
    }
    return;
  }
  first_trained_ = config_.layers;
  for (size_t i = 0; i < options_.lora.size();) {
    // The targets that share an input: a run of one layer's list.
    const int layer = options_.lora[i].layer;
    Layer<Float>& l = layers_[static_cast<size_t>(layer)];
    Linear<Float>& linear = linear_of(l, options_.lora[i].target);
    size_t end = i;
    while (end < options_.lora.size() && options_.lora[end].layer == layer && &linear_of(l, options_.lora[end].target) == &linear)
      end++;
    first_trained_ = std::min(first_trained_, layer);
    for (size_t j = i; j < end; j++) {
      const LoraTarget& t = options_.lora[j];
      trained_.push_back({peft_name(layer, t.target, false), {t.rank, linear.in}, trained_count_});
      trained_count_ += trained_.back().size();
    }
    for (size_t j = i; j < end; j++) {
      const LoraTarget& t = options_.lora[j];
      // k lies below q in their joint matrix, v below k, up below gate.
      int first_row = 0;
      for (int before = 0; before < static_cast<int>(t.target); before++)
        if (&linear_of(l, static_cast<Target>(before)) == &linear)
          first_row += static_cast<int>(linear_shape(config_, static_cast<Target>(before)).out);
      const int rows = static_cast<int>(linear_shape(config_, t.target).out);
      trained_.push_back({peft_name(layer, t.target, true), {rows, t.rank}, trained_count_});
      trained_count_ += trained_.back().size();
      linear.ranges.push_back({first_row, rows, linear.rank, t.rank, t.scale, nullptr, nullptr});
      linear.rank += t.rank;
    }
    i = end;
  }
}

template <class Float>
void Llama<Float>::place(Arena& arena) {
  place_weights(arena);
  place_trained(arena);
  place_activations(arena);
  place_scratch(arena);
}

template <class Float>
void Llama<Float>::place_weights(Arena& arena) {
  if (options_.train_all) return;
  for (WeightSlot& slot : slots_) {
    const std::vector<int64_t> shape =
        slot.matrix() ? std::vector<int64_t>{slot.rows, slot.cols} : std::vector<int64_t>{slot.rows};
    slot.data = arena.place_bytes(slot.name, shape, slot.matrix() ? weight_dtype() : dtype_of<Float>, Category::parameters);
  }
}

template <class Float>
void Llama<Float>::place_trained(Arena& arena) {
  const std::string name = options_.train_all ? "weights" : "lora";
  if (trained_count_ > 0) {
    arena.place(values_, name + ".values", {trained_count_}, Category::parameters);
    if constexpr (std::is_same_v<Float, Acc>)
      compute_ = values_;
    else
      arena.place(compute_, name + ".compute", {trained_count_}, Category::parameters);
    if (options_.gradients) arena.place(gradients_, name + ".gradients", {trained_count_}, Category::gradients);
    if (options_.gradients && options_.optimizer) {
      arena.place(moment1_, name + ".m", {trained_count_}, Category::optimizer);
      arena.place(moment2_, name + ".v", {trained_count_}, Category::optimizer);
    }
  }
  if (!arena.placing()) return;
  if (options_.train_all)
    for (WeightSlot& slot : slots_) slot.data = compute_ + slot.offset;
  point_weights();
  point_lora();
}

// Hands each slot to the layer that uses it.
template <class Float>
void Llama<Float>::point_weights() {
  weight_places_.clear();
  for (const WeightSlot& slot : slots_) {
    Acc* gradient = options_.train_all && gradients_ ? gradients_ + slot.offset : nullptr;
    const Float* vector = static_cast<const Float*>(slot.data);
    Layer<Float>* l = slot.layer >= 0 ? &layers_[static_cast<size_t>(slot.layer)] : nullptr;
    const auto weight = [&](Linear<Float>& linear) { linear.w = slot.data, linear.dw = gradient; };
    const auto bias = [&](Linear<Float>& linear) { linear.bias = vector, linear.dbias = gradient; };
    switch (slot.kind) {
      case WeightKind::embed:
        embed_ = slot.data, dembed_ = gradient;
        break;
      case WeightKind::head:
        head_ = slot.data, dhead_ = gradient;
        break;
      case WeightKind::final_norm:
        final_norm_ = {vector, gradient};
        break;
      case WeightKind::norm1:
        l->norm1 = {vector, gradient};
        break;
      case WeightKind::norm2:
        l->norm2 = {vector, gradient};
        break;
      case WeightKind::qkv:
        weight(l->qkv);
        break;
      case WeightKind::qkv_bias:
        bias(l->qkv);
        break;
      case WeightKind::o:
        weight(l->o);
        break;
      case WeightKind::o_bias:
        bias(l->o);
        break;
      case WeightKind::gate_up:
        weight(l->gate_up);
        break;
      case WeightKind::gate_up_bias:
        bias(l->gate_up);
        break;
      case WeightKind::down:
        weight(l->down);
        break;
      case WeightKind::down_bias:
        bias(l->down);
        break;
    }
    // Loading goes to the master copy where the weights are trained.
    const DType dtype = options_.train_all ? dtype_of<Acc> : slot.matrix() ? weight_dtype() : dtype_of<Float>;
    auto* to = static_cast<std::byte*>(options_.train_all ? static_cast<void*>(values_ + slot.offset) : slot.data);
    for (const WeightSpec& part : slot.parts) {
      weight_places_.push_back({part.name, part.shape, to, dtype});
      to += element_count(part.shape) * static_cast<int64_t>(dtype_bytes(dtype));
    }
  }
  if (config_.tie_embeddings) head_ = embed_, dhead_ = dembed_;
}

template <class Float>
void Llama<Float>::point_lora() {
  size_t next = 0;  // trained_ is in the order of list_trained()
  for (Layer<Float>& layer : layers_) {
    for (Linear<Float>* linear : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      if (linear->rank == 0) continue;
      linear->a = compute_ + trained_[next].offset;
      linear->da = gradients_ ? gradients_ + trained_[next].offset : nullptr;
      next += linear->ranges.size();
      for (LoraRange<Float>& range : linear->ranges) {
        range.b = compute_ + trained_[next].offset;
        range.db = gradients_ ? gradients_ + trained_[next].offset : nullptr;
        next++;
      }
    }
  }
}

template <class Float>
std::vector<WeightPlace> Llama<Float>::weight_places() const {
  return weight_places_;
}

template <class Float>
void Llama<Float>::place_activations(Arena& arena) {
  const int64_t N = options_.max_tokens, C = config_.hidden, F = config_.intermediate, V = config_.vocab_size, H = config_.heads;
  const int64_t att = H * config_.head_dim, qkv = layers_[0].qkv.out;
  const auto place = [&](auto*& pointer, const std::string& name, std::vector<int64_t> shape) {
    arena.place(pointer, name, shape, Category::activations);
  };
  // Without gradients two residuals take turns, and all blocks share one set of activations.
  for (size_t l = 0; l < resid_.size(); l++) {
    if (!options_.gradients && l >= 2)
      resid_[l] = resid_[l - 2];
    else
      place(resid_[l], "resid." + std::to_string(l), {N, C});
  }
  for (size_t l = 0; l < acts_.size(); l++) {
    BlockActivations<Float>& a = acts_[l];
    const std::string at = acts_.size() == 1 ? "block." : "layers." + std::to_string(l) + ".";
    place(a.ln1, at + "ln1", {N, C});
    place(a.rstd1, at + "rstd1", {N});
    place(a.qkv, at + "qkv", {N, qkv});
    place(a.att, at + "att", {N, att});
    place(a.lse, at + "lse", {H, N});
    place(a.mid, at + "mid", {N, C});
    place(a.ln2, at + "ln2", {N, C});
    place(a.rstd2, at + "rstd2", {N});
    place(a.gate_up, at + "gate_up", {N, 2 * F});
    // The widest of the layers that share this set.
    int r_qkv = 0, r_o = 0, r_gate_up = 0, r_down = 0;
    for (size_t i = acts_.size() == 1 ? 0 : l; i < (acts_.size() == 1 ? layers_.size() : l + 1); i++) {
      r_qkv = std::max(r_qkv, layers_[i].qkv.rank), r_o = std::max(r_o, layers_[i].o.rank);
      r_gate_up = std::max(r_gate_up, layers_[i].gate_up.rank), r_down = std::max(r_down, layers_[i].down.rank);
    }
    if (r_qkv) place(a.u_qkv, at + "u_qkv", {N, r_qkv});
    if (r_o) place(a.u_o, at + "u_o", {N, r_o});
    if (r_gate_up) place(a.u_gate_up, at + "u_gate_up", {N, r_gate_up});
    if (r_down) place(a.u_down, at + "u_down", {N, r_down});
  }
  place(act_, "act", {N, F});
  place(final_, "final", {N, C});
  place(rstd_final_, "rstd_final", {N});
  place(head_in_, "head_in", {chunk_, C});
  place(logits_, "logits", {chunk_, V});
  place(losses_, "losses", {chunk_});
  place(rows_, "target_rows", {N});
  place(row_targets_, "row_targets", {N});
  loss_ = static_cast<loss_t<Float>*>(arena.place_bytes("loss", {1}, dtype_of<loss_t<Float>>, Category::activations));
  place(loss_scale_, "loss_scale", {1});
  if (!options_.gradients) return;
  place(dhead_in_, "dhead_in", {chunk_, C});
  place(dresid_, "dresid", {N, C});
  place(dln_, "dln", {N, C});
  place(dqkv_, "dqkv", {N, qkv});
  place(datt_, "datt", {N, att});
  place(dact_, "dact", {N, F});
}

template <class Float>
void Llama<Float>::place_scratch(Arena& arena) {
  const int64_t N = options_.max_tokens, P = options_.max_positions, D = config_.head_dim;
  const auto place = [&](auto*& pointer, const std::string& name, std::vector<int64_t> shape) {
    arena.place(pointer, name, shape, Category::scratch);
  };
  place(inv_freq_, "rope.inv_freq", {D / 2});
  place(cos_, "rope.cos", {P, D / 2});
  place(sin_, "rope.sin", {P, D / 2});
  int rank = 0;
  int64_t widest = std::max<int64_t>(config_.hidden, config_.intermediate);
  for (const Layer<Float>& l : layers_)
    for (const Linear<Float>* linear : {&l.qkv, &l.o, &l.gate_up, &l.down}) {
      rank = std::max(rank, linear->rank);
      widest = std::max<int64_t>({widest, linear->in, linear->out, linear->rank});
    }
  if (rank > 0) place(z_, "z", {N, rank});
  if (options_.dropout > 0) place(dropped_, "dropped", {N, widest});
  const bool cuda = options_.device == DeviceKind::cuda;
  matmul_scratch_size_ = cuda ? Matmul<Acc>::kCudaScratch : Matmul<Acc>::scratch_floats(options_.threads);
  if (matmul_scratch_size_ > 0) place(matmul_scratch_, "matmul", {matmul_scratch_size_});
  const int threads = options_.threads, H = config_.heads, head_dim = config_.head_dim;
  int64_t attention = cuda ? 0 : AttentionForward<Float>::scratch_floats(head_dim, threads);
  if (options_.gradients)
    attention = std::max(attention, cuda ? AttentionBackward<Float>::cuda_scratch_floats(N, H)
                                         : AttentionBackward<Float>::scratch_floats(N, H, head_dim, threads));
  if (attention > 0) place(attention_scratch_, "attention", {attention});
}

template <class Float>
void Llama<Float>::initialize(const Device& device) {
  const std::vector<float> inv_freq = rope_inverse_frequencies(config_);
  upload(device, inv_freq_, inv_freq.data(), inv_freq.size() * sizeof(float));
  run(device,
      RopeTable<Float>{.cos = cos_, .sin = sin_, .inv_freq = inv_freq_, .P = options_.max_positions, .D = config_.head_dim});
  synchronize(device);
}

template class Llama<float>;
template class Llama<bf16>;
template class Llama<half>;
template class Llama<double>;
template class Llama<complex>;

}  // namespace tll
