// Warp-level reduction: five shuffles give all 32 threads of a warp its sum. Only the eight sums of the warps go through shared
// memory, so one barrier is left of nine.
//
// Traffic and occupancy: as rung 2.
// Bottleneck: still 2 bytes per thread and load.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) rmsnorm_warp_shuffles(const __grid_constant__ Rmsnorm p) {
  __shared__ float sums[8];
  const int64_t row = blockIdx.x;
  const int t = static_cast<int>(threadIdx.x);
  const bf16* __restrict__ x = p.x + row * p.C;
  const bf16* __restrict__ w = p.w;
  bf16* __restrict__ out = p.out + row * p.C;
  float sum = 0;
  for (int c = t; c < p.C; c += 256) sum = fmaf(to_float(x[c]), to_float(x[c]), sum);
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(kFullWarp, sum, distance);
  if (t % 32 == 0) sums[t / 32] = sum;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < 8; i++) total += sums[i];
  const float r = 1.0f / sqrtf(total / static_cast<float>(p.C) + Rmsnorm::kEps);
  for (int c = t; c < p.C; c += 256) out[c] = from_float<bf16>(to_float(x[c]) * r * to_float(w[c]));
}

inline void run_rmsnorm_3(const Rmsnorm& p, cudaStream_t stream) {
  launch(rmsnorm_warp_shuffles, dim3(static_cast<unsigned>(p.N)), 256, 0, stream, p);
}

}  // namespace tll::ladder
