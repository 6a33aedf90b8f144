// The row stays in registers between the reduction and the result, so x is read once. Two vectors of eight per thread hold a row
// of 4096; the rest of a longer row is read twice, as before. Loops over registers are unrolled, because registers have no index.
// This is the structure of kernels/rmsnorm.cu.
//
// Traffic: requests 6·N·C bytes. 2·N·C of them are w, from L1; the 4·N·C of the roof remain. Occupancy: 40 registers, 48 warps.
// Bottleneck: at the barrier all loads of the block have arrived and its stores have not begun. Other blocks of the SM must fill
// the gap.
#pragma once

#include "dev/ladder/load.cuh"
#include "dev/ladder/rmsnorm/4_wide_loads.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(256) rmsnorm_row_in_registers(const __grid_constant__ Rmsnorm p, bool vector) {
  constexpr int kKept = 2, kSpan = 256 * 8;
  const int64_t row = blockIdx.x;
  const int C = p.C, mine = static_cast<int>(threadIdx.x) * 8;
  const bf16* __restrict__ x = p.x + row * C;
  const bf16* __restrict__ w = p.w;
  bf16* __restrict__ out = p.out + row * C;
  float kept[kKept][8], sum = 0;
  const auto square = [&](float(&v)[8], int c) {
    load_floats(v, x + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(v[i], v[i], sum);
  };
#pragma unroll
  for (int k = 0; k < kKept; k++)
    if (mine + k * kSpan < C) square(kept[k], mine + k * kSpan);
  float v[8];
  for (int c = mine + kKept * kSpan; c < C; c += kSpan) square(v, c);
  const float r = 1.0f / sqrtf(block_sum<256>(sum) / static_cast<float>(C) + Rmsnorm::kEps);
  const auto scale = [&](float(&v)[8], int c) {
    float weight[8];
    load_floats(weight, w + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = v[i] * r * weight[i];
    store_floats(out + c, v, C - c, vector);
  };
#pragma unroll
  for (int k = 0; k < kKept; k++)
    if (mine + k * kSpan < C) scale(kept[k], mine + k * kSpan);
  for (int c = mine + kKept * kSpan; c < C; c += kSpan) {
    load_floats(v, x + c, C - c, vector);
    scale(v, c);
  }
}

inline void run_rmsnorm_5(const Rmsnorm& p, cudaStream_t stream) {
  launch(rmsnorm_row_in_registers, dim3(static_cast<unsigned>(p.N)), 256, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
