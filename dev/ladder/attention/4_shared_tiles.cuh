// Shared tiles: sixteen queries share what they read. A block loads 32 keys and values at a time into shared memory for its 16
// warps, one query each. For the scores a lane takes one key, so the softmax advances by 32 keys with one maximum and one
// rescaling. For the result a lane takes every 32nd pair of columns. Rows are 33 or 65 words apart, so 32 lanes read 32 rows from
// 32 banks.
//
// Traffic: requests 4·H·N·D bytes for q and out, and for each head 4·N·D for keys and values per 16 queries: a sixteenth of rung
// 3.
// Occupancy: 64 warps (24 KiB of shared memory per block of 16).
// Bottleneck: shared memory. Every two multiply-adds read one word of the key and two of the query.
#pragma once

#include "dev/ladder/attention/3_online_softmax.cuh"

namespace tll::ladder {

template <int kD>
__global__ void __launch_bounds__(512) attention_shared_tiles(const __grid_constant__ Attention p) {
  constexpr int kWords = kD / 2, kPitch = kWords + 1, kPairs = kD / 64;  // a word holds two columns
  __shared__ uint32_t keys[32][kPitch], values[32][kPitch];
  __shared__ float2 queries[16][kWords];
  const int warp = static_cast<int>(warp_id()), lane = static_cast<int>(lane_id());
  const int i = static_cast<int>(blockIdx.x) * 16 + warp;
  const int64_t first = int64_t{blockIdx.y} * p.N * kD;
  const auto word = [&](const bf16* matrix, int row, int w) {
    return row < p.N ? device_bit_cast<uint32_t>(load_vec<2>(matrix + first + int64_t{row} * kD + 2 * w)) : 0u;
  };
  for (int w = lane; w < kWords; w += 32) {
    const float2 q = unpack2<bf16>(word(p.q, i, w));
    queries[warp][w] = make_float2(q.x * (kLog2e / sqrtf(kD)), q.y * (kLog2e / sqrtf(kD)));
  }
  float top = -INFINITY, sum = 0;
  float2 out[kPairs] = {};
  for (int j0 = 0; j0 < p.N; j0 += 32) {
    for (int row = warp; row < 32; row += 16)
      for (int w = lane; w < kWords; w += 32) keys[row][w] = word(p.k, j0 + row, w), values[row][w] = word(p.v, j0 + row, w);
    __syncthreads();
    float s = 0;
#pragma unroll 8
    for (int w = 0; w < kWords; w++) {
      const float2 q = queries[warp][w], key = unpack2<bf16>(keys[lane][w]);
      s = fmaf(q.x, key.x, fmaf(q.y, key.y, s));
    }
    if (j0 + lane > i) s = -INFINITY;
    const float higher = fmaxf(top, warp_max(s)), shrink = exp2f(top - higher), weight = exp2f(s - higher);
    top = higher;
    sum = sum * shrink + weight;  // of this lane's keys
#pragma unroll
    for (int t = 0; t < kPairs; t++) out[t].x *= shrink, out[t].y *= shrink;
#pragma unroll 8
    for (int j = 0; j < 32; j++) {
      const float other = __shfl_sync(kFullWarp, weight, j);
#pragma unroll
      for (int t = 0; t < kPairs; t++) {
        const float2 value = unpack2<bf16>(values[j][lane + 32 * t]);
        out[t].x = fmaf(other, value.x, out[t].x);
        out[t].y = fmaf(other, value.y, out[t].y);
      }
    }
    __syncthreads();
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int t = 0; t < kPairs; t++) {
    const Vec<bf16, 2> result = {from_float<bf16>(out[t].x / sum), from_float<bf16>(out[t].y / sum)};
    if (i < p.N) store_vec(p.out + first + int64_t{i} * kD + 2 * (lane + 32 * t), result);
  }
}

inline void run_attention_4(const Attention& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.N, 16)), static_cast<unsigned>(p.H));
  launch(p.D == 64 ? attention_shared_tiles<64> : attention_shared_tiles<128>, grid, 512, 0, stream, p);
}

}  // namespace tll::ladder
