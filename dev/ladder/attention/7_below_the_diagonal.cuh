// Skips the tiles above the diagonal: a block of 64 queries stops after its own 64 keys. The work is now uneven, so the blocks
// with the most keys start first, and the short ones fill the gaps at the end (kBelowDiagonal in rung 6). This is the structure
// of kernels/attention.cu.
//
// Traffic: half of rung 6, and half of the flops: 2·H·N²·D, which the rates of this ladder count for every rung.
// Bottleneck: the softmax. At D = 128 a score takes 512 flops of the tensor cores and one exp2f. Per clock an SM of sm_90 does
// 4096 of those flops, 8 scores, and 16 exponentials. Where the two alternate, the exponentials add half of the tensor cores'
// time; on sm_80, with 4 scores per clock, a quarter.
// Beyond: wgmma, and two groups of warps, one in its softmax while the other multiplies.
#pragma once

#include "dev/ladder/attention/6_prefetch.cuh"

namespace tll::ladder {

inline void run_attention_7(const Attention& p, cudaStream_t stream) { run_attention_prefetch<true>(p, stream); }

}  // namespace tll::ladder
