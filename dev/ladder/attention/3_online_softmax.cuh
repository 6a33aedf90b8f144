// Online softmax: one pass over the keys with a running maximum. When a key raises it, what was accumulated is rescaled by e^(old
// - new). No score is stored, so N is not limited, and keys and values are read together. One warp per query. A lane holds every
// 32nd pair of columns of q, k, v and the result; a warp-level reduction adds up the dot product.
//
// Traffic: as rung 2, now coalesced: a warp reads a key of 128 columns in two accesses of 128 bytes. Occupancy: 64 warps.
// Bottleneck: L2 as before. And for each key a chain of dependent steps: five shuffles, two exponentials and a rescaling.
#pragma once

#include "dev/ladder/load.cuh"

namespace tll::ladder {

inline constexpr float kLog2e = 1.4426950408889634f;  // e^x = 2^(x·log2 e), and 2^x is one instruction

template <int kD>
__global__ void __launch_bounds__(128) attention_online_softmax(const __grid_constant__ Attention p) {
  constexpr int kPairs = kD / 64;  // column pairs per lane
  const int i = static_cast<int>(blockIdx.x * 4 + warp_id()), lane = static_cast<int>(lane_id());
  if (i >= p.N) return;  // the whole warp
  const int64_t first = int64_t{blockIdx.y} * p.N * kD;
  const bf16* __restrict__ k = p.k + first;
  const bf16* __restrict__ v = p.v + first;
  const auto pair = [&](const bf16* row, int t) {
    const Vec<bf16, 2> x = load_vec<2>(row + 2 * (lane + 32 * t));
    return make_float2(to_float(x[0]), to_float(x[1]));
  };
  float2 q[kPairs], out[kPairs] = {};
#pragma unroll
  for (int t = 0; t < kPairs; t++) {
    q[t] = pair(p.q + first + int64_t{i} * kD, t);
    q[t].x *= kLog2e / sqrtf(kD), q[t].y *= kLog2e / sqrtf(kD);
  }
  float top = -INFINITY, sum = 0;
  for (int j = 0; j < p.N; j++) {
    float s = 0;
#pragma unroll
    for (int t = 0; t < kPairs; t++) {
      const float2 key = pair(k + int64_t{j} * kD, t);
      s = fmaf(q[t].x, key.x, fmaf(q[t].y, key.y, s));
    }
    s = warp_sum(s);
    if (j > i) s = -INFINITY;
    const float higher = fmaxf(top, s), shrink = exp2f(top - higher), weight = exp2f(s - higher);
    top = higher;
    sum = sum * shrink + weight;
#pragma unroll
    for (int t = 0; t < kPairs; t++) {
      const float2 value = pair(v + int64_t{j} * kD, t);
      out[t].x = fmaf(weight, value.x, out[t].x * shrink);
      out[t].y = fmaf(weight, value.y, out[t].y * shrink);
    }
  }
#pragma unroll
  for (int t = 0; t < kPairs; t++) {
    const Vec<bf16, 2> result = {from_float<bf16>(out[t].x / sum), from_float<bf16>(out[t].y / sum)};
    store_vec(p.out + first + int64_t{i} * kD + 2 * (lane + 32 * t), result);
  }
}

inline void run_attention_3(const Attention& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.N, 4)), static_cast<unsigned>(p.H));
  launch(p.D == 64 ? attention_online_softmax<64> : attention_online_softmax<128>, grid, 128, 0, stream, p);
}

}  // namespace tll::ladder
