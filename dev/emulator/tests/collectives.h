// Kernels that write down what every collective and instruction gives each lane.
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

// r[lane · matrices + i]: what ldmatrix gives of shared memory that holds 0, 1, 2, … in 16-bit values; lane L addresses row[L].
void ldmatrix(int matrices, bool transposed, uint32_t* r, const int* row);

// Integers counted by `blocks` blocks of 64 threads.
void atomics(int* sum, int* largest, unsigned long long* bits, int blocks);

// out = in · factor, n values.
void scale(cudaStream_t stream, float* out, const float* in, float factor, int n);

// Each of `blocks` · 256 threads moves `repeat` values from in to out: for measuring.
void traffic(float* out, const float* in, int blocks, int repeat);
void barriers(int* out, int blocks, int repeat);
void nothing(int blocks);

}  // namespace collectives
