// Kernels that record what every collective gives each lane. (Those of mma and ldmatrix are in dev/gpu/probe_kernels.h.)
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace collectives {

// out[((kind · 6 + log2(width)) · 64 + operand) · 32 + lane] = the lane whose value __shfl_{,up_,down_,xor_}sync gave it.
inline constexpr int kShuffles = 4 * 6 * 64 * 32;
void shuffles(int* out);

// For the lanes of mask: out[0 … 31] ballot, [32 …] any, [64 …] all, of bit `lane` of predicates.
void votes(unsigned* out, unsigned mask, unsigned predicates);

// A block of 96 threads: out[3 · i] = __syncthreads_count, and, or of thread < threshold.
void block_votes(int* out, int threshold);

// out[i] = the block's sum, out[256 + i] its maximum, out[512 + i] the warp's sum, over in[256].
void reductions(float* out, const float* in);

// Integer atomics of `blocks` blocks of 64 threads.
void atomics(int* sum, int* largest, unsigned long long* bits, int blocks);

// out = in · factor, n values.
void scale(cudaStream_t stream, float* out, const float* in, float factor, int n);

// To measure: each of `blocks` · 256 threads moves `repeat` values from in to out.
void traffic(float* out, const float* in, int blocks, int repeat);
void barriers(int* out, int blocks, int repeat);
void nothing(int blocks);

}  // namespace collectives
