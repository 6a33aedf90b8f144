// 128-bit accesses: a thread loads eight consecutive k of a row at once, and reads its rows and columns from shared memory four
// at a time. So its 8 × 8 elements are four pieces of 4 × 4, 64 rows or columns apart, and neighbouring threads still read
// neighbouring vectors. The pitch stays a multiple of four floats.
//
// Traffic: as rung 4, with an eighth of the loads from global memory and a quarter of those from shared memory.
// Occupancy: 16 warps (111 registers on sm_80, 125 on sm_90).
// Bottleneck: fp32 arithmetic, 64 or 128 fma per clock and SM. The SM's tensor cores do 16 times as many multiply-adds.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) matmul_wide_loads(const __grid_constant__ Matmul p, bool vector) {
  constexpr int kTile = 128, kInner = 16;
  __shared__ __align__(16) float a_tile[kInner][kTile + 4], b_tile[kInner][kTile + 4];
  const int row0 = static_cast<int>(blockIdx.x) * kTile, col0 = static_cast<int>(blockIdx.y) * kTile;
  const int t = static_cast<int>(threadIdx.x), x = t % 16 * 4, y = t / 16 * 4;
  const int line = t / 2, from = t % 2 * 8;  // what this thread loads
  const bf16* __restrict__ a = p.a + int64_t{row0 + line} * p.K + from;
  const bf16* __restrict__ b = p.b + int64_t{col0 + line} * p.K + from;
  const int a_left = row0 + line < p.M ? p.K - from : 0, b_left = col0 + line < p.N ? p.K - from : 0;  // elements that exist
  float sum[8][8] = {};
  for (int k0 = 0; k0 < p.K; k0 += kInner) {
    const Bf16x8 a_new = load_8(a + k0, valid_of_8(a_left - k0), vector);
    const Bf16x8 b_new = load_8(b + k0, valid_of_8(b_left - k0), vector);
#pragma unroll
    for (int i = 0; i < 8; i++) a_tile[from + i][line] = to_float(a_new[i]), b_tile[from + i][line] = to_float(b_new[i]);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kInner; k++) {
      Vec<float, 4> av[2], bv[2];
#pragma unroll
      for (int i = 0; i < 2; i++) av[i] = load_vec<4>(&a_tile[k][y + 64 * i]), bv[i] = load_vec<4>(&b_tile[k][x + 64 * i]);
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sum[i][j] = fmaf(av[i / 4][i % 4], bv[j / 4][j % 4], sum[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int row = row0 + y + 64 * (i / 4) + i % 4, col = col0 + x + 64 * (j / 4) + j % 4;
      if (row < p.M && col < p.N) p.c[int64_t{row} * p.N + col] = sum[i][j];
    }
}

inline bool vector_rows(const Matmul& p) { return vec_aligned<8>(p.a, p.K) && vec_aligned<8>(p.b, p.K); }
inline void run_matmul_5(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_wide_loads, grid, 256, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
