// One transformer block: its forward pass and, beside it, its backward pass.
//
//   ln1 = rmsnorm(x);  qkv = Wqkv·ln1;  q, k = rope(q, k);  att = attention(q, k, v);  mid = x + Wo·att
//   ln2 = rmsnorm(mid);  gate, up = Wgate_up·ln2;  act = silu(gate) ⊙ up;  out = mid + Wdown·act
//
// x, mid and out are the residual stream (N, C). A linear layer may carry LoRA adapters (src/model/linear.h).
#pragma once

#include "kernels/attention.h"
#include "src/model/activations.h"

namespace tll {

// A block during one pass over a batch. Cheap to make; everything it refers to outlives the pass.
template <class Float>
class Block {
 public:
  Block(const Device&, const LlamaConfig&, const ModelOptions&, const BlockParameters<Float>&,
        const BlockActivations<Float>& kept, const Activations<Float>& shared, const Batch&);

  // All of it. With out null, what the backward pass reads is written and the block's result is not (gradient checkpointing).
  void forward(const Float* x, Float* out) const;
  // The same in parts, for generation, whose attention looks into a cache: kept().qkv from x, then kept().att from it, then the
  // rest.
  void project_qkv(const Float* x) const;
  void attend() const;
  void finish(const Float* x, Float* out) const;

  // In: dresid is the gradient of out. Out: of x, unless nothing below this block is trained (need_dx false). Gradients of what
  // is trained accumulate (+=).
  void backward(const Float* x, bool need_dx) const;

  const BlockActivations<Float>& kept() const { return kept_; }

 private:
  void rotate(Float* qkv, bool backward) const;
  void mlp_backward(bool need_dmid) const;
  void attention_backward(const Float* x, bool need_datt, bool need_dx) const;

  const Device& device_;
  const LlamaConfig& config_;
  const BlockParameters<Float>& w_;
  const BlockActivations<Float>& kept_;
  const Activations<Float>& shared_;
  Batch batch_;
  LinearPass<Float> linear_;
  AttentionSizes attention_;
};

}  // namespace tll
