// The flops of training, as this engine does it. The share of the peak that is printed counts these.
#pragma once

#include "src/files/config.h"
#include "src/model/model_options.h"

namespace tll {

// Flops of one forward and backward pass, of its products alone; the rest is bound by memory.
//
//   a frozen W (rows, cols)       a token:  4 rows cols     y = W x, dx = Wᵀ dy; in the first block q, k and v need no dx
//   a trained W                             6 rows cols     and dW = dy xᵀ
//   LoRA's A and B of rank r                6 r (rows + cols)
//   recomputed in the backward pass         2 of each again, but for down_proj, whose W and B give the block's result
//   the head, and in the last     a target: as above        computed only for rows with a target (RowsRead)
//   block all but q, k and v
//   attention (H heads of size D) a visible pair of query and key, in each block:
//                                           14 H D          2 products forward, and 5 backward (Dao et al. 2022, algorithm 4)
//                                           18 H D          recomputed
struct StepFlops {
  double per_token = 0, per_target = 0;
  double per_pair = 0, per_window_pair = 0;  // of the blocks without a window, and of those with one (Batch::pairs)
  // Without attention.
  double of(int64_t tokens, int64_t targets) const {
    return per_token * static_cast<double>(tokens) + per_target * static_cast<double>(targets);
  }
  double of_attention(double pairs, double window_pairs) const { return per_pair * pairs + per_window_pair * window_pairs; }
};
StepFlops step_flops(const LlamaConfig& config, const ModelOptions& options);

}  // namespace tll
