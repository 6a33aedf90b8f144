// A warp owns a row, a block four of them: no barrier and no shared memory are left, and no warp waits for another one's loads.
// 16 vectors a thread hold a row of 4096 as the bf16 that they are, 64 registers; wider rows are read twice.
//
// The bytes of rung 5. 16 loads of 512 bytes are under way in each warp before the first one is needed, so that few warps are
// enough to keep the memory busy.
// Limits: the memory, or for a few short rows the time of a launch. Where there are fewer rows than the GPU has room for warps,
// rung 5 has the parallelism that this one lacks.
#pragma once

#include "dev/ladder/load.cuh"
#include "dev/ladder/rmsnorm/4_wide_loads.cuh"

namespace tll::ladder {

__global__ void __launch_bounds__(128) rmsnorm_warp_a_row(const __grid_constant__ Rmsnorm p, bool vector) {
  constexpr int kKept = 16, kSpan = 32 * 8;
  const int64_t row = int64_t{blockIdx.x} * 4 + warp_id();
  if (row >= p.N) return;  // the whole warp
  const int C = p.C, mine = static_cast<int>(lane_id()) * 8;
  const bf16* __restrict__ x = p.x + row * C;
  const bf16* __restrict__ w = p.w;
  bf16* __restrict__ out = p.out + row * C;
  Bf16x8 kept[kKept];
  float sum = 0;
  const auto add_squares = [&](const Bf16x8& v) {
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(to_float(v[i]), to_float(v[i]), sum);
  };
#pragma unroll
  for (int k = 0; k < kKept; k++) kept[k] = load_8(x + mine + k * kSpan, valid_of_8(true, C - mine - k * kSpan), vector);
#pragma unroll
  for (int k = 0; k < kKept; k++) add_squares(kept[k]);
  for (int c = mine + kKept * kSpan; c < C; c += kSpan) add_squares(load_8(x + c, valid_of_8(true, C - c), vector));
  const float r = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(C) + Rmsnorm::kEps);
  const auto scale = [&](const Bf16x8& v, int c) {
    float result[8];
    load_floats(result, w + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < 8; i++) result[i] = to_float(v[i]) * r * result[i];
    store_floats(out + c, result, C - c, vector);
  };
#pragma unroll
  for (int k = 0; k < kKept; k++)
    if (mine + k * kSpan < C) scale(kept[k], mine + k * kSpan);
  for (int c = mine + kKept * kSpan; c < C; c += kSpan) scale(load_8(x + c, valid_of_8(true, C - c), vector), c);
}

inline void run_rmsnorm_6(const Rmsnorm& p, cudaStream_t stream) {
  launch(rmsnorm_warp_a_row, blocks_for(p.N, 4), 128, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
