// Coalesced: both operands are contiguous along k, so the threads of a warp should be neighbours in k. One warp per element of C.
// A lane takes every 32nd product; a warp-level reduction adds them up.
//
// Traffic: as rung 1, but 4 sectors for 32 products instead of 33, all of them useful. Occupancy: 64 warps.
// Bottleneck: every fma still costs two loads of 2 bytes. No cache is fast enough for 1/2 flop per byte.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) matmul_warp_an_element(const __grid_constant__ Matmul p) {
  const int64_t row = blockIdx.y, col = int64_t{blockIdx.x} * 8 + warp_id();
  if (col >= p.N) return;  // the whole warp
  const bf16* __restrict__ a = p.a + row * p.K;
  const bf16* __restrict__ b = p.b + col * p.K;
  float sum = 0;
  for (int k = static_cast<int>(lane_id()); k < p.K; k += 32) sum = fmaf(to_float(a[k]), to_float(b[k]), sum);
  sum = warp_sum(sum);
  if (lane_id() == 0) p.c[row * p.N + col] = sum;
}

inline void run_matmul_2(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.N, 8)), static_cast<unsigned>(p.M));
  launch(matmul_warp_an_element, grid, 256, 0, stream, p);
}

}  // namespace tll::ladder
