// The memory that the forward and the backward pass write: what each block keeps for its backward pass, buffers that all blocks
// share, buffers of the head, and scratch.
#pragma once

#include <vector>

#include "kernels/reduce.h"
#include "src/model/parameters.h"

namespace tll {

// What one block keeps for its backward pass.
template <class Float>
struct BlockActivations {
  Float *ln1, *qkv, *att, *mid, *ln2, *gate_up;                                     // (N, ·)
  acc_t<Float>*rstd1, *rstd2, *lse;                                                 // (N), (N), (H, N)
  Float *u_qkv = nullptr, *u_o = nullptr, *u_gate_up = nullptr, *u_down = nullptr;  // (N, R) of each linear layer
};

template <class Float>
class Activations {
 public:
  using Acc = acc_t<Float>;
  Activations(const LlamaConfig& config, const ModelOptions& options);

  // The widths of u and z are the ranks of the adapters in `parameters`.
  void place(Arena& arena, const Parameters<Float>& parameters);
  // After the second place(): fills the RoPE tables.
  void initialize(const Device& device);

  // With recompute, and without gradients, all blocks share one set.
  const BlockActivations<Float>& of_block(int layer) const {
    return blocks_[blocks_.size() == 1 ? 0 : static_cast<size_t>(layer)];
  }

  std::vector<Float*> resid;  // (L + 1) × (N, C)  the residual stream before each block and after the last
  Float* act = nullptr;       // (N, F)            SwiGLU's result, shared by all blocks: the backward pass recomputes it
  Float* final = nullptr;     // (N, C)            the last norm's result
  Acc* rstd_final = nullptr;  // (N)
  // Gradients, shared by all blocks; null without gradients: (N, C), (N, C), (N, (H+2G)·D), (N, H·D), (N, F).
  Float *dresid = nullptr, *dln = nullptr, *dqkv = nullptr, *datt = nullptr, *dact = nullptr;
  // The head. It processes the rows that have a target, a chunk at a time.
  int chunk = 0;                                    // rows
  Float *head_in = nullptr, *dhead_in = nullptr;    // (chunk, C)
  Acc *logits = nullptr, *losses = nullptr;         // (chunk, V), (chunk)
  int32_t *rows = nullptr, *row_targets = nullptr;  // (N)
  loss_t<Float>* loss = nullptr;                    // (1)  Llama::loss()'s own sum and scale
  double* loss_scale = nullptr;                     // (1)
  // Scratch.
  Acc *cos = nullptr, *sin = nullptr;  // (P, D/2)
  float* inv_freq = nullptr;           // (D/2)
  Scratch matmul;
  Piece piece;  // of quantised weights
  float* attention = nullptr;
  Float *z = nullptr, *dropped = nullptr;  // (N, widest R), (N, widest layer): see LinearPass

 private:
  void place_blocks(Arena& arena, const Parameters<Float>& parameters);
  void place_scratch(Arena& arena, const Parameters<Float>& parameters);

  LlamaConfig config_;
  ModelOptions options_;
  std::vector<BlockActivations<Float>> blocks_;
};

}  // namespace tll
