#include "src/model/block.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "kernels/qk_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace tll {

template <class Float>
Block<Float>::Block(const Device& device, const LlamaConfig& config, const ModelOptions& options,
                    const BlockParameters<Float>& parameters, const BlockSets<Float>& sets, int layer,
                    const Activations<Float>& shared, const Batch& batch, RowList rows)
    : device_(device),
      config_(config),
      options_(options),
      w_(parameters),
      sets_(sets),
      kept_(sets.of(layer)),
      shared_(shared),
      batch_(batch),
      rows_(rows),
      linear_{.device = device,
              .N = batch.N,
              .first_row = 0,
              .matmul = shared.matmul,
              .z = shared.z,
              .dropped = sets.dropped,
              .dropout = batch.dropout_key ? options.dropout : 0.0,
              .dropout_key = batch.dropout_key,
              .piece = shared.piece},
      linear_of_rows_(linear_),
      attention_{.cu_seqlens = batch.cu_seqlens,
                 .docs = batch.docs,
                 .N = batch.N,
                 .H = config.heads,
                 .G = config.kv_heads,
                 .D = config.head_dim,
                 .stride = parameters.qkv.out(),
                 .qk_stride = parameters.qkv.out(),
                 .out_stride = kept_.att.stride,
                 .d_stride = shared.dqkv.stride,
                 .window = config.window(layer),
                 .threads = options.threads,
                 .scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim)),
                 .pairs = config.window(layer) > 0 ? batch.window_pairs : batch.pairs} {
  if (rows_) linear_of_rows_.N = rows_.count;
}

// A chunk of the R rows, and the linear layers' pass over it.
template <class Float>
struct Block<Float>::Chunk {
  LinearPass<Float> linear;
  int64_t at;  // of the first element in a tensor (R, C)
  int N() const { return linear.N; }
};

template <class Float>
template <class Body>
void Block<Float>::each_chunk(const Body& body) const {
  const int R = linear_of_rows_.N;
  for (int first = 0; first < R; first += shared_.mlp_rows) {
    Chunk chunk{linear_of_rows_, static_cast<int64_t>(first) * config_.hidden};
    chunk.linear.first_row = first, chunk.linear.N = std::min(shared_.mlp_rows, R - first);
    body(chunk);
  }
}

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
  shared_.enter(device_, sets_.attention);
  w_.norm1.forward(device_, a.ln1, a.rstd1, x, batch_.N);
  w_.qkv.forward(linear_, {a.qkv, w_.qkv.out()}, a.u_qkv, a.ln1);
  finish_qk(a.qk, a.rstd_qk);
}

template <class Float>
void Block<Float>::attend() const {
  const int H = config_.heads, G = config_.kv_heads, D = config_.head_dim;
  const BlockActivations<Float>& a = kept_;
  const Float* q = a.qk ? a.qk : a.qkv;
  run(device_, AttentionForward<Float>{.out = a.att.data,
                                       .lse = a.lse,
                                       .q = q,
                                       .k = q + H * D,
                                       .v = a.qkv + (H + G) * D,
                                       .scratch = shared_.attention_forward,
                                       .sizes = sizes_for(a.qk)});
}

template <class Float>
void Block<Float>::finish(const Float* x, Float* out) const {
  project_out(x);
  shared_.enter(device_, sets_.mlp);
  each_chunk([&](const Chunk& chunk) {
    mlp(chunk);
    w_.down.forward(chunk.linear, {out + chunk.at, config_.hidden}, kept_.u_down, kept_.act, kept_.mid + chunk.at);
  });
}

// Some rows of att are gathered where they do not stay, so that u of a joined adapter is copied from behind them.
template <class Float>
Float* Block<Float>::u_o() const {
  return rows_ && kept_.u_o_of_rows ? kept_.u_o_of_rows : kept_.u_o;
}

template <class Float>
void Block<Float>::project_out(const Float* x) const {
  const BlockActivations<Float>& a = kept_;
  const Rows<Float> mid{a.mid, config_.hidden};
  if (!rows_) return w_.o.forward(linear_, mid, u_o(), a.att, x);
  move_rows<GatherRows<Float>>(mid, {x, config_.hidden}, config_.hidden);
  move_rows<GatherRows<Float>>(a.att_of_rows, a.att, w_.o.in());
  w_.o.forward(linear_of_rows_, mid, u_o(), a.att_of_rows, mid.data);
}

template <class Float>
template <class Op>
void Block<Float>::move_rows(Rows<Float> to, Rows<const Float> from, int columns) const {
  run(device_, Op{.out = to.data,
                  .x = from.data,
                  .rows = rows_.rows,
                  .R = rows_.count,
                  .C = columns,
                  .out_stride = to.stride,
                  .x_stride = from.stride});
}

