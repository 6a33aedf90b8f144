// Tiles above the diagonal are not visited: a block of 64 queries stops after its own 64 keys. Work is now uneven, so the blocks
// with the most keys come first (kBelowDiagonal in rung 6): the short ones fill the gaps at the end.
//
// Half of the flops and of the bytes: 4·H·N²·D / 2, which is what the rates of this ladder count for every rung. This is the
// structure of kernels/attention.cu.
// Limits: exponentials: D = 128 takes 512 flops of the tensor cores for each exp2f, of which a multiprocessor does 16 a clock
// where it does 2048 or 4096 of those flops; the two kinds of work take turns in a warp. Beyond: wgmma, and two groups of warps,
// one of which is in its softmax while the other one multiplies.
#pragma once

#include "dev/ladder/attention/6_prefetch.cuh"

namespace tll::ladder {

inline void run_attention_7(const Attention& p, cudaStream_t stream) { run_attention_prefetch<true>(p, stream); }

}  // namespace tll::ladder
