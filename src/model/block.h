// One transformer block: its forward pass and, beside it, its backward pass.
//
//   ln1 = rmsnorm(x);  qkv = Wqkv·ln1;  q, k = rope(q, k);  att = attention(q, k, v);  mid = x + Wo·att
//   ln2 = rmsnorm(mid);  gate, up = Wgate_up·ln2;  act = silu(gate) ⊙ up;  out = mid + Wdown·act
//
// Qwen3 normalises each head of q and k before RoPE (kernels/qk_norm.h).
//
// x, mid and out are the residual stream (N, C). A linear layer may have LoRA adapters (src/model/linear.h). Backward formulas
// are in the headers of the ops and are derived in dev/notes/derivations.md. dev/notes/step.md lists all calls with their shapes.
//
// The MLP, the second line, works on each row alone. So it may run over a chunk of rows at a time, forward and backward. Then the
// result and dx are the same bits (but for chunks of so few rows that a GEMM has another kernel for them); dA, dB (and dW) are
// sums over the rows, which are added chunk by chunk: in another order.
//
// Of the last block's result often only some rows are read: with a loss those that have a target, in SQuAD one in twenty, and of
// a prompt its last. After attention a row depends on no other. So `rows` of att and x are gathered, and Wo and all that follows
// compute these alone: mid, the MLP's tensors and out have a row for each of them, one after another. In backward the gradients
// of att and x are scattered to their rows, and the others are zero.
#pragma once

#include "kernels/attention.h"
#include "src/model/activations.h"

namespace tll {

// A block during one pass over a batch. It holds references and a few small structs, so it is cheap to make. What it refers to
// must outlive the pass.
template <class Float>
class Block {
 public:
  // `sets` holds the memory of the direction: forward() and its parts need a pass's forward sets, backward() its backward sets.
  // `rows`: those of out that are read, R = N of them where it lists none.
  Block(const Device&, const LlamaConfig&, const ModelOptions&, const BlockParameters<Float>&, const BlockSets<Float>& sets,
        int layer, const Activations<Float>& shared, const Batch&, RowList rows = {});

  // out (R, C) from x (N, C).
  void forward(const Float* x, Float* out) const;
  // The same in three parts, for generation, whose attention reads a KV cache: kept().qkv from x, kept().att from kept().qkv, and
  // the rest. q and k are rotated in kept().qkv, but where kept().qk holds them.
  void project_qkv(const Float* x) const;
  void attend() const;
  void finish(const Float* x, Float* out) const;

  // Before the call, dresid is the gradient of out (R, C). After it, dresid is the gradient of x (N, C). need_dx false: nothing
  // below this block is trained, and the gradient of x is not computed. Gradients of trained tensors accumulate (+=). What the
  // options say is not kept is recomputed from x.
  void backward(const Float* x, bool need_dx) const;

  const BlockActivations<Float>& kept() const { return kept_; }

 private:
  struct Chunk;  // of the MLP's rows
  template <class Body>
  void each_chunk(const Body& body) const;
  void finish_qk(Float* qk, acc_t<Float>* rstd) const;
  void rotate(Rows<Float> qk, bool backward) const;
  AttentionSizes sizes_for(const Float* qk) const;
  Float* u_o() const;
  template <class Op>  // GatherRows or ScatterRows
  void move_rows(Rows<Float> to, Rows<const Float> from, int columns) const;
  void scatter(Rows<Float> to, Rows<const Float> from, int columns) const;
  void project_out(const Float* x) const;
  void mlp(const Chunk& chunk) const;
  void mlp_backward(const Chunk& chunk, bool need_dmid) const;
  void project_out_backward(bool need_datt, bool need_dx) const;
  void attention_backward(const Float* x, bool need_dx) const;

  const Device& device_;
  const LlamaConfig& config_;
  const ModelOptions& options_;
  const BlockParameters<Float>& w_;
  const BlockSets<Float>& sets_;
  const BlockActivations<Float>& kept_;
  const Activations<Float>& shared_;
  Batch batch_;
  RowList rows_;
  LinearPass<Float> linear_, linear_of_rows_;  // over N rows, and over R
  AttentionSizes attention_;
};

}  // namespace tll
