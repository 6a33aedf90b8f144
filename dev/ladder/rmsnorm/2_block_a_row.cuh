// One block per row, coalesced: neighbouring threads read neighbouring elements. A tree reduction in shared memory adds their
// sums: in each round half of the threads add the other half's.
//
// Traffic: as rung 1, but a warp's access is now 64 contiguous bytes, 2 sectors instead of 32.
// Occupancy: N blocks of 8 warps, 28 registers per thread: 64 warps per SM (sm_80, sm_90), the maximum.
// Bottleneck: eight rounds with a barrier each, in which ever fewer threads work while memory is idle. And loads of 2 bytes, 16
// per thread and pass at C = 4096: many instructions for the bytes.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) rmsnorm_block_a_row(const __grid_constant__ Rmsnorm p) {
  __shared__ float sums[256];
  const int64_t row = blockIdx.x;
  const int t = static_cast<int>(threadIdx.x);
  const bf16* __restrict__ x = p.x + row * p.C;
  const bf16* __restrict__ w = p.w;
  bf16* __restrict__ out = p.out + row * p.C;
  float sum = 0;
  for (int c = t; c < p.C; c += 256) sum = fmaf(to_float(x[c]), to_float(x[c]), sum);
  sums[t] = sum;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (t < half) sums[t] += sums[t + half];
    __syncthreads();
  }
  const float r = 1.0f / sqrtf(sums[0] / static_cast<float>(p.C) + Rmsnorm::kEps);
  for (int c = t; c < p.C; c += 256) out[c] = from_float<bf16>(to_float(x[c]) * r * to_float(w[c]));
}

inline void run_rmsnorm_2(const Rmsnorm& p, cudaStream_t stream) {
  launch(rmsnorm_block_a_row, dim3(static_cast<unsigned>(p.N)), 256, 0, stream, p);
}

}  // namespace tll::ladder
