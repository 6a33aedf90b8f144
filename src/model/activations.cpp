#include "src/model/activations.h"

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/rope.h"
#include "kernels/row_stride.h"
#include "src/base/check.h"
#include "src/model/rope_frequencies.h"

namespace tll {

using enum StepPhase;

namespace {

// The columns of q and k that have norms of their own: (H+G)·D or none.
int64_t normalised_columns(const LlamaConfig& c) {
  const auto rows = c.architecture->block;
  const bool any = std::any_of(rows.begin(), rows.end(), [](const ModuleRow& row) { return row.joint == Joint::q_norm; });
  return any ? int64_t{c.heads + c.kv_heads} * c.head_dim : 0;
}

int rows_of_mlp(const LlamaConfig& c, const ModelOptions& o) {
  if (o.gradients && o.recompute != Recompute::full) return o.max_tokens;
  if (o.mlp_chunk == 0) return o.max_tokens;
  if (o.mlp_chunk > 0) return std::min(o.mlp_chunk, o.max_tokens);
  // The columns that a token takes in the backward pass of attention but not in that of the MLP, and the other way round.
  constexpr int64_t kMultiple = 128;
  const int64_t att = int64_t{c.heads} * c.head_dim, qkv = att + int64_t{2} * c.kv_heads * c.head_dim;
  const int64_t attention = std::max<int64_t>(0, qkv + att + normalised_columns(c) - c.hidden);
  const int64_t mlp = int64_t{3} * c.intermediate + c.hidden;
  const int64_t equal = o.max_tokens * attention / mlp / kMultiple * kMultiple;
  return static_cast<int>(std::min<int64_t>(std::max(equal, kMultiple), o.max_tokens));
}

}  // namespace

template <class Float>
Activations<Float>::Activations(const LlamaConfig& c, const ModelOptions& o)
    : residuals(c, o), mlp_rows(rows_of_mlp(c, o)), config_(c), options_(o) {
  const size_t layers = static_cast<size_t>(c.layers), sets = o.recompute == Recompute::full ? 1 : layers;
  inference_.forward = {eval_attention, eval_mlp, std::vector<Set>(1)};
  inference_.head = eval_head;
  training_.forward = {forward_attention, forward_mlp, std::vector<Set>(sets)};
  training_.backward = {recompute_attention, backward_mlp, std::vector<Set>(sets)};
  training_.head = StepPhase::head;

  if (o.logits_16) training_.logits_dtype = dtype_of<Float>;
  logit_stride = (c.vocab_size + kLogitMultiple - 1) / kLogitMultiple * kLogitMultiple;
  for (PassActivations<Float>* pass : {&training_, &inference_}) pass->chunks = head_size(*pass).chunks;
}

// Rows of logits at once: enough for an efficient GEMM, which reads or packs the whole head for each chunk. On CUDA these are
// kRows rows, or those of `enough` bytes where that is more: in both types 512 rows and a few more of 128,256 logits. Where
// blocks keep nothing, no more than fit in the bytes that a block takes in its backward pass beside what the head has as well.
// Where they do, more than `enough` only where the buffers that the blocks' backward passes share take as much.
template <class Float>
Activations<Float>::HeadSize Activations<Float>::head_size(const PassActivations<Float>& pass) const {
  const LlamaConfig& c = config_;
  const ModelOptions& o = options_;
  const bool cuda = o.device == DeviceKind::cuda;
  const int64_t N = o.max_tokens, C = c.hidden, att = int64_t{c.heads} * c.head_dim;
  const int64_t qkv = att + int64_t{2} * c.kv_heads * c.head_dim, size = sizeof(Float);
  const int64_t logit = static_cast<int64_t>(dtype_bytes(pass.logits_dtype)), row = logit_stride * logit;
  const bool lean = o.gradients && o.recompute == Recompute::full;
  const int64_t block = lean ? std::max(mlp_rows * (3 * int64_t{c.intermediate} + C) + N * (qkv + att),
                                        N * (2 * (qkv + att) + normalised_columns(c) - C))
                             : N * (std::max(int64_t{c.intermediate}, qkv + att) - C);
  constexpr int64_t kRows = 1024, kLeast32 = 256 << 20, kLeast16 = 136 << 20, kLeastOnCpu = 64 << 20;
  const int64_t enough = logit == 2 ? kLeast16 : kLeast32, cap = cuda ? std::max(enough, kRows * row) : kLeastOnCpu;
  const int64_t room =
      lean ? std::min(block * size, cap) : std::clamp(o.gradients ? block * size : 0, std::min(enough, cap), cap);
  const int64_t least = std::min<int64_t>(N, cuda ? 64 : lean ? 128 : 32), most = std::min<int64_t>(N, cuda ? 4096 : 1024);
  const int rows = static_cast<int>(std::clamp(room / row, least, most));
  HeadSize head{.rows = rows, .chunks = {rows, cuda ? static_cast<int>(least) : 1}};
  if (rows < N) head.chunks.most = rows / head.chunks.unit * head.chunks.unit;
  // What is left of the room is a part of the logits' memory, so that the plan does not shrink where V grows.
  head.logits = std::clamp(room, least * row, most * row) / logit;
  return head;
}

// ---- the list of tensors ------------------------------------------------------------------------------------------------------

template <class Float>
struct Activations<Float>::Placing {
  Arena& arena;
  const Parameters<Float>& parameters;
  const LlamaConfig& config;
  const int64_t N, M, C, F, H, att, qkv;

