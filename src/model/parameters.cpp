#include "src/model/parameters.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/files/adapter.h"

namespace tll {
namespace {

bool is_outside(const Weight& w) { return w.joint == Joint::embed || w.joint == Joint::head; }

}  // namespace

template <class Float>
Parameters<Float>::Parameters(const LlamaConfig& config, const ModelOptions& options)
    : weights(list_weights(config)), blocks(static_cast<size_t>(config.layers)), options_(options) {
  uint64_t id = 0;
  for (BlockParameters<Float>& block : blocks)
    for (Linear<Float>* linear : block.linears()) linear->id = id++;
  for (Weight& w : weights) {
    w.trained = options.train_all || (options.train_embeddings && is_outside(w));
    w.dtype = w.stored_dtype = dtype_of_weight(w);
    if (Linear<Float>* linear = linear_of(w.layer, w.joint))
      (w.is_bias ? linear->bias : linear->weight) = &w;
    else if (Norm<Float>* norm = norm_of(w))
      norm->C = static_cast<int>(w.rows), norm->eps = config.rms_eps;
    else
      (w.joint == Joint::embed ? embed : head) = &w;
  }
  if (config.tie_embeddings) head = embed;
  for (Weight& w : weights)
    w.on_host = options.offload_embedding && options.device == DeviceKind::cuda && !w.trained && &w == embed && embed != head;
  choose_formats(config);
  trained.name = options.train_all ? "weights" : options.train_embeddings ? "trained" : "lora";
  if (!options.train_all && !is_oracle<Float>) trained.dtype = options.lora_states;
  TLL_CHECK(!options.train_embeddings || trained.dtype == dtype_of<Acc>, "embeddings in {}", dtype_name(trained.dtype));
  list_weights_as_trained();
  if (!options.train_all) list_adapters();
  if (options.join_adapters) join_adapters();
  trained.apart = options.sums_gradients;
  trained.divide(options.ranks);
  trained.splits_values = options.ranks.splits() && options.train_all && trained.compute_dtype() != trained.dtype;
}

template <class Float>
DType Parameters<Float>::dtype_of_weight(const Weight& w) const {
  if (w.is_vector() || w.trained || is_oracle<Float>) return dtype_of<Float>;
  return is_outside(w) ? options_.embeddings.value_or(options_.weights) : options_.weights;
}

// Linear layers of the blocks are quantised: as the checkpoint has them, if that is kept, else as the options say.
template <class Float>
void Parameters<Float>::choose_formats(const LlamaConfig& config) {
  if (options_.train_all || is_oracle<Float>) return;
  const bool kept = options_.keep_quantized && config.quantization;
  quantization_ = kept ? *config.quantization : Quantization::own();
  const bool nested = options_.code == WeightCode::nf4 && options_.double_quant;
  for (Weight& w : weights) {
    if (w.is_vector() || !linear_of(w.layer, w.joint)) continue;
    for (WeightPart& part : w.parts) {
      const auto found = quantization_.tensors.find(part.name);
      if (found != quantization_.tensors.end())
        part.format = found->second;
      else if (!kept)
        part.format = {.code = options_.code, .nested = nested};
    }
  }
}

template <class Float>
std::pair<int64_t, int64_t> Parameters<Float>::largest_quantized() const {
  std::pair<int64_t, int64_t> most = {0, 0};
  for (const Weight& w : weights)
    if (w.is_quantized()) {
      const int64_t cols = w.joined_rank > 0 ? aligned_row(w.cols + w.joined_rank, dtype_of<Float>) : w.cols;
      most = {std::max(most.first, w.rows + w.joined_rank), std::max(most.second, cols)};
    }
  return most;
}

template <class Float>
Linear<Float>* Parameters<Float>::linear_of(int layer, Joint joint) {
  if (layer < 0) return nullptr;
  BlockParameters<Float>& block = blocks[static_cast<size_t>(layer)];
  switch (joint) {
    case Joint::qkv:
      return &block.qkv;
    case Joint::o:
      return &block.o;
    case Joint::gate_up:
      return &block.gate_up;
    case Joint::down:
      return &block.down;
    default:
      return nullptr;
  }
}

template <class Float>
Norm<Float>* Parameters<Float>::norm_of(const Weight& w) {
  switch (w.joint) {
    case Joint::norm1:
      return &blocks[static_cast<size_t>(w.layer)].norm1;
    case Joint::norm2:
      return &blocks[static_cast<size_t>(w.layer)].norm2;
    case Joint::q_norm:
      return &blocks[static_cast<size_t>(w.layer)].q_norm;
    case Joint::k_norm:
      return &blocks[static_cast<size_t>(w.layer)].k_norm;
    case Joint::final_norm:
      return &final_norm;
    default:
      return nullptr;
  }
}

// The flat range begins with the weights that are trained, in the order of the list.
template <class Float>
void Parameters<Float>::list_weights_as_trained() {
  for (const Weight& w : weights)
    if (w.trained)
      for (const WeightPart& part : w.parts)
        trained.add(options_.train_all ? part.name : peft_name(part.name), part.shape, w.layer);
}

// Behind them it holds, for each adapted linear layer, the stacked A, then each B.
template <class Float>
void Parameters<Float>::list_adapters() {
  first_trained = embed->trained ? 0 : static_cast<int>(blocks.size());
  const auto& lora = options_.lora;
  for (size_t begin = 0, end = 0; begin < lora.size(); begin = end) {
    const Module& first = lora[begin].module;
    while (end < lora.size() && lora[end].module.layer == first.layer && lora[end].module.joint == first.joint) end++;
    first_trained = std::min(first_trained, first.layer);
    Linear<Float>* linear = linear_of(first.layer, first.joint);
    TLL_CHECK(linear, "an adapter on {}", first.name);
    for (size_t i = begin; i < end; i++) {
      const auto& [module, rank, scale] = lora[i];
      trained.add(peft_name(module, false), {rank, module.cols}, module.layer);
      linear->ranges.push_back({static_cast<int>(module.first_row), static_cast<int>(module.rows), linear->rank, rank, scale});
      linear->rank += rank;
    }
    for (size_t i = begin; i < end; i++)
      trained.add(peft_name(lora[i].module, true), {lora[i].module.rows, lora[i].rank}, first.layer);
  }
}

// An adapter can be joined to a weight that a GEMM multiplies in the type of the activations. The CPU's GEMM of quantised weights
// decodes them where it packs its operand, which has no room for the adapter.
template <class Float>
void Parameters<Float>::join_adapters() {
  bool all = true;
  for (Weight& w : weights) {
    Linear<Float>* linear = w.is_bias ? nullptr : linear_of(w.layer, w.joint);
    if (!linear || linear->rank == 0) continue;
    linear->joined = w.is_quantized() ? options_.device == DeviceKind::cuda : w.dtype == dtype_of<Float>;
    if (linear->joined) w.joined_rank = linear->rank, w.joined_dtype = dtype_of<Float>;
    all = all && linear->joined;
  }
  trained.computed = !all || std::any_of(weights.begin(), weights.end(), [](const Weight& w) { return w.trained; });
}

template <class Float>
void Parameters<Float>::place(Arena& arena, Arena* staging) {
  const auto any_part = [&](const auto& has) {
    return std::any_of(weights.begin(), weights.end(), [&](const Weight& w) {
      return std::any_of(w.parts.begin(), w.parts.end(), [&](const WeightPart& part) { return has(part.format); });
    });
  };
  const auto count = [](const auto& tables) { return static_cast<int64_t>(tables.size()); };
  if (any_part([](const QuantizedFormat& f) { return f.is_4bit(); }))
    arena.place(tables_.books, "quantization.books", {count(quantization_.books), 16}, Category::parameters);
  if (any_part([](const QuantizedFormat& f) { return f.nested; }))
    arena.place(tables_.maps, "quantization.maps", {count(quantization_.maps), 256}, Category::parameters);
  shards.place(arena, options_.ranks, static_cast<int>(blocks.size()), weights, tables_);
  for (Weight& w : weights)
    if (!w.trained && !shards.holds(w)) w.place(w.on_host ? *staging : arena, tables_);
  // On a GPU the gradients of one block are on their way to other ranks while those of the next are computed.
  trained.place(arena, options_.gradients, options_.device == DeviceKind::cuda && options_.ranks.size > 1 ? 2 : 1);
  if (!arena.placing()) return;
  joined_.clear();
  point_weights();
  if (!options_.train_all) point_adapters();
}

template <class Float>
void Parameters<Float>::refresh_compute_copies(const Device& device) const {
  trained.refresh_compute_copy(device);
  for (const Joined& joined : joined_)
    if (!joined.in_slot) run(device, joined.op);
}

template <class Float>
void Parameters<Float>::need_block(const Device& device, int layer, int next) {
  if (!shards.need(device, layer, next)) return;
  for (const Joined& joined : joined_)
    if (joined.in_slot && joined.layer == layer) run(device, joined.op);
}

template <class Float>
void Parameters<Float>::initialize(const Device& device) const {
  const auto fill = [&](float* to, const auto& tables) {
    if (to) upload(device, to, tables.data(), tables.size() * sizeof(tables[0]));
  };
  shards.clear(device);
  fill(tables_.books, quantization_.books);
  fill(tables_.maps, quantization_.maps);
}

// Walks the flat range in the order of list_weights_as_trained(). Layers get pointers to their norms and gradients.
template <class Float>
void Parameters<Float>::point_weights() {
  int64_t offset = 0;
  for (Weight& w : weights) {
    Acc* gradient = nullptr;
    if (w.trained) {
      w.data = static_cast<Float*>(trained.compute) + offset;
      w.stored = trained.splits_values ? nullptr : trained.value(offset), w.stored_dtype = trained.dtype;
      if (trained.gradients) gradient = trained.acc_gradient(offset);
      offset += w.count();
    }
    if (Linear<Float>* linear = linear_of(w.layer, w.joint))
      (w.is_bias ? linear->dbias : linear->dw) = gradient;
    else if (Norm<Float>* norm = norm_of(w))
      norm->w = static_cast<const Float*>(w.data), norm->dw = gradient;
    else
      (w.joint == Joint::embed ? dembed : dhead) = gradient;
  }
  if (head == embed) dhead = dembed;
}

// Walks what follows, in the order of list_adapters().
template <class Float>
void Parameters<Float>::point_adapters() {
  int64_t offset = 0;
  for (const Weight& w : weights) offset += w.trained ? w.count() : 0;
  const auto next = [&](ConstMatrix& value, Matrix& gradient, int rows, int cols) {
    value = trained.compute_matrix(offset, rows, cols);
    gradient = trained.gradient_matrix(offset, rows, cols);
    offset += int64_t{rows} * cols;
  };
  for (BlockParameters<Float>& block : blocks)
    for (Linear<Float>* linear : block.linears()) {
      if (linear->rank == 0) continue;
      const int64_t first = offset;
      next(linear->a, linear->da, linear->rank, linear->in());
      for (LoraRange& r : linear->ranges) {
        next(r.b, r.db, r.rows, r.rank);
        r.b_scale = r.scale;
      }
      if (linear->joined) point_joined(*linear, first);
    }
}

// An adapter whose values begin at `offset`.
template <class Float>
void Parameters<Float>::point_joined(Linear<Float>& linear, int64_t offset) {
  const Matrix a = linear.weight->joined_a(), b = linear.weight->joined_b();
  JoinAdapters op{.a = a, .b = b, .a_value = trained.value_matrix(offset, linear.rank, linear.in())};
  offset += int64_t{linear.rank} * linear.in();
  linear.a = a;
  for (LoraRange& r : linear.ranges) {
    r.b = ConstMatrix(b).rows(r.first_row, r.rows).cols(r.first_rank, r.rank);
    r.b_scale = 1;
    op.ranges[op.range_count++] = {trained.value_matrix(offset, r.rows, r.rank), r.first_row, r.first_rank, r.scale};
    offset += int64_t{r.rows} * r.rank;
  }
  joined_.push_back({linear.weight->layer, shards.holds(*linear.weight), op});
}

template class Parameters<float>;
template class Parameters<bf16>;
template class Parameters<half>;
template class Parameters<double>;
template class Parameters<complex>;

}  // namespace tll
