#include "src/model/block.h"

#include <cmath>

#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace tll {

template <class Float>
Block<Float>::Block(const Device& device, const LlamaConfig& config, const ModelOptions& options,
                    const BlockParameters<Float>& parameters, const BlockActivations<Float>& kept,
                    const Activations<Float>& shared, const Batch& batch)
    : device_(device),
      config_(config),
      w_(parameters),
      kept_(kept),
      shared_(shared),
      batch_(batch),
      linear_{.device = device,
              .N = batch.N,
              .matmul = shared.matmul,
              .z = shared.z,
              .dropped = shared.dropped,
              .dropout = batch.dropout_key ? options.dropout : 0.0,
              .dropout_key = batch.dropout_key,
              .piece = shared.piece},
      attention_{.cu_seqlens = batch.cu_seqlens,
                 .docs = batch.docs,
                 .N = batch.N,
                 .H = config.heads,
                 .G = config.kv_heads,
                 .D = config.head_dim,
                 .stride = parameters.qkv.out(),
                 .window = 0,
                 .threads = options.threads,
                 .scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim)),
                 .pairs = batch.pairs} {}

// ---- forward ----------------------------------------------------------------------------------------------------------------

template <class Float>
void Block<Float>::forward(const Float* x, Float* out) const {
  project_qkv(x);
  attend();
  finish(x, out);
}

template <class Float>
void Block<Float>::project_qkv(const Float* x) const {
  const BlockActivations<Float>& a = kept_;
  w_.norm1.forward(device_, a.ln1, a.rstd1, x, batch_.N);
  w_.qkv.forward(linear_, a.qkv, a.u_qkv, a.ln1);
  rotate(a.qkv, false);
}

template <class Float>
void Block<Float>::attend() const {
  const int H = config_.heads, G = config_.kv_heads, D = config_.head_dim;
  const BlockActivations<Float>& a = kept_;
  run(device_, AttentionForward<Float>{.out = a.att,
                                       .lse = a.lse,
                                       .q = a.qkv,
                                       .k = a.qkv + H * D,
                                       .v = a.qkv + (H + G) * D,
                                       .scratch = shared_.attention,
                                       .sizes = attention_});
}

template <class Float>
void Block<Float>::finish(const Float* x, Float* out) const {
  const BlockActivations<Float>& a = kept_;
  w_.o.forward(linear_, a.mid, a.u_o, a.att, x);
  w_.norm2.forward(device_, a.ln2, a.rstd2, a.mid, batch_.N);
  w_.gate_up.forward(linear_, a.gate_up, a.u_gate_up, a.ln2);
  run(device_, SwigluForward<Float>{.act = shared_.act, .gate_up = a.gate_up, .N = batch_.N, .F = config_.intermediate});
  if (out)
    w_.down.forward(linear_, out, a.u_down, shared_.act, a.mid);
  else
    w_.down.low_rank(linear_, a.u_down, shared_.act);
}

// ---- backward, from the end of finish() to the start of project_qkv() ---------------------------------------------------------

template <class Float>
void Block<Float>::backward(const Float* x, bool need_dx) const {
  // A gradient is computed only if a trained tensor needs it. If all weights are trained, need_dx is true in every block.
  const bool need_datt = need_dx || w_.qkv.rank > 0, need_dmid = need_datt || w_.o.rank > 0;
  mlp_backward(need_dmid);
  if (need_dmid) attention_backward(x, need_datt, need_dx);
}

// dresid: the gradient of out before the call, of mid after it. SwigluBackward recomputes act and turns gate_up into its
// gradient.
template <class Float>
void Block<Float>::mlp_backward(bool need_dmid) const {
  const BlockActivations<Float>& a = kept_;
  const Activations<Float>& s = shared_;
  w_.down.backward_input(linear_, s.dact, s.dresid, a.u_down);
  run(device_,
      SwigluBackward<Float>{.act = s.act, .gate_up = a.gate_up, .dact = s.dact, .N = batch_.N, .F = config_.intermediate});
  w_.down.backward_weight(linear_, s.dresid, s.act);
  if (!need_dmid && w_.gate_up.rank == 0) return;
  w_.gate_up.backward_input(linear_, need_dmid ? s.dln : nullptr, a.gate_up, a.u_gate_up);
  w_.gate_up.backward_weight(linear_, a.gate_up, a.ln2);
  if (need_dmid) w_.norm2.backward(device_, s.dresid, s.dln, a.mid, a.rstd2, batch_.N);
}

// dresid: the gradient of mid before the call, of x after it.
template <class Float>
void Block<Float>::attention_backward(const Float* x, bool need_datt, bool need_dx) const {
  const int H = config_.heads, G = config_.kv_heads, D = config_.head_dim;
  const BlockActivations<Float>& a = kept_;
  const Activations<Float>& s = shared_;
  w_.o.backward_input(linear_, need_datt ? s.datt : nullptr, s.dresid, a.u_o);
  w_.o.backward_weight(linear_, s.dresid, a.att);
  if (!need_datt) return;
  run(device_, AttentionBackward<Float>{.dq = s.dqkv,
                                        .dk = s.dqkv + H * D,
                                        .dv = s.dqkv + (H + G) * D,
                                        .dout = s.datt,
                                        .out = a.att,
                                        .lse = a.lse,
                                        .q = a.qkv,
                                        .k = a.qkv + H * D,
                                        .v = a.qkv + (H + G) * D,
                                        .scratch = s.attention,
                                        .sizes = attention_});
  rotate(s.dqkv, true);
  w_.qkv.backward_input(linear_, need_dx ? s.dln : nullptr, s.dqkv, a.u_qkv);
  w_.qkv.backward_weight(linear_, s.dqkv, a.ln1);
  if (need_dx) w_.norm1.backward(device_, s.dresid, s.dln, x, a.rstd1, batch_.N);
}

// RoPE on q and k; backward, the transposed rotation on their gradients.
template <class Float>
void Block<Float>::rotate(Float* qkv, bool backward) const {
  run(device_, Rope<Float>{.x = qkv,
                           .cos = shared_.cos,
                           .sin = shared_.sin,
                           .positions = batch_.positions,
                           .N = batch_.N,
                           .heads = config_.heads + config_.kv_heads,
                           .D = config_.head_dim,
                           .stride = w_.qkv.out(),
                           .backward = backward});
}

template class Block<float>;
template class Block<bf16>;
template class Block<half>;
template class Block<double>;
template class Block<complex>;

}  // namespace tll
