// One thread per row, as a loop on a CPU would do it: one pass for the sum of squares, one for the result.
//
// Traffic: requests 8·N·C bytes: x twice, w once per row, out once. About 4 flops per element, one per byte of x and out, so
// every rung of this ladder is memory-bound. The roof is the 4·N·C bytes of x and out at the speed of a copy.
// Occupancy: only N threads. 4096 rows are 32 blocks of 4 warps, so most of the GPU is idle.
// Bottleneck: latency. And uncoalesced accesses: the 32 threads of a warp read 32 rows, 2·C bytes apart, so 32 sectors of 32
// bytes for 64 useful bytes. The rest of a sector is used in the next 15 steps, if it is still cached.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(128) rmsnorm_thread_a_row(const __grid_constant__ Rmsnorm p) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= p.N) return;
  const bf16* __restrict__ x = p.x + row * p.C;
  const bf16* __restrict__ w = p.w;
  bf16* __restrict__ out = p.out + row * p.C;
  float sum = 0;
  for (int c = 0; c < p.C; c++) sum = fmaf(to_float(x[c]), to_float(x[c]), sum);
  const float r = 1.0f / sqrtf(sum / static_cast<float>(p.C) + Rmsnorm::kEps);
  for (int c = 0; c < p.C; c++) out[c] = from_float<bf16>(to_float(x[c]) * r * to_float(w[c]));
}

inline void run_rmsnorm_1(const Rmsnorm& p, cudaStream_t stream) {
  launch(rmsnorm_thread_a_row, blocks_for(p.N, 128), 128, 0, stream, p);
}

}  // namespace tll::ladder
