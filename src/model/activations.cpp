#include "src/model/activations.h"

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/rope.h"
#include "src/base/check.h"
#include "src/model/rope_frequencies.h"

namespace tll {
namespace {

// Rows of logits in memory at once: enough for an efficient GEMM of the head, but bounded.
template <class Acc>
int logit_rows(const LlamaConfig& config, const ModelOptions& options) {
  const bool cuda = options.device == DeviceKind::cuda;
  const int64_t bytes = cuda ? 256 << 20 : 64 << 20, row_bytes = config.vocab_size * static_cast<int64_t>(sizeof(Acc));
  int rows = static_cast<int>(std::clamp<int64_t>(bytes / row_bytes, 32, cuda ? 4096 : 1024));
  if (cuda) rows = (rows + 63) / 64 * 64;
  return std::min(rows, options.max_tokens);
}

template <class Float>
int64_t attention_scratch(const LlamaConfig& config, const ModelOptions& o) {
  const int H = config.heads, D = config.head_dim;
  const bool cuda = o.device == DeviceKind::cuda;
  const int64_t forward = cuda ? 0 : AttentionForward<Float>::scratch_floats(D, o.threads);
  if (!o.gradients) return forward;
  return std::max(forward, cuda ? AttentionBackward<Float>::cuda_scratch_floats(o.max_tokens, H)
                                : AttentionBackward<Float>::scratch_floats(o.max_tokens, H, D, o.threads));
}

}  // namespace

template <class Float>
Activations<Float>::Activations(const LlamaConfig& config, const ModelOptions& options)
    : chunk(logit_rows<Acc>(config, options)), config_(config), options_(options) {
  const size_t layers = static_cast<size_t>(config.layers);
  resid.resize(layers + 1);
  blocks_.resize(options.recompute || !options.gradients ? 1 : layers);
}

template <class Float>
void Activations<Float>::place(Arena& arena, const Parameters<Float>& parameters) {
  const int64_t N = options_.max_tokens, C = config_.hidden, F = config_.intermediate, V = config_.vocab_size;
  const int64_t att = int64_t{config_.heads} * config_.head_dim, qkv = parameters.blocks[0].qkv.out();
  const auto place = [&](auto*& pointer, const std::string& name, std::vector<int64_t> shape) {
    arena.place(pointer, name, shape, Category::activations);
  };
  // Without gradients two buffers are enough: a block reads one and writes the other.
  for (size_t l = 0; l < resid.size(); l++) {
    if (!options_.gradients && l >= 2)
      resid[l] = resid[l - 2];
    else
      place(resid[l], "resid." + std::to_string(l), {N, C});
  }
  place_blocks(arena, parameters);
  place(act, "act", {N, F});
  place(final, "final", {N, C});
  place(rstd_final, "rstd_final", {N});
  place(head_in, "head_in", {chunk, C});
  place(logits, "logits", {chunk, V});
  place(losses, "losses", {chunk});
  place(rows, "target_rows", {N});
  place(row_targets, "row_targets", {N});
  place(loss, "loss", {1});
  place(loss_scale, "loss_scale", {1});
  if (options_.gradients) {
    place(dhead_in, "dhead_in", {chunk, C});
    place(dresid, "dresid", {N, C});
    place(dln, "dln", {N, C});
    place(dqkv, "dqkv", {N, qkv});
    place(datt, "datt", {N, att});
    place(dact, "dact", {N, F});
  }
  place_scratch(arena, parameters);
}

template <class Float>
void Activations<Float>::place_blocks(Arena& arena, const Parameters<Float>& parameters) {
  const int64_t N = options_.max_tokens, C = config_.hidden, F = config_.intermediate, H = config_.heads;
  const int64_t att = H * config_.head_dim, qkv = parameters.blocks[0].qkv.out();
  const bool shared = blocks_.size() == 1;
  for (size_t l = 0; l < blocks_.size(); l++) {
    BlockActivations<Float>& a = blocks_[l];
    const std::string at = shared ? "block." : "layers." + std::to_string(l) + ".";
    const auto place = [&](auto*& pointer, const char* name, std::vector<int64_t> shape) {
      arena.place(pointer, at + name, shape, Category::activations);
    };
    place(a.ln1, "ln1", {N, C});
    place(a.rstd1, "rstd1", {N});
    place(a.qkv, "qkv", {N, qkv});
    place(a.att, "att", {N, att});
    place(a.lse, "lse", {H, N});
    place(a.mid, "mid", {N, C});
    place(a.ln2, "ln2", {N, C});
    place(a.rstd2, "rstd2", {N});
    place(a.gate_up, "gate_up", {N, 2 * F});
    // If all blocks share the set, u is as wide as their largest rank.
    const auto place_u = [&](Float*& pointer, const char* name, Linear<Float> BlockParameters<Float>::*linear) {
      int rank = (parameters.blocks[l].*linear).rank;
      for (size_t i = 0; shared && i < parameters.blocks.size(); i++) rank = std::max(rank, (parameters.blocks[i].*linear).rank);
      if (rank > 0) place(pointer, name, {N, rank});
    };
    place_u(a.u_qkv, "u_qkv", &BlockParameters<Float>::qkv);
    place_u(a.u_o, "u_o", &BlockParameters<Float>::o);
    place_u(a.u_gate_up, "u_gate_up", &BlockParameters<Float>::gate_up);
    place_u(a.u_down, "u_down", &BlockParameters<Float>::down);
  }
}

template <class Float>
void Activations<Float>::place_scratch(Arena& arena, const Parameters<Float>& parameters) {
  const int64_t N = options_.max_tokens, P = options_.max_positions, D = config_.head_dim;
  const auto place = [&](auto*& pointer, const char* name, std::vector<int64_t> shape) {
    arena.place(pointer, name, shape, Category::scratch);
  };
  place(inv_freq, "rope.inv_freq", {D / 2});
  place(cos, "rope.cos", {P, D / 2});
  place(sin, "rope.sin", {P, D / 2});
  int rank = 0, widest = 0;
  for (const BlockParameters<Float>& block : parameters.blocks)
    for (const Linear<Float>* linear : block.linears()) {
      rank = std::max(rank, linear->rank);
      widest = std::max({widest, linear->in(), linear->out(), linear->rank});
    }
  if (rank > 0) place(z, "z", {N, rank});
  if (options_.dropout > 0) place(dropped, "dropped", {N, widest});
  const bool cuda = options_.device == DeviceKind::cuda;
  matmul.size = cuda ? Matmul<Acc>::kCudaScratch : Matmul<Acc>::scratch_floats(options_.threads);
  if (matmul.size > 0) place(matmul.data, "matmul", {matmul.size});
  const auto [rows, cols] = parameters.largest_quantized();
  if (rows > 0) piece.size = QuantizedMatmul::piece_bytes(options_.device, dtype_of<Float>, rows, cols);
  if (piece.size > 0)
    piece.data =
        static_cast<std::byte*>(arena.place_bytes("dequantized_piece", {piece.size}, DType::u8, Category::scratch));
  if (const int64_t floats = attention_scratch<Float>(config_, options_); floats > 0) place(attention, "attention", {floats});
}

template <class Float>
void Activations<Float>::initialize(const Device& device) {
  const std::vector<float> frequencies = rope_inverse_frequencies(config_);
  upload(device, inv_freq, frequencies.data(), frequencies.size() * sizeof(float));
  run(device, RopeTable<Float>{.cos = cos,
                               .sin = sin,
                               .inv_freq = inv_freq,
                               .P = options_.max_positions,
                               .D = config_.head_dim,
                               .scale = rope_attention_scale(config_)});
  synchronize(device);
}

template class Activations<float>;
template class Activations<bf16>;
template class Activations<half>;
template class Activations<double>;
template class Activations<complex>;

}  // namespace tll
