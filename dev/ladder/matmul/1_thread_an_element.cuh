// One thread per element of C; neighbouring threads have neighbouring rows.
//
// Traffic: 2·M·N·K flops. Requests M·N·(4·K + 4) bytes, both operands anew for each element: 1/2 flop per byte. The bytes that
// must move, 2·K·(M + N) + 4·M·N, would allow 1024 flops per byte at 4096³. The next rungs are about requesting less.
// Occupancy: 64 warps (32 registers).
// Bottleneck: L1. A warp's load of A touches 32 rows: 32 sectors of 32 bytes for 64 useful bytes, and a step for each cache line.
// All of the warp wants the same element of B. Its stores are 4·N bytes apart.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) matmul_thread_an_element(const __grid_constant__ Matmul p) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, col = blockIdx.y;
  if (row >= p.M) return;
  const bf16* __restrict__ a = p.a + row * p.K;
  const bf16* __restrict__ b = p.b + col * p.K;
  float sum = 0;
  for (int k = 0; k < p.K; k++) sum = fmaf(to_float(a[k]), to_float(b[k]), sum);
  p.c[row * p.N + col] = sum;
}

inline void run_matmul_1(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 256)), static_cast<unsigned>(p.N));
  launch(matmul_thread_an_element, grid, 256, 0, stream, p);
}

}  // namespace tll::ladder
