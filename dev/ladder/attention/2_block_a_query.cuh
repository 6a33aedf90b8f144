// One kernel, one block per query, which keeps its N scores in shared memory. Nothing of size N² is left in global memory. First
// pass: a thread computes the scores of every 128th key and their maximum. Second pass: a thread computes a column of the result.
//
// Traffic: requests H·N·(4·N·D + 4·D) bytes. Each query reads all keys and values: 1 flop per byte, from L2.
// Occupancy: limited by shared memory, 16 KiB per block at N = 4096: 36 warps on sm_80, 48 on sm_90.
// Bottleneck: L2. The keys that a warp reads are rows apart, uncoalesced, as in rung 1 of matmul. And the scores of N keys must
// fit in shared memory: N is at most about 24,000 on an RTX 3090, 57,000 on an H100.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(128) attention_block_a_query(const __grid_constant__ Attention p) {
  __shared__ float query[128];
  float* weights = dynamic_shared<float>();
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x), D = p.D;
  const int64_t first = int64_t{blockIdx.y} * p.N * D;
  const bf16* __restrict__ q = p.q + first + int64_t{i} * D;
  const bf16* __restrict__ k = p.k + first;
  const bf16* __restrict__ v = p.v + first;
  if (t < D) query[t] = to_float(q[t]) / sqrtf(static_cast<float>(D));
  __syncthreads();
  float top = -INFINITY, sum = 0;
  for (int j = t; j < p.N; j += 128) {
    float s = 0;
    for (int d = 0; d < D; d++) s = fmaf(query[d], to_float(k[int64_t{j} * D + d]), s);
    weights[j] = j <= i ? s : -INFINITY;
    top = fmaxf(top, weights[j]);
  }
  top = block_max<128>(top);
  for (int j = t; j < p.N; j += 128) {
    weights[j] = expf(weights[j] - top);
    sum += weights[j];
  }
  sum = block_sum<128>(sum);  // its barrier also makes the weights visible
  if (t >= D) return;
  float out = 0;
  for (int j = 0; j < p.N; j++) out = fmaf(weights[j], to_float(v[int64_t{j} * D + t]), out);
  p.out[first + int64_t{i} * D + t] = from_float<bf16>(out / sum);
}

inline void run_attention_2(const Attention& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.N), static_cast<unsigned>(p.H));
  launch(attention_block_a_query, grid, 128, sizeof(float) * static_cast<size_t>(p.N), stream, p);
}

}  // namespace tll::ladder
