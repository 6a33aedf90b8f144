// Forward and backward over the whole model. Each step of the backward pass mirrors one of the forward pass, in reverse.
#include "src/model/llama.h"

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "src/model/device_memory.h"

namespace tll {

template <class Float>
LinearScratch<Float> Llama<Float>::linear_scratch() const {
  return {.matmul = matmul_scratch_,
          .matmul_size = matmul_scratch_size_,
          .z = z_,
          .dropped = dropped_,
          .dropout = dropout_key_ ? options_.dropout : 0.0,
          .dropout_key = dropout_key_};
}

template <class Float>
void Llama<Float>::packed_attention(const Device& device, int layer, const Batch& batch, const Float* qkv, Float* att) {
  const int H = config_.heads, G = config_.kv_heads, D = config_.head_dim;
  run(device, AttentionForward<Float>{.out = att,
                                      .lse = acts(layer).lse,
                                      .q = qkv,
                                      .k = qkv + H * D,
                                      .v = qkv + (H + G) * D,
                                      .scratch = attention_scratch_,
                                      .sizes = {.cu_seqlens = batch.cu_seqlens,
                                                .docs = batch.docs,
                                                .N = batch.N,
                                                .H = H,
                                                .G = G,
                                                .D = D,
                                                .stride = layers_[static_cast<size_t>(layer)].qkv.out,
                                                .window = 0,
                                                .threads = options_.threads,
                                                .scale = 1.0 / std::sqrt(static_cast<double>(D)),
                                                .pairs = batch.pairs}});
}

template <class Float>
void Llama<Float>::block(const Device& device, int layer, const Batch& batch, Float* out) {
  block_forward(device, layer, batch.positions, batch.N, resid(layer), out,
                [&](int l, const Float* qkv, Float* att) { packed_attention(device, l, batch, qkv, att); });
}

template <class Float>
void Llama<Float>::embed(const Device& device, const int32_t* tokens, int N, const uint64_t* dropout_key) {
  TLL_CHECK(N <= options_.max_tokens, "{} tokens, planned for {}", N, options_.max_tokens);
  dropout_key_ = dropout_key;
  run(device, EmbeddingForward<Float>{.out = resid(0),
                                      .table = embed_,
                                      .table_dtype = weight_dtype(),
                                      .ids = tokens,
                                      .N = N,
                                      .C = config_.hidden,
                                      .V = config_.vocab_size});
}

template <class Float>
void Llama<Float>::final_norm(const Device& device, int N) {
  run(device, RmsnormForward<Float>{.out = final_,
                                    .rstd = rstd_final_,
                                    .x = resid(config_.layers),
                                    .w = final_norm_.w,
                                    .N = N,
                                    .C = config_.hidden,
                                    .eps = config_.rms_eps});
}

template <class Float>
void Llama<Float>::forward(const Device& device, const Batch& batch) {
  embed(device, batch.tokens, batch.N, batch.dropout_key);
  for (int l = 0; l < config_.layers; l++) block(device, l, batch, resid(l + 1));
  final_norm(device, batch.N);
}

template <class Float>
const acc_t<Float>* Llama<Float>::logits(const Device& device, const int32_t* rows, int count) {
  TLL_CHECK(count <= chunk_, "{} rows of logits, planned for {}", count, chunk_);
  const int C = config_.hidden, V = config_.vocab_size;
  run(device, GatherRows<Float>{.out = head_in_, .x = final_, .rows = rows, .R = count, .C = C});
  run(device, Matmul<Acc>{.out = matrix(logits_, count, V),
                          .a = matrix(head_in_, count, C),
                          .b = ConstMatrix{head_, weight_dtype(), V, C, C}.t(),
                          .scratch = {matmul_scratch_, matmul_scratch_size_}});
  return logits_;
}

template <class Float>
void Llama<Float>::add_loss(const Device& device, const Batch& batch, loss_t<Float>* sum, const double* scale) {
  constexpr int kStretch = sizeof(Acc) / sizeof(Float);  // the gradient of the logits lies in their own memory
  const int C = config_.hidden, V = config_.vocab_size;
  const int count =
      batch.target_rows >= 0
          ? batch.target_rows
          : static_cast<int>(std::count_if(batch.targets, batch.targets + batch.N, [](int32_t t) { return t >= 0; }));
  run(device,
      ListTargets<Float>{.rows = rows_, .row_targets = row_targets_, .targets = batch.targets, .N = batch.N, .capacity = count});
  if (scale) set_zero(device, dln_, static_cast<size_t>(batch.N) * static_cast<size_t>(C) * sizeof(Float));
  for (int r0 = 0; r0 < count; r0 += chunk_) {
    const int rows = std::min(chunk_, count - r0);
    logits(device, rows_ + r0, rows);
    run(device, CrossEntropy<Float>{.logits = logits_,
                                    .losses = losses_,
                                    .targets = row_targets_ + r0,
                                    .dlogits = scale ? reinterpret_cast<Float*>(logits_) : nullptr,
                                    .dlogits_stride = static_cast<int64_t>(V) * kStretch,
                                    .scale = scale,
                                    .rows = rows,
                                    .V = V});
    run(device, AddUp<Float>{.sum = sum, .x = losses_, .n = rows});
    if (!scale) continue;
    // The head is done with these rows at once: its input's gradient, and its own if it is trained.
    const Matrix dlogits = matrix(reinterpret_cast<Float*>(logits_), rows, V, static_cast<int64_t>(V) * kStretch);
    const Scratch scratch{matmul_scratch_, matmul_scratch_size_};
    run(device, Matmul<Acc>{.out = matrix(dhead_in_, rows, C),
                            .a = dlogits,
                            .b = ConstMatrix{head_, weight_dtype(), V, C, C},
                            .scratch = scratch});
    run(device, ScatterRows<Float>{.out = dln_, .x = dhead_in_, .rows = rows_ + r0, .R = rows, .C = C});
    if (dhead_)
      run(device, Matmul<Acc>{.out = matrix(dhead_, V, C),
                              .a = dlogits.t(),
                              .b = matrix(head_in_, rows, C),
                              .accumulate = true,
                              .scratch = scratch});
  }
}

template <class Float>
loss_t<Float> Llama<Float>::loss(const Device& device, const Batch& batch, double scale, bool gradient) {
  set_zero(device, loss_, sizeof(*loss_));
  upload(device, loss_scale_, &scale, sizeof(scale));
  add_loss(device, batch, loss_, gradient ? loss_scale_ : nullptr);
  return HostCopy(device, loss_, 1)[0];
}

template <class Float>
void Llama<Float>::backward(const Device& device, const Batch& batch) {
  const int C = config_.hidden;
  set_zero(device, dresid_, static_cast<size_t>(batch.N) * static_cast<size_t>(C) * sizeof(Float));
  run(device, RmsnormBackward<Float>{.dx = dresid_,
                                     .dw = final_norm_.dw,
                                     .dout = dln_,
                                     .x = resid(config_.layers),
                                     .w = final_norm_.w,
                                     .rstd = rstd_final_,
                                     .N = batch.N,
                                     .C = C});
  for (int l = config_.layers - 1; l >= first_trained_; l--) {
    if (options_.recompute && l + 1 < config_.layers) block(device, l, batch, nullptr);  // the last block's are still there
    block_backward(device, l, batch);
  }
  if (dembed_)
    run(device, EmbeddingBackward<Float>{.dtable = dembed_,
                                         .dout = dresid_,
                                         .ids = batch.tokens,
                                         .N = batch.N,
                                         .C = C,
                                         .V = config_.vocab_size,
                                         .padding_id = config_.pad.value_or(-1)});
}

// In: dresid_ is the gradient of resid[layer + 1]. Out: of resid[layer].
template <class Float>
void Llama<Float>::block_backward(const Device& device, int layer, const Batch& batch) {
  const Layer<Float>& l = layers_[static_cast<size_t>(layer)];
  const BlockActivations<Float>& a = acts(layer);
  const LinearScratch<Float> s = linear_scratch();
  const int N = batch.N, C = config_.hidden, H = config_.heads, G = config_.kv_heads, D = config_.head_dim;
  // Nothing below the lowest block that is trained needs a gradient.
  const bool below = options_.train_all || layer > first_trained_;
  const bool through_attention = below || l.qkv.rank > 0;
  const bool through_mlp = through_attention || l.o.rank > 0;

  const bool need_act = through_mlp || l.gate_up.rank > 0;
  linear_backward_input(device, l.down, s, dact_, dresid_, a.u_down, N, linear_id(layer, 3));
  run(device, SwigluBackward<Float>{.act = act_, .gate_up = a.gate_up, .dact = dact_, .N = N, .F = config_.intermediate});
  linear_backward_weight(device, l.down, s, dresid_, act_, N, linear_id(layer, 3));
  if (!need_act) return;

  linear_backward_input(device, l.gate_up, s, through_mlp ? dln_ : nullptr, a.gate_up, a.u_gate_up, N, linear_id(layer, 2));
  linear_backward_weight(device, l.gate_up, s, a.gate_up, a.ln2, N, linear_id(layer, 2));
  if (!through_mlp) return;
  run(device, RmsnormBackward<Float>{
                  .dx = dresid_, .dw = l.norm2.dw, .dout = dln_, .x = a.mid, .w = l.norm2.w, .rstd = a.rstd2, .N = N, .C = C});

  linear_backward_input(device, l.o, s, through_attention ? datt_ : nullptr, dresid_, a.u_o, N, linear_id(layer, 1));
  linear_backward_weight(device, l.o, s, dresid_, a.att, N, linear_id(layer, 1));
  if (!through_attention) return;
  run(device, AttentionBackward<Float>{.dq = dqkv_,
                                       .dk = dqkv_ + H * D,
                                       .dv = dqkv_ + (H + G) * D,
                                       .dout = datt_,
                                       .out = a.att,
                                       .lse = a.lse,
                                       .q = a.qkv,
                                       .k = a.qkv + H * D,
                                       .v = a.qkv + (H + G) * D,
                                       .scratch = attention_scratch_,
                                       .sizes = {.cu_seqlens = batch.cu_seqlens,
                                                 .docs = batch.docs,
                                                 .N = N,
                                                 .H = H,
                                                 .G = G,
                                                 .D = D,
                                                 .stride = l.qkv.out,
                                                 .window = 0,
                                                 .threads = options_.threads,
                                                 .scale = 1.0 / std::sqrt(static_cast<double>(D)),
                                                 .pairs = batch.pairs}});
  run(device, Rope<Float>{.x = dqkv_,
                          .cos = cos_,
                          .sin = sin_,
                          .positions = batch.positions,
                          .N = N,
                          .heads = H + G,
                          .D = D,
                          .stride = l.qkv.out,
                          .backward = true});
  linear_backward_input(device, l.qkv, s, below ? dln_ : nullptr, dqkv_, a.u_qkv, N, linear_id(layer, 0));
  linear_backward_weight(device, l.qkv, s, dqkv_, a.ln1, N, linear_id(layer, 0));
  if (!below) return;
  run(device,
      RmsnormBackward<Float>{
          .dx = dresid_, .dw = l.norm1.dw, .dout = dln_, .x = resid(layer), .w = l.norm1.w, .rstd = a.rstd1, .N = N, .C = C});
}

template <class Float>
void Llama<Float>::clear_gradients(const Device& device) {
  set_zero(device, gradients_, static_cast<size_t>(trained_count_) * sizeof(*gradients_));
}

template <class Float>
void Llama<Float>::refresh_compute_copy(const Device& device) {
  if constexpr (!std::is_same_v<Float, Acc>) {
    if (trained_count_ > 0) run(device, CastFromMaster<Float>{.out = compute_, .in = values_, .n = trained_count_});
  } else {
    static_cast<void>(device);
  }
}

#define TLL_LLAMA(Float)                                                                                \
  template LinearScratch<Float> Llama<Float>::linear_scratch() const;                                   \
  template void Llama<Float>::packed_attention(const Device&, int, const Batch&, const Float*, Float*); \
  template void Llama<Float>::embed(const Device&, const int32_t*, int, const uint64_t*);               \
  template void Llama<Float>::final_norm(const Device&, int);                                           \
  template void Llama<Float>::forward(const Device&, const Batch&);                                     \
  template void Llama<Float>::add_loss(const Device&, const Batch&, loss_t<Float>*, const double*);     \
  template const acc_t<Float>* Llama<Float>::logits(const Device&, const int32_t*, int);                \
  template loss_t<Float> Llama<Float>::loss(const Device&, const Batch&, double, bool);                 \
  template void Llama<Float>::backward(const Device&, const Batch&);                                    \
  template void Llama<Float>::clear_gradients(const Device&);                                           \
  template void Llama<Float>::refresh_compute_copy(const Device&);
TLL_LLAMA(float)
TLL_LLAMA(bf16)
TLL_LLAMA(half)
TLL_LLAMA(double)
TLL_LLAMA(complex)

}  // namespace tll
