// Shared-memory tiles: a block computes 32 × 32 elements of C, a thread one of them. 32 × 32 tiles of A and B are loaded into
// shared memory once, coalesced along k, and each value is used 32 times from there. Elements outside are 0, so the inner loop
// needs no condition. A tile row has 33 floats, so the 32 rows that a warp reads together begin in 32 different banks (see rung
// 7).
//
// Traffic: requests 2·M·K bytes of A per 32 columns and 2·N·K of B per 32 rows: 16 flops per byte.
// Occupancy: 64 warps, two blocks of 32.
// Bottleneck: shared memory. It delivers 32 words per clock, one load of a warp. An fma of a warp takes two loads, and an SM can
// do two or four such fma per clock.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(1024) matmul_shared_tiles(const __grid_constant__ Matmul p) {
  __shared__ float a_tile[32][33], b_tile[32][33];
  const int row0 = static_cast<int>(blockIdx.x) * 32, col0 = static_cast<int>(blockIdx.y) * 32;
  const int x = static_cast<int>(lane_id()), y = static_cast<int>(warp_id());
  const bf16* __restrict__ a = p.a + int64_t{row0} * p.K;
  const bf16* __restrict__ b = p.b + int64_t{col0} * p.K;
  float sum = 0;
  for (int k0 = 0; k0 < p.K; k0 += 32) {
    const bool inside = k0 + x < p.K;
    a_tile[y][x] = inside && row0 + y < p.M ? to_float(a[int64_t{y} * p.K + k0 + x]) : 0.0f;
    b_tile[y][x] = inside && col0 + y < p.N ? to_float(b[int64_t{y} * p.K + k0 + x]) : 0.0f;
    __syncthreads();  // the tiles are complete
#pragma unroll
    for (int k = 0; k < 32; k++) sum = fmaf(a_tile[y][k], b_tile[x][k], sum);
    __syncthreads();  // nobody reads them any more
  }
  if (row0 + y < p.M && col0 + x < p.N) p.c[int64_t{row0 + y} * p.N + col0 + x] = sum;
}

inline void run_matmul_3(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 32)), static_cast<unsigned>(ceil_div(p.N, 32)));
  launch(matmul_shared_tiles, grid, 1024, 0, stream, p);
}

}  // namespace tll::ladder
