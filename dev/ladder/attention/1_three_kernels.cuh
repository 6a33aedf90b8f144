// Three kernels, as the formula is written: scores, softmax, weighted sum. The H·N·N scores are in memory between them.
//
// Traffic: 4·H·N²·D flops, half of them for scores that the mask discards (rungs 1 to 6). The scores take H·N² floats, 2.1 GB at
// N 4096, H 32. They alone move 24·H·N² bytes: written, read three times and written by the softmax, read by the sum. At D = 128
// that is 21 flops per byte, memory-bound on every GPU. The matmuls request 4·D bytes per score and 6·D per weight, as rung 1 of
// matmul does.
// Occupancy: 64 warps in all three.
// Bottleneck: first the caches, which serve two loads per fma; then memory, for the scores.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

// One thread per score, of query i = blockIdx.y and key j.
__global__ void __launch_bounds__(128) attention_scores(const __grid_constant__ Attention p) {
  const int j = static_cast<int>(blockIdx.x * 128 + threadIdx.x), i = static_cast<int>(blockIdx.y);
  if (j >= p.N) return;
  const int64_t first = int64_t{blockIdx.z} * p.N;  // first row of the head
  const bf16* __restrict__ q = p.q + (first + i) * p.D;
  const bf16* __restrict__ k = p.k + (first + j) * p.D;
  float sum = 0;
  for (int d = 0; d < p.D; d++) sum = fmaf(to_float(q[d]), to_float(k[d]), sum);
  p.scores[(first + i) * p.N + j] = j <= i ? sum / sqrtf(static_cast<float>(p.D)) : -INFINITY;
}

// One block per row of scores.
__global__ void __launch_bounds__(128) attention_softmax(const __grid_constant__ Attention p) {
  float* row = p.scores + (int64_t{blockIdx.y} * p.N + blockIdx.x) * p.N;
  float top = -INFINITY, sum = 0;
  for (int j = static_cast<int>(threadIdx.x); j < p.N; j += 128) top = fmaxf(top, row[j]);
  top = block_max<128>(top);
  for (int j = static_cast<int>(threadIdx.x); j < p.N; j += 128) sum += expf(row[j] - top);
  sum = block_sum<128>(sum);
  for (int j = static_cast<int>(threadIdx.x); j < p.N; j += 128) row[j] = expf(row[j] - top) / sum;
}

// One thread per element of the result: column d = threadIdx.x of query i = blockIdx.x.
__global__ void __launch_bounds__(128) attention_weighted_sum(const __grid_constant__ Attention p) {
  const int64_t first = int64_t{blockIdx.y} * p.N;
  const float* __restrict__ weights = p.scores + (first + blockIdx.x) * p.N;
  const bf16* __restrict__ v = p.v + first * p.D + threadIdx.x;
  float sum = 0;
  for (int j = 0; j < p.N; j++) sum = fmaf(weights[j], to_float(v[int64_t{j} * p.D]), sum);
  p.out[(first + blockIdx.x) * p.D + threadIdx.x] = from_float<bf16>(sum);
}

inline void run_attention_1(const Attention& p, cudaStream_t stream) {
  const unsigned n = static_cast<unsigned>(p.N), heads = static_cast<unsigned>(p.H), head_size = static_cast<unsigned>(p.D);
  launch(attention_scores, dim3(ceil_div(n, 128u), n, heads), 128, 0, stream, p);
  launch(attention_softmax, dim3(n, heads), 128, 0, stream, p);
  launch(attention_weighted_sum, dim3(n, heads), head_size, 0, stream, p);
}

}  // namespace tll::ladder
