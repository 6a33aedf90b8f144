// 128-bit accesses: a thread moves eight consecutive elements at once. That is an eighth of the load and store instructions, 512
// bytes per warp each, and eight times the bytes in flight for the same number of waiting warps. Rows that are not aligned to 16
// bytes (C % 8 != 0) are accessed element by element. block_sum is rung 3's reduction.
//
// Traffic: as rung 3. Occupancy: 32 registers, 64 warps.
// Bottleneck: x is requested twice. L2 may serve the second time, but the way through the caches can be saved.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) rmsnorm_wide_loads(const __grid_constant__ Rmsnorm p, bool vector) {
  const int64_t row = blockIdx.x;
  const int C = p.C, mine = static_cast<int>(threadIdx.x) * 8;
  const bf16* __restrict__ x = p.x + row * C;
  const bf16* __restrict__ w = p.w;
  bf16* __restrict__ out = p.out + row * C;
  float v[8], weight[8], sum = 0;
  for (int c = mine; c < C; c += 256 * 8) {
    load_floats(v, x + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(v[i], v[i], sum);
  }
  const float r = 1.0f / sqrtf(block_sum<256>(sum) / static_cast<float>(C) + Rmsnorm::kEps);
  for (int c = mine; c < C; c += 256 * 8) {
    load_floats(v, x + c, C - c, vector);
    load_floats(weight, w + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = v[i] * r * weight[i];
    store_floats(out + c, v, C - c, vector);
  }
}

inline bool vector_rows(const Rmsnorm& p) {
  return vec_aligned<8>(p.x, p.C) && vec_aligned<8>(p.out, p.C) && vec_aligned<8>(p.w, p.C);
}
inline void run_rmsnorm_4(const Rmsnorm& p, cudaStream_t stream) {
  launch(rmsnorm_wide_loads, dim3(static_cast<unsigned>(p.N)), 256, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