  template <class T>
  void tensor(T*& pointer, const std::string& name, std::vector<int64_t> shape, Life life,
              Category category = Category::activations) {
    arena.place(pointer, name, shape, category, life);
  }
  using Layer = Linear<Float> BlockParameters<Float>::*;
  // The largest rank of a linear layer's adapter, in this block or, with -1, in all: for a tensor that all blocks share.
  int rank(Layer linear, int layer, bool joined) const {
    int most = 0;
    for (size_t l = 0; l < parameters.blocks.size(); l++)
      if (const Linear<Float>& each = parameters.blocks[l].*linear; each.joined == joined)
        if (layer < 0 || layer == static_cast<int>(l)) most = std::max(most, each.rank);
    return most;
  }
  // Of rows with room for what joined adapters of these layers put behind the columns.
  int stride(int64_t columns, std::initializer_list<Layer> linears, int layer) const {
    int room = 0;
    for (const Layer linear : linears) room = std::max(room, rank(linear, layer, true));
    return static_cast<int>(room > 0 ? aligned_row(columns + room, dtype_of<Float>) : columns);
  }
  void joinable(Rows<Float>& tensor_rows, const std::string& name, int64_t rows, int64_t columns,
                std::initializer_list<Layer> linears, int layer, Life life) {
    tensor_rows.stride = stride(columns, linears, layer);
    tensor(tensor_rows.data, name, {rows, tensor_rows.stride}, life);
  }
  // u of a linear layer; not if it is joined and its input lives as long.
  void u(Float*& pointer, const std::string& name, int64_t rows, Layer linear, int layer, bool input_kept, Life life) {
    const int most = std::max(rank(linear, layer, false), input_kept ? 0 : rank(linear, layer, true));
    if (most > 0) tensor(pointer, name, {rows, most}, life);
  }
  void ln1(Rows<Float>& rows, const std::string& at, int layer, Life life) {
    joinable(rows, at + "ln1", N, C, {&BlockParameters<Float>::qkv}, layer, life);
  }
  int att_stride(int layer) const { return stride(att, {&BlockParameters<Float>::o}, layer); }
  // In place of some rows of att, u of o where it would stay behind them.
  void u_o_of_rows(Set& s, const std::string& at, Life life) {
    if (const int most = rank(&BlockParameters<Float>::o, config.layers - 1, true); most > 0)
      tensor(s.u_o_of_rows, at + "u_o_of_rows", {N, most}, life);
  }
  void ln2(Rows<Float>& rows, const std::string& at, int layer, Life life) {
    joinable(rows, at + "ln2", M, C, {&BlockParameters<Float>::gate_up}, layer, life);
  }
  void act(Rows<Float>& rows, const std::string& at, Life life) {
    joinable(rows, at + "act", M, F, {&BlockParameters<Float>::down}, -1, life);
  }
  void attention(Set& s, const std::string& at, int layer, bool ln1_kept, Life life, int64_t least_qkv = 0) {
    tensor(s.rstd1, at + "rstd1", {N}, life);
    tensor(s.qkv, at + "qkv", {N, std::max(qkv, least_qkv)}, life);
    s.att.stride = att_stride(layer);
    tensor(s.att.data, at + "att", {N, s.att.stride}, life);
    tensor(s.lse, at + "lse", {H, N}, life);
    u(s.u_qkv, at + "u_qkv", N, &BlockParameters<Float>::qkv, layer, ln1_kept, life);
    u(s.u_o, at + "u_o", N, &BlockParameters<Float>::o, layer, true, life);
  }
  // q and k for attention, where they are not in qkv.
  void normalised(Float*& qk, const std::string& at, Life life) {
    if (const int64_t columns = normalised_columns(config); columns > 0) tensor(qk, at + "qk", {N, columns}, life);
  }
  void rstd_normalised(Acc*& rstd, const std::string& at, Life life) {
    if (normalised_columns(config) > 0) tensor(rstd, at + "rstd_qk", {N, int64_t{config.heads} + config.kv_heads}, life);
  }
  void mlp(Set& s, const std::string& at, int layer, bool ln2_kept, bool act_kept, Life life) {
    tensor(s.rstd2, at + "rstd2", {M}, life);
    joinable(s.gate_up, at + "gate_up", M, 2 * F, {&BlockParameters<Float>::gate_up}, layer, life);
    u(s.u_gate_up, at + "u_gate_up", M, &BlockParameters<Float>::gate_up, layer, ln2_kept, life);
    u(s.u_down, at + "u_down", M, &BlockParameters<Float>::down, layer, act_kept, life);
  }
  // All of a block, where nothing is kept.
  void whole(BlockSets<Float>& sets, const std::string& at) {
    Set& s = sets.block[0];
    ln1(s.ln1, at, -1, during(sets.attention));
    attention(s, at, -1, true, during(sets.attention), att_stride(-1));
    s.att_of_rows = {s.qkv, s.att.stride};
    tensor(s.mid, at + "mid", {N, C}, {sets.attention, sets.mlp});
    ln2(s.ln2, at, -1, during(sets.mlp));
    mlp(s, at, -1, true, true, during(sets.mlp));
    act(s.act, at, during(sets.mlp));
  }
  int64_t widest_input() const { return std::max(N * std::max(C, att), M * F); }
  void head(PassActivations<Float>& pass, const std::string& at, const HeadSize& size, bool gradients) {
    const int64_t head_rows = size.rows;
    const Life life = during(pass.head);
    tensor(pass.final, at + "final", {N, C}, life);
    tensor(pass.rstd_final, at + "rstd_final", {N}, life);
    pass.logits = arena.place_bytes(at + "logits", {size.logits}, pass.logits_dtype, Category::activations, life);
    tensor(pass.losses, at + "losses", {pass.every_loss ? N : head_rows}, life);
    const Life listed{pass.forward.attention, gradients ? backward_qkv : pass.head};
    tensor(pass.rows, at + "target_rows", {N}, listed);
    tensor(pass.row_targets, at + "row_targets", {N}, listed);
  }
};

template <class Float>
void Activations<Float>::place(Arena& arena, Arena* staging, const Parameters<Float>& parameters) {
  arena_ = &arena;
  Placing placing{arena,
                  parameters,
                  config_,
                  options_.max_tokens,
                  mlp_rows,
                  config_.hidden,
                  config_.intermediate,
                  config_.heads,
                  int64_t{config_.heads} * config_.head_dim,
                  parameters.blocks[0].qkv.out()};
  if (options_.gradients) place_training(placing, staging);
  if (!options_.gradients || options_.evaluates) place_inference(placing);
  place_scratch(placing);
}

template <class Float>
void Activations<Float>::place_inference(Placing& p) {
  for (size_t i = 0; i < eval_resid_.size(); i++)
    p.tensor(eval_resid_[i], "eval.resid." + std::to_string(i), {p.N, p.C}, {i == 0 ? evaluation : eval_attention, eval_head});
  p.whole(inference_.forward, "eval.block.");
  inference_.every_loss = true;
  p.head(inference_, "eval.", head_size(inference_), false);
}

template <class Float>
void Activations<Float>::place_training(Placing& p, Arena* staging) {
  residuals.place(p.arena, staging);
  options_.recompute == Recompute::full ? place_recomputed(p) : place_kept(p);
  p.head(training_, "", head_size(training_), true);
  using Parameter = BlockParameters<Float>;
  p.joinable(dresid, "dresid", p.N, p.C, {&Parameter::o, &Parameter::down}, -1, {StepPhase::head, backward_qkv});
  p.tensor(dln, "dln", {p.N, p.C}, {StepPhase::head, backward_qkv});
  p.joinable(dqkv, "dqkv", p.N, p.qkv, {&Parameter::qkv}, -1, {backward_attention, backward_qkv});
  p.tensor(datt, "datt", {p.N, p.att}, during(backward_attention));
}

// Every block keeps a set. `selective` keeps no norm: the backward pass has buffers for theirs.
template <class Float>
void Activations<Float>::place_kept(Placing& p) {
  const bool norms = options_.recompute == Recompute::none;
  constexpr Life kept{forward_attention, backward_qkv};
  Set forward, backward;
  if (!norms) {
    p.ln1(forward.ln1, "forward.", -1, during(forward_attention));
    p.ln2(forward.ln2, "forward.", -1, during(forward_mlp));
    p.normalised(forward.qk, "forward.", during(forward_attention));
    place_backward_norms(p);
    p.ln2(backward.ln2, "backward.", -1, during(backward_mlp));
  }
  p.act(forward.act, "forward.", during(forward_mlp));
  p.act(backward.act, "backward.", during(backward_mlp));
  Rows<Float> att_of_rows;
  att_of_rows.stride = p.att_stride(config_.layers - 1);
  p.tensor(att_of_rows.data, "forward.att_of_rows", {p.N, att_of_rows.stride}, during(forward_attention));
  for (size_t l = 0; l < training_.forward.block.size(); l++) {
    Set& s = training_.forward.block[l] = forward;
    const std::string at = "layers." + std::to_string(l) + ".";
    const int layer = static_cast<int>(l);
    if (norms) p.ln1(s.ln1, at, layer, kept);
    p.attention(s, at, layer, norms, kept);
    if (norms) p.normalised(s.qk, at, kept), p.rstd_normalised(s.rstd_qk, at, kept);
    p.tensor(s.mid, at + "mid", {p.N, p.C}, kept);
    if (norms) p.ln2(s.ln2, at, layer, kept);
    p.mlp(s, at, layer, norms, false, kept);
    if (layer == config_.layers - 1) s.att_of_rows = att_of_rows, p.u_o_of_rows(s, at, kept);
    Set& b = training_.backward.block[l] = s;
    b.act = backward.act;
    if (!norms) b.ln2 = backward.ln2;
  }
}

// No block keeps anything: one set for the forward pass, and one for the backward pass, which runs each block again.
template <class Float>
void Activations<Float>::place_recomputed(Placing& p) {
  p.whole(training_.forward, "forward.block.");
  Set& s = training_.backward.block[0];
  const std::string at = "backward.block.";
  // qkv is projected before rows of att are gathered, so that they take the place of ln1.
  s.ln1.stride = p.stride(p.C, {&BlockParameters<Float>::qkv}, -1);
  p.tensor(s.ln1.data, at + "ln1", {p.N, std::max(s.ln1.stride, p.att_stride(-1))}, during(recompute_attention));
  p.attention(s, at, -1, false, {recompute_attention, backward_qkv});
  s.att_of_rows = {s.ln1.data, s.att.stride};
  p.u_o_of_rows(s, at, {recompute_attention, backward_qkv});
  p.tensor(s.mid, at + "mid", {p.N, p.C}, {recompute_attention, backward_mlp});
  p.ln2(s.ln2, at, -1, during(backward_mlp));
  p.mlp(s, at, -1, true, true, during(backward_mlp));
  p.act(s.act, at, during(backward_mlp));
  p.normalised(s.qk, at, during(recompute_attention));
  place_backward_norms(p);
}

// Norms of the block in the backward pass, where it keeps none.
template <class Float>
void Activations<Float>::place_backward_norms(Placing& p) {
  p.ln1(ln1, "backward.", -1, during(backward_qkv));
  p.normalised(qk, "backward.", during(backward_attention));
  p.rstd_normalised(rstd_qk, "backward.", {backward_attention, backward_qkv});
}

template <class Float>
void Activations<Float>::place_scratch(Placing& p) {
  const RopeRows rope = rope_rows(config_, options_.max_positions);
  const int64_t half = config_.rotary_dim() / 2;
  const bool cuda = options_.device == DeviceKind::cuda;
  const auto scratch = [&](auto*& pointer, const char* name, std::vector<int64_t> shape, Life life = kAlways) {
    p.tensor(pointer, name, shape, life, Category::scratch);
  };
  scratch(loss, "loss", {1});
  scratch(loss_scale, "loss_scale", {1});
  scratch(inv_freq, "rope.inv_freq", {rope.switch_at > 0 ? 2 * half : half});
  scratch(cos, "rope.cos", {rope.all, half});
  scratch(sin, "rope.sin", {rope.all, half});
  matmul.size = cuda ? Matmul<Acc>::kCudaScratch : Matmul<Acc>::scratch_floats(options_.threads);
  if (matmul.size > 0) scratch(matmul.data, "matmul", {matmul.size});
  const auto [rows, cols] = p.parameters.largest_quantized();
  if (rows > 0) piece.size = QuantizedMatmul::piece_bytes(options_.device, dtype_of<Float>, rows, cols);
  if (piece.size > 0)
    piece.data = static_cast<std::byte*>(p.arena.place_bytes("dequantized_piece", {piece.size}, DType::u8, Category::scratch));
  const int H = config_.heads, G = config_.kv_heads, head_dim = config_.head_dim, N = options_.max_tokens;
  if (const int64_t n = cuda ? 0 : AttentionForward<Float>::scratch_floats(N, G, head_dim, options_.threads); n > 0)
    scratch(attention_forward, "attention", {n});
  if (!options_.gradients) return;
  if (const int64_t n = cuda ? AttentionBackward<Float>::cuda_scratch_floats(N, H, G, head_dim)
                             : AttentionBackward<Float>::scratch_floats(N, H, G, head_dim, options_.threads);
      n > 0)
    scratch(attention_backward, "attention_backward", {n}, during(backward_attention));
  int rank = 0;
  for (const BlockParameters<Float>& block : p.parameters.blocks)
    for (const Linear<Float>* linear : block.linears())
      if (!linear->joined) rank = std::max(rank, linear->rank);
  constexpr Life backward{recompute_attention, backward_qkv};
  if (rank > 0) scratch(z, "z", {p.N, rank}, backward);
  if (options_.dropout > 0) {
    scratch(training_.forward.dropped, "forward.dropped", {p.widest_input()}, {forward_attention, forward_mlp});
    scratch(training_.backward.dropped, "backward.dropped", {p.widest_input()}, backward);
  }
}

template <class Float>
void Activations<Float>::initialize(const Device& device) {
  const RopeRows rope = rope_rows(config_, options_.max_positions);
  const int half = config_.rotary_dim() / 2;
  const auto fill = [&](int first_row, int rows, bool longer) {
    const std::vector<float> frequencies = rope_inverse_frequencies(config_, longer);
    float* const place = inv_freq + (longer ? half : 0);
    upload(device, place, frequencies.data(), frequencies.size() * sizeof(float));
    run(device, RopeTable<Float>{.cos = cos + int64_t{first_row} * half,
                                 .sin = sin + int64_t{first_row} * half,
                                 .inv_freq = place,
                                 .P = rows,
                                 .R = 2 * half,
                                 .scale = rope_attention_scale(config_)});
    synchronize(device);
  };
  fill(0, rope.switch_at > 0 ? rope.switch_at : rope.all, false);
  if (rope.switch_at > 0) fill(rope.switch_at, rope.all - rope.switch_at, true);
}

template class Activations<float>;
template class Activations<bf16>;
template class Activations<half>;
template class Activations<double>;
template class Activations<complex>;

}  // namespace tll
