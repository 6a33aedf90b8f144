// Tiles above the diagonal are not visited: a block of 64 queries stops after its own 64 keys. Work is now uneven, so the blocks
// with the most keys come first (kBelowDiagonal in rung 6): the short ones fill the gaps at the end. This is the structure of
// kernels/attention.cu.
//
// Half of the flops and of the bytes: 2·H·N²·D flops, which is what the rates of this ladder count for every rung.
// Limits: the softmax. At D = 128 a score takes 512 flops of the tensor cores and one exp2f. A multiprocessor of sm_90 does 4096
// of those flops a clock, 8 scores, and 16 exponentials, half as long again, where they take turns; on sm_80, 4 scores and 16.
// Beyond: wgmma, and two groups of warps, one of which is in its softmax while the other one multiplies.
#pragma once

#include "dev/ladder/attention/6_prefetch.cuh"

namespace tll::ladder {

inline void run_attention_7(const Attention& p, cudaStream_t stream) { run_attention_prefetch<true>(p, stream); }

}  // namespace tll::ladder