// Up to act.
template <class Float>
void Block<Float>::mlp(const Chunk& chunk) const {
  const BlockActivations<Float>& a = kept_;
  w_.norm2.forward(device_, a.ln2, a.rstd2, a.mid + chunk.at, chunk.N());
  w_.gate_up.forward(chunk.linear, a.gate_up, a.u_gate_up, a.ln2);
  run(device_, SwigluForward<Float>{.act = a.act.data,
                                    .gate_up = a.gate_up.data,
                                    .N = chunk.N(),
                                    .F = config_.intermediate,
                                    .act_stride = a.act.stride,
                                    .gate_up_stride = a.gate_up.stride});
}

// ---- backward, from the end of finish() to the start of project_qkv() ---------------------------------------------------------

template <class Float>
void Block<Float>::backward(const Float* x, bool need_dx) const {
  // A gradient is computed only if a trained tensor needs it. If all weights are trained, need_dx is true in every block.
  const bool need_datt = need_dx || w_.qkv.rank > 0, need_dmid = need_datt || w_.o.rank > 0;
  const Recompute recompute = options_.recompute;
  if (recompute == Recompute::full) {
    project_qkv(x);
    attend();
    project_out(x);
  }
  shared_.enter(device_, sets_.mlp);
  each_chunk([&](const Chunk& chunk) {
    if (recompute == Recompute::full) {
      mlp(chunk);
      w_.down.low_rank(chunk.linear, kept_.u_down, kept_.act);
    } else if (recompute == Recompute::selective) {
      w_.norm2.forward(device_, kept_.ln2, kept_.rstd2, kept_.mid, chunk.N());
    }
    mlp_backward(chunk, need_dmid);
  });
  shared_.enter(device_, StepPhase::backward_attention);
  if (need_dmid) project_out_backward(need_datt, need_dx);
  if (need_datt) attention_backward(x, need_dx);
}

// dresid: the gradient of out before the call, of mid after it. act holds its gradient until SwigluBackward recomputes it;
// gate_up becomes its gradient.
template <class Float>
void Block<Float>::mlp_backward(const Chunk& chunk, bool need_dmid) const {
  const BlockActivations<Float>& a = kept_;
  const Rows<Float> dresid = shared_.dresid.from(chunk.linear.first_row);
  Float* const dln = shared_.dln + chunk.at;
  w_.down.backward_input(chunk.linear, a.act, dresid, a.u_down, a.act);
  run(device_, SwigluBackward<Float>{.act = a.act.data,
                                     .gate_up = a.gate_up.data,
                                     .dact = a.act.data,
                                     .N = chunk.N(),
                                     .F = config_.intermediate,
                                     .act_stride = a.act.stride,
                                     .gate_up_stride = a.gate_up.stride});
  w_.down.backward_weight(chunk.linear, dresid, a.act);
  if (!need_dmid && w_.gate_up.rank == 0) return;
  w_.gate_up.backward_input(chunk.linear, {need_dmid ? dln : nullptr, config_.hidden}, a.gate_up, a.u_gate_up, a.ln2);
  w_.gate_up.backward_weight(chunk.linear, a.gate_up, a.ln2);
  if (need_dmid) w_.norm2.backward(device_, dresid, dln, a.mid + chunk.at, a.rstd2, chunk.N());
}

// datt from dresid, the gradient of mid. With some rows, dqkv and dln hold what is scattered or was gathered, until the backward
// pass of attention writes them; then dresid and datt have all rows.
template <class Float>
void Block<Float>::project_out_backward(bool need_datt, bool need_dx) const {
  const Activations<Float>& s = shared_;
  const int width = w_.o.in(), C = config_.hidden;
  const Rows<Float> of_rows{s.dqkv.data, width}, datt{s.datt, width};
  const Rows<Float>& att = rows_ ? of_rows : kept_.att;
  Float* const dx = !need_datt ? nullptr : rows_ ? of_rows.data : s.datt;
  w_.o.backward_input(linear_of_rows_, {dx, width}, s.dresid, u_o(), att);
  if (rows_ && need_datt) scatter(datt, of_rows, width);
  if (rows_) move_rows<GatherRows<Float>>(of_rows, kept_.att, width);
  w_.o.backward_weight(linear_of_rows_, s.dresid, att);
  if (!rows_ || !need_dx) return;
  run(device_, CopyRows<Float>{.out = s.dln, .x = s.dresid.data, .N = rows_.count, .C = C, .x_stride = s.dresid.stride});
  scatter(s.dresid, {s.dln, C}, C);
}

