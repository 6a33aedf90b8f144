// Kernels that record what every collective and instruction gives each lane.
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

// c (32 lanes · 4) += a (32 · 4 or 2 registers) times b (32 · 2 or 1); type 0: half k16, 1: bf16 k16, 2: half k8.
void mma(int type, float* c, const uint32_t* a, const uint32_t* b);

// r[lane · matrices + i]: register i that ldmatrix gives of shared memory holding 0, 1, 2, … as 16-bit values. Lane L passes the
// address of value row[L].
void ldmatrix(int matrices, bool transposed, uint32_t* r, const int* row);

// Integer atomics of `blocks` blocks of 64 threads.
void atomics(int* sum, int* largest, unsigned long long* bits, int blocks);

// out = in · factor, n values.
void scale(cudaStream_t stream, float* out, const float* in, float factor, int n);

// To measure: each of `blocks` · 256 threads moves `repeat` values from in to out.
void traffic(float* out, const float* in, int blocks, int repeat);
void barriers(int* out, int blocks, int repeat);
void nothing(int blocks);

}  // namespace collectives
