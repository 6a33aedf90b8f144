// One warp per row, four per block: no barrier, no shared memory, and no warp waits for the loads of another. 16 vectors of eight
// per thread hold a row of 4096; what is longer, or not aligned, is read twice.
//
// Traffic: as rung 5.
// Occupancy: 160 registers, 12 warps. But each has 16 loads of 512 bytes in flight before it needs the first: 96 KiB per SM,
// several times what covers the latency of memory.
// Bottleneck: memory. With fewer rows than the GPU can hold warps, rung 5 has the parallelism that this one lacks.
#pragma once

#include "dev/ladder/load.cuh"
#include "dev/ladder/rmsnorm/4_wide_loads.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(128) rmsnorm_warp_a_row(const __grid_constant__ Rmsnorm p, bool vector) {
  constexpr int kKept = 16, kSpan = 32 * 8;
  const int64_t row = int64_t{blockIdx.x} * 4 + warp_id();
  if (row >= p.N) return;  // the whole warp
  const int C = p.C, mine = static_cast<int>(lane_id()) * 8, rest = mine + (vector ? kKept * kSpan : 0);
  const bf16* __restrict__ x = p.x + row * C;
  const bf16* __restrict__ w = p.w;
  bf16* __restrict__ out = p.out + row * C;
  Bf16x8 kept[kKept];
  float v[8], weight[8], sum = 0;
#pragma unroll
  for (int k = 0; k < kKept; k++) kept[k] = vector && mine + k * kSpan < C ? load_vec<8>(x + mine + k * kSpan) : Bf16x8{};
#pragma unroll
  for (int k = 0; k < kKept; k++)
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(to_float(kept[k][i]), to_float(kept[k][i]), sum);
  for (int c = rest; c < C; c += kSpan) {
    load_floats(v, x + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(v[i], v[i], sum);
  }
  const float r = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(C) + Rmsnorm::kEps);
#pragma unroll
  for (int k = 0; k < kKept; k++) {
    const int c = mine + k * kSpan;
    if (!vector || c >= C) continue;
    const Bf16x8 wv = load_vec<8>(w + c);
#pragma unroll
    for (int i = 0; i < 8; i++) kept[k][i] = from_float<bf16>(to_float(kept[k][i]) * r * to_float(wv[i]));
    store_vec(out + c, kept[k]);
  }
  for (int c = rest; c < C; c += kSpan) {
    load_floats(v, x + c, C - c, vector);
    load_floats(weight, w + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = v[i] * r * weight[i];
    store_floats(out + c, v, C - c, vector);
  }
}

inline void run_rmsnorm_6(const Rmsnorm& p, cudaStream_t stream) {
  launch(rmsnorm_warp_a_row, blocks_for(p.N, 4), 128, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
