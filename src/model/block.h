// One transformer block: its forward pass and, beside it, its backward pass.
//
//   ln1 = rmsnorm(x);  qkv = Wqkv·ln1;  q, k = rope(q, k);  att = attention(q, k, v);  mid = x + Wo·att
//   ln2 = rmsnorm(mid);  gate, up = Wgate_up·ln2;  act = silu(gate) ⊙ up;  out = mid + Wdown·act
//
// x, mid and out are the residual stream (N, C). A linear layer may have LoRA adapters (src/model/linear.h). Backward formulas
// are in the headers of the ops and are derived in dev/notes/derivations.md. dev/notes/step.md lists all calls with their shapes.
#pragma once

#include "kernels/attention.h"
#include "src/model/activations.h"

namespace tll {

// A block during one pass over a batch. It holds references and a few small structs, so it is cheap to make. What it refers to
// must outlive the pass.
template <class Float>
class Block {
 public:
  Block(const Device&, const LlamaConfig&, const ModelOptions&, const BlockParameters<Float>&,
        const BlockActivations<Float>& kept, const Activations<Float>& shared, const Batch&);

  // out (N, C) from x (N, C). With out null, only what the backward pass reads is computed (gradient checkpointing).
  void forward(const Float* x, Float* out) const;
  // The same in three parts, for generation, whose attention reads a KV cache: kept().qkv from x, kept().att from kept().qkv, and
  // the rest.
  void project_qkv(const Float* x) const;
  void attend() const;
  void finish(const Float* x, Float* out) const;

  // Before the call, dresid is the gradient of out. After it, dresid is the gradient of x. need_dx false: nothing below this
  // block is trained, and the gradient of x is not computed. Gradients of trained tensors accumulate (+=).
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
