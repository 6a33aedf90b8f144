#include "src/model/llama.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/reduce.h"
#include "src/base/check.h"

namespace tll {

template <class Float>
Llama<Float>::Llama(const LlamaConfig& config, const ModelOptions& options)
    : config_(config), options_(options), parameters_(config, options), activations_(config, options) {
  TLL_CHECK(options.max_tokens > 0 && options.max_positions > 0 && options.threads > 0, "tokens {} positions {} threads {}",
            options.max_tokens, options.max_positions, options.threads);
}

template <class Float>
void Llama<Float>::place_activations(Arena& arena, Arena* staging) {
  activations_.place(arena, staging, parameters_);
  if (parameters_.embed->on_host) host_embedding_.place(*staging, *parameters_.embed, options_.max_tokens);
}

template <class Float>
void Llama<Float>::send_embedding(const Device& device, const int32_t* tokens, int N, PassKind kind) {
  if (host_embedding_.used()) host_embedding_.send(device, resid(0, kind), tokens, N);
}

// ---- forward ----------------------------------------------------------------------------------------------------------------

template <class Float>
void Llama<Float>::forward(const Device& device, const Batch& batch, PassKind kind) {
  const bool training = options_.gradients && kind == PassKind::training;
  ResidualStream<Float>& residuals = activations_.residuals;
  const int first = parameters_.first_trained;
  embed(device, batch, kind);
  if (batch.read == RowsRead::targets)
    run(device, ListTargets<Float>{.rows = activations_.pass(kind).rows,
                                   .row_targets = activations_.pass(kind).row_targets,
                                   .targets = batch.targets,
                                   .N = batch.N,
                                   .capacity = rows_read(batch)});
  if (training) residuals.after_write(device, 0, first, batch.N);
  for (int l = 0; l < config_.layers; l++) {
    if (training) residuals.before_write(device, l + 1, first);
    block(device, batch, l, kind, rows_of_block(batch, l, kind)).forward(resid(l, kind), resid(l + 1, kind));
    if (training) residuals.after_write(device, l + 1, first, batch.N);
  }
  final_norm(device, rows_read(batch), kind);
}

// Of the last block's result: at least one, so that no op runs on nothing.
template <class Float>
int Llama<Float>::rows_read(const Batch& batch) const {
  if (batch.read == RowsRead::all) return batch.N;
  const auto counted = [&] { return std::count_if(batch.targets, batch.targets + batch.N, [](int32_t t) { return t >= 0; }); };
  return std::max(1, batch.target_rows >= 0 ? batch.target_rows : static_cast<int>(counted()));
}

// What a block computes of its result: all but for the last one.
template <class Float>
RowList Llama<Float>::rows_of_block(const Batch& batch, int layer, PassKind kind) const {
  if (batch.read == RowsRead::all || layer + 1 < config_.layers) return {};
  return {activations_.pass(kind).rows, rows_read(batch)};
}

template <class Float>
void Llama<Float>::embed(const Device& device, const Batch& batch, PassKind kind) {
  TLL_CHECK(batch.N <= options_.max_tokens, "{} tokens, planned for {}", batch.N, options_.max_tokens);
  const Weight& table = *parameters_.embed;
  enter(device, activations_.pass(kind).forward.attention);
  parameters_.shards.begin_pass();
  if (host_embedding_.used()) return;
  run(device, EmbeddingForward<Float>{.out = resid(0, kind),
                                      .table = table.data,
                                      .table_dtype = table.dtype,
                                      .ids = batch.tokens,
                                      .N = batch.N,
                                      .C = config_.hidden,
                                      .V = config_.vocab_size});
}

template <class Float>
Block<Float> Llama<Float>::block(const Device& device, const Batch& batch, int layer, PassKind kind, RowList read) {
  parameters_.need_block(device, layer, layer + 1 < config_.layers ? layer + 1 : -1);
  const BlockParameters<Float>& parameters = parameters_.blocks[static_cast<size_t>(layer)];
  return {device, config_, options_, parameters, activations_.pass(kind).forward, layer, activations_, batch, read};
}

template <class Float>
void Llama<Float>::final_norm(const Device& device, int R, PassKind kind) {
  const PassActivations<Float>& pass = activations_.pass(kind);
  enter(device, pass.head);
  parameters_.final_norm.forward(device, {pass.final, config_.hidden}, pass.rstd_final, resid(config_.layers, kind), R);
}

template <class Float>
const acc_t<Float>* Llama<Float>::logits_from(const Device& device, int first, int count, PassKind kind) {
  const PassActivations<Float>& a = activations_.pass(kind);
  TLL_CHECK(a.logits_dtype == dtype_of<Acc>, "logits in {}", dtype_name(a.logits_dtype));
  head(device, a.final + int64_t{first} * config_.hidden, count, kind);
  return static_cast<const Acc*>(a.logits);
}

template <class Float>
void Llama<Float>::head(const Device& device, const Float* normalised, int count, PassKind kind) {
  const PassActivations<Float>& a = activations_.pass(kind);
  TLL_CHECK(count <= a.chunks.most, "{} rows of logits, planned for {}", count, a.chunks.most);
  const int C = config_.hidden, V = config_.vocab_size;
  run(device, Matmul<Acc>{.out = {a.logits, a.logits_dtype, count, V, logit_stride()},
                          .a = matrix(normalised, count, C),
                          .b = parameters_.head->matrix().t(),
                          .scratch = activations_.matmul,
                          .role = "head logits"});
}

template <class Float>
void Llama<Float>::download_logits(const Device& device, Acc* to, const Acc* logits, int count) const {
  const int64_t V = config_.vocab_size, stride = logit_stride();
  const int64_t rows = stride == V ? count : 1;  // at once; what lies between others was never written
  for (int64_t r = 0; r < count; r += rows)
    download(device, to + r * V, logits + r * stride, static_cast<size_t>(rows * V) * sizeof(Acc));
}

// ---- the loss, and the backward pass of the head ------------------------------------------------------------------------------

// The gradient of the logits overwrites them, in type Float. Each of its rows starts where the row of logits starts, so its
// stride in elements is larger where its type is smaller.
template <class Float>
int64_t gradient_stride(const PassActivations<Float>& pass, int64_t logit_stride) {
  return logit_stride * static_cast<int64_t>(dtype_bytes(pass.logits_dtype) / sizeof(Float));
}

template <class Float>
void Llama<Float>::add_loss(const Device& device, const Batch& batch, loss_t<Float>* sum, const double* scale, PassKind kind) {
  const PassActivations<Float>& a = activations_.pass(kind);
  const RowChunks& chunks = a.chunks;
  const int count = rows_read(batch), C = config_.hidden, V = config_.vocab_size;
  const int32_t* const targets = batch.read == RowsRead::all ? batch.targets : a.row_targets;
  if (scale) tell_sink(device, -1, &GradientSink::begin);
  for (int i = 0; i < chunks.number(count); i++) {
    const int first = chunks.begin(count, i), rows = chunks.begin(count, i + 1) - first;
    Acc* const losses = a.losses + (a.every_loss ? first : 0);
    head(device, a.final + int64_t{first} * C, rows, kind);
    run(device, CrossEntropy<Float>{.logits = a.logits,
                                    .logits_dtype = a.logits_dtype,
                                    .logits_stride = logit_stride(),
                                    .losses = losses,
                                    .targets = targets + first,
                                    .dlogits = scale ? static_cast<Float*>(a.logits) : nullptr,
                                    .dlogits_stride = gradient_stride(a, logit_stride()),
                                    .scale = scale,
                                    .rows = rows,
                                    .V = V});
    run(device, AddUp<Float>{.sum = sum, .x = losses, .n = rows});
    if (scale) head_backward(device, first, rows);
  }
}

// The gradient of the head's input, and of the head if it is trained. After this the chunk's logits are no longer needed.
template <class Float>
void Llama<Float>::head_backward(const Device& device, int first, int rows) {
  const PassActivations<Float>& a = activations_.pass(PassKind::training);
  const Scratch& scratch = activations_.matmul;
  const int C = config_.hidden, V = config_.vocab_size;
  const ConstMatrix dlogits = matrix(static_cast<const Float*>(a.logits), rows, V, gradient_stride(a, logit_stride()));
  const int64_t at = int64_t{first} * C;
  run(device, Matmul<Acc>{.out = matrix(activations_.dln + at, rows, C),
                          .a = dlogits,
                          .b = parameters_.head->matrix(),
                          .scratch = scratch,
                          .role = "head dx"});
  if (parameters_.dhead)
    run(device, Matmul<Acc>{.out = matrix(parameters_.dhead, V, C),
                            .a = dlogits.t(),
                            .b = matrix(a.final + at, rows, C),
                            .accumulate = true,
                            .scratch = scratch,
                            .role = "head dW"});
}

template <class Float>
loss_t<Float> Llama<Float>::loss(const Device& device, const Batch& batch, double scale, bool gradient) {
  const Activations<Float>& a = activations_;
  set_zero(device, a.loss, sizeof(*a.loss));
  upload(device, a.loss_scale, &scale, sizeof(scale));
  add_loss(device, batch, a.loss, gradient ? a.loss_scale : nullptr);
  return HostCopy(device, a.loss, 1)[0];
}

// ---- backward, from the final norm to the embedding ---------------------------------------------------------------------------

template <class Float>
void Llama<Float>::backward(const Device& device, const Batch& batch) {
  const Activations<Float>& a = activations_;
  const PassActivations<Float>& pass = a.pass(PassKind::training);
  const int C = config_.hidden, L = config_.layers, read = rows_read(batch);
  set_zero(device, a.dresid.data, static_cast<size_t>(read) * static_cast<size_t>(a.dresid.stride) * sizeof(Float));
  parameters_.final_norm.backward(device, a.dresid, a.dln, a.residuals.at(L), pass.rstd_final, read);
  for (int l = L - 1; l >= parameters_.first_trained; l--) {
    parameters_.need_block(device, l, l > parameters_.first_trained ? l - 1 : -1);
    const Block<Float> b(device, config_, options_, parameters_.blocks[static_cast<size_t>(l)], pass.backward, l, a, batch,
                         rows_of_block(batch, l, PassKind::training));
    activations_.residuals.before_backward(device, l, parameters_.first_trained, batch.N);
    tell_sink(device, l, &GradientSink::begin);
    b.backward(a.residuals.at(l), parameters_.dembed || l > parameters_.first_trained);
    tell_sink(device, l, &GradientSink::complete);
  }
  if (parameters_.dembed)
    run(device, EmbeddingBackward<Float>{.dtable = parameters_.dembed,
                                         .dout = a.dresid.data,
                                         .ids = batch.tokens,
                                         .N = batch.N,
                                         .C = C,
                                         .V = config_.vocab_size,
                                         .padding_id = config_.pad.value_or(-1),
                                         .dout_stride = a.dresid.stride});
  tell_sink(device, -1, &GradientSink::complete);
}

// Of the buckets of a block, or of those outside the blocks, which are complete when all is.
template <class Float>
void Llama<Float>::tell_sink(const Device& device, int layer, void (GradientSink::*what)(const Device&, size_t)) const {
  if (!sink_) return;
  const std::vector<Bucket>& buckets = parameters_.trained.shards.buckets();
  for (size_t b = 0; b < buckets.size(); b++)
    if (buckets[b].layer == layer) (sink_->*what)(device, b);
}

template class Llama<float>;
template class Llama<bf16>;
template class Llama<half>;
template class Llama<double>;
template class Llama<complex>;

}  // namespace tll
