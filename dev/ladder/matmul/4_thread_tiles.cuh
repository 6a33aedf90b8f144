// Register tiles: a thread computes 8 × 8 elements, every 16th row and column of the block's 128 × 128. 16 values from shared
// memory serve 64 fma. Tiles are stored as [k][row], so what a warp reads together is adjacent.
//
// Traffic: a quarter of rung 3: 64 flops per byte.
// Occupancy: 100 registers, 16 warps per SM. It is enough: the 64 independent fma of a thread hide latency in place of other
// warps.
// Bottleneck: instructions other than fma: 16 loads of 4 bytes per 64 fma, and 2 bytes per load from global memory.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) matmul_thread_tiles(const __grid_constant__ Matmul p) {
  constexpr int kTile = 128, kInner = 16;
  __shared__ float a_tile[kInner][kTile + 1], b_tile[kInner][kTile + 1];
  const int row0 = static_cast<int>(blockIdx.x) * kTile, col0 = static_cast<int>(blockIdx.y) * kTile;
  const int t = static_cast<int>(threadIdx.x), x = t % 16, y = t / 16;
  const bf16* __restrict__ a = p.a + int64_t{row0} * p.K;
  const bf16* __restrict__ b = p.b + int64_t{col0} * p.K;
  float sum[8][8] = {};
  for (int k0 = 0; k0 < p.K; k0 += kInner) {
    for (int i = 0; i < 8; i++) {  // 16 rows of 16 values at a time
      const int line = y + 16 * i;
      const bool inside = k0 + x < p.K;
      a_tile[x][line] = inside && row0 + line < p.M ? to_float(a[int64_t{line} * p.K + k0 + x]) : 0.0f;
      b_tile[x][line] = inside && col0 + line < p.N ? to_float(b[int64_t{line} * p.K + k0 + x]) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kInner; k++) {
      float av[8], bv[8];
#pragma unroll
      for (int i = 0; i < 8; i++) av[i] = a_tile[k][y + 16 * i], bv[i] = b_tile[k][x + 16 * i];
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sum[i][j] = fmaf(av[i], bv[j], sum[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int row = row0 + y + 16 * i, col = col0 + x + 16 * j;
      if (row < p.M && col < p.N) p.c[int64_t{row} * p.N + col] = sum[i][j];
    }
}

inline void run_matmul_4(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_thread_tiles, grid, 256, 0, stream, p);
}

}  // namespace tll::ladder
