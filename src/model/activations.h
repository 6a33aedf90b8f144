// The memory that the forward and the backward pass write: what each block keeps for its backward pass, buffers that all blocks
// share, buffers of the head, and scratch. Each tensor has a life (arena.h), so buffers of the forward pass, the head, the
// backward pass, and evaluation share bytes.
#pragma once

#include <vector>

#include "kernels/reduce.h"
#include "src/model/parameters.h"
#include "src/model/residual_stream.h"
#include "src/model/row_chunks.h"

namespace tll {

// Rows of logits are whole multiples of so many elements apart. So each row of logits, and of its gradient in 16 bits, is aligned
// to 16 bytes, whatever the vocabulary: for accesses of 128 bits, and for cuBLASLt (cublas_serves()).
inline constexpr int64_t kLogitMultiple = 8;

// What one block writes. The MLP runs over M rows at a time, M = N without mlp_chunk.
template <class Float>
struct BlockActivations {
  // Inputs of linear layers, and gate_up, whose gradient takes its place, have room for what a joined adapter puts behind them.
  Rows<Float> ln1, att, ln2, act, gate_up;                         // (N or M, ·)
  Float *qkv = nullptr, *mid = nullptr;                            // (N, ·)
  acc_t<Float>*rstd1 = nullptr, *lse = nullptr, *rstd2 = nullptr;  // (N), (H, N), (M)
  // (N or M, R) of each linear layer; null: behind its input (Linear::forward)
  Float *u_qkv = nullptr, *u_o = nullptr, *u_gate_up = nullptr, *u_down = nullptr;
  // Where the architecture normalises q and k: what attention reads, while qkv keeps them as they were before. Null: q and k are
  // normalised and rotated in qkv.
  Float* qk = nullptr;              // (N, (H+G)·D)
  acc_t<Float>* rstd_qk = nullptr;  // (N, H+G)  null: no backward pass needs it
  // Of the last block, which computes only R rows from Wo on (RowList): att of these, in memory that nothing else needs then, and
  // u of a joined adapter on Wo. mid, out and what is (M, ·) have R rows too.
  Rows<Float> att_of_rows;       // (R, H·D), with room behind the columns as att has
  Float* u_o_of_rows = nullptr;  // (R, R of o)  null: u_o, or no backward pass needs it
};

// The memory of the blocks in one direction of a pass.
template <class Float>
struct BlockSets {
  StepPhase attention, mlp;                    // in which a block's two halves run
  std::vector<BlockActivations<Float>> block;  // one a block, or one that all share
  Float* dropped = nullptr;                    // the largest input of a linear layer: see LinearPass
  const BlockActivations<Float>& of(int layer) const { return block[block.size() == 1 ? 0 : static_cast<size_t>(layer)]; }
};

// What a pass of one kind writes.
template <class Float>
struct PassActivations {
  using Acc = acc_t<Float>;
  BlockSets<Float> forward, backward;  // backward: what is kept, the same memory as in forward, and what is recomputed
  StepPhase head;
  Float* final = nullptr;     // (N, C)  the last norm's result
  Acc* rstd_final = nullptr;  // (N)
  // The head processes the rows of the last block, a chunk at a time.
  RowChunks chunks;                                 // of those rows; the most rows of logits at once
  void* logits = nullptr;                           // (chunk, logit_stride) of logits_dtype
  DType logits_dtype = dtype_of<Acc>;               // or of Float: ModelOptions::logits_16
  Acc* losses = nullptr;                            // (chunk), or (N) with every_loss
  bool every_loss = false;                          // losses stay until the next pass; else until the next chunk
  int32_t *rows = nullptr, *row_targets = nullptr;  // (N)  that have a target: RowsRead::targets
};

template <class Float>
class Activations {
 public:
  using Acc = acc_t<Float>;
  Activations(const LlamaConfig& config, const ModelOptions& options);

  // The widths of u and z, and of the room for them, are the ranks of the adapters in `parameters`. `staging`: as
  // ResidualStream's.
  void place(Arena& arena, Arena* staging, const Parameters<Float>& parameters);
  // After the second place(): fills the RoPE tables.
  void initialize(const Device& device);
  // Without gradients every pass is one of inference.
  const PassActivations<Float>& pass(PassKind kind) const {
    return options_.gradients && kind == PassKind::training ? training_ : inference_;
  }
  // The residual stream (N, C) before block l; l = L: after the last.
  Float* resid(int l, PassKind kind) const {
    return options_.gradients && kind == PassKind::training ? residuals.at(l) : eval_resid_[static_cast<size_t>(l % 2)];
  }
  ResidualStream<Float> residuals;  // of training
  void enter(const Device& device, StepPhase phase) const { arena_->enter(device, phase); }
  void passed(StepPhase phase) const { arena_->passed(phase); }

  int64_t logit_stride = 0;  // elements from one row of logits to the next: V, and what aligns the rows
  int mlp_rows = 0;          // M
  // Gradients, shared by all blocks; null without gradients: (N, C), (N, (H+2G)·D), with room for z; (N, C), (N, H·D).
  Rows<Float> dresid, dqkv;
  Float *dln = nullptr, *datt = nullptr;
  // Of the block in the backward pass; null: each block keeps its own, or the architecture has none.
  Rows<Float> ln1;                // (N, C)
  Float* qk = nullptr;            // (N, (H+G)·D)
  Acc* rstd_qk = nullptr;         // (N, H+G)
  Float* z = nullptr;             // (N, widest R): see LinearPass
  loss_t<Float>* loss = nullptr;  // (1)  Llama::loss()'s own sum and scale
  double* loss_scale = nullptr;   // (1)
  // Scratch.
  Acc *cos = nullptr, *sin = nullptr;  // (RopeRows::all, R/2)
  float* inv_freq = nullptr;           // (R/2)  of short documents; then (R/2) of long ones
  Scratch matmul;
  Piece piece;  // of quantised weights
  float *attention_forward = nullptr, *attention_backward = nullptr;

 private:
  using Set = BlockActivations<Float>;
  struct HeadSize {
    int rows = 0;        // chunks.most, before it is rounded down
    int64_t logits = 0;  // at least chunks.most · logit_stride
    RowChunks chunks;
  };
  struct Placing;  // the arena, and the sizes of the tensors

  HeadSize head_size(const PassActivations<Float>&) const;
  void place_inference(Placing&);
  void place_training(Placing&, Arena* staging);
  void place_kept(Placing&);
  void place_recomputed(Placing&);
  void place_backward_norms(Placing&);
  void place_scratch(Placing&);

  LlamaConfig config_;
  ModelOptions options_;
  Arena* arena_ = nullptr;
  PassActivations<Float> training_, inference_;
  std::array<Float*, 2> eval_resid_{};  // two are enough: a block reads one and writes the other
};

}  // namespace tll