// All rows of the batch: zeros where there is none to scatter.
template <class Float>
void Block<Float>::scatter(Rows<Float> to, Rows<const Float> from, int columns) const {
  set_zero(device_, to.data, static_cast<size_t>(batch_.N) * static_cast<size_t>(to.stride) * sizeof(Float));
  move_rows<ScatterRows<Float>>(to, from, columns);
}

// dresid: the gradient of x through mid before the call, all of it after.
template <class Float>
void Block<Float>::attention_backward(const Float* x, bool need_dx) const {
  const int H = config_.heads, G = config_.kv_heads, D = config_.head_dim;
  const BlockActivations<Float>& a = kept_;
  const Activations<Float>& s = shared_;
  if (s.qk) finish_qk(s.qk, s.rstd_qk);
  const Float *qk = s.qk ? s.qk : a.qk, *q = qk ? qk : a.qkv;
  run(device_, AttentionBackward<Float>{.dq = s.dqkv.data,
                                        .dk = s.dqkv.data + H * D,
                                        .dv = s.dqkv.data + (H + G) * D,
                                        .dout = s.datt,
                                        .out = a.att.data,
                                        .lse = a.lse,
                                        .q = q,
                                        .k = q + H * D,
                                        .v = a.qkv + (H + G) * D,
                                        .scratch = s.attention_backward,
                                        .sizes = sizes_for(qk)});
  s.enter(device_, StepPhase::backward_qkv);
  rotate(s.dqkv, true);
  if (w_.q_norm.C > 0)
    run(device_, QkNormBackward<Float>{.d = s.dqkv.data,
                                       .dw_q = w_.q_norm.dw,
                                       .dw_k = w_.k_norm.dw,
                                       .x = a.qkv,
                                       .w_q = w_.q_norm.w,
                                       .w_k = w_.k_norm.w,
                                       .rstd = s.rstd_qk ? s.rstd_qk : a.rstd_qk,
                                       .scratch = s.matmul.data,
                                       .N = batch_.N,
                                       .H = H,
                                       .G = G,
                                       .D = D,
                                       .stride = s.dqkv.stride,
                                       .x_stride = w_.qkv.out()});
  if (s.ln1) w_.norm1.forward(device_, s.ln1, a.rstd1, x, batch_.N);
  const Rows<Float> ln1 = s.ln1 ? s.ln1 : a.ln1;
  w_.qkv.backward_input(linear_, {need_dx ? s.dln : nullptr, config_.hidden}, s.dqkv, a.u_qkv, ln1);
  w_.qkv.backward_weight(linear_, s.dqkv, ln1);
  if (need_dx) w_.norm1.backward(device_, s.dresid, s.dln, x, a.rstd1, batch_.N);
}

// q and k of qkv as attention reads them: normalised, where the architecture does so, and rotated. To qk; null: in place.
template <class Float>
void Block<Float>::finish_qk(Float* qk, acc_t<Float>* rstd) const {
  Float* to = qk ? qk : kept_.qkv;
  const int stride = sizes_for(qk).qk_stride;
  if (w_.q_norm.C > 0)
    run(device_, QkNormForward<Float>{.out = to,
                                      .rstd = rstd,
                                      .x = kept_.qkv,
                                      .w_q = w_.q_norm.w,
                                      .w_k = w_.k_norm.w,
                                      .N = batch_.N,
                                      .H = config_.heads,
                                      .G = config_.kv_heads,
                                      .D = config_.head_dim,
                                      .out_stride = stride,
                                      .x_stride = w_.qkv.out(),
                                      .eps = w_.q_norm.eps});
  rotate({to, stride}, false);
}

// With q and k in qk; null: in qkv.
template <class Float>
AttentionSizes Block<Float>::sizes_for(const Float* qk) const {
  AttentionSizes sizes = attention_;
  if (qk) sizes.qk_stride = (config_.heads + config_.kv_heads) * config_.head_dim;
  return sizes;
}

// RoPE on q and k; backward, the transposed rotation on their gradients.
template <class Float>
void Block<Float>::rotate(Rows<Float> qk, bool backward) const {
  run(device_, Rope<Float>{.x = qk.data,
                           .cos = shared_.cos,
                           .sin = shared_.sin,
                           .positions = batch_.positions,
                           .N = batch_.N,
                           .heads = config_.heads + config_.kv_heads,
                           .D = config_.head_dim,
                           .R = config_.rotary_dim(),
                           .stride = qk.stride,
                           .backward = backward});
}

template class Block<float>;
template class Block<bf16>;
template class Block<half>;
template class Block<double>;
template class Block<complex>;

}  // namespace tll
