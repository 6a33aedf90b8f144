// Prefetching by cp.async: the values arrive while the scores are computed, the next keys while the values are used. Each tile
// still has one buffer, which is refilled as soon as nobody reads it any more. One group of copies is committed per tile, so
// waiting for all groups but the newest is waiting for the tile that is needed next. Needs sm_80.
//
// Traffic, shared memory and occupancy: as rung 5. Two more barriers per 64 keys.
// Bottleneck: half of the tiles are entirely masked.
#pragma once

#include "dev/ladder/attention/5_tensor_cores.cuh"

namespace tll::ladder {

template <int kD, bool kBelowDiagonal>
__global__ void __launch_bounds__(128) attention_prefetch(const __grid_constant__ Attention p) {
  if (TLL_ARCH < 800) return;  // not run there: Rung::arch
  constexpr int kPitch = kD + 8, kTile = 64 * kPitch;
  bf16 *queries = dynamic_shared<bf16>(), *keys = queries + kTile, *values = keys + kTile;
  const int64_t first = int64_t{blockIdx.y} * p.N * kD;
  const auto load = [&](bf16* tile, const bf16* matrix, int row0) {
#pragma unroll
    for (int c = static_cast<int>(threadIdx.x); c < 64 * kD / 8; c += 128) {
      const int row = c / (kD / 8), column = c % (kD / 8) * 8;
      const bool there = row0 + row < p.N;
      const bf16* from = matrix + first + (there ? int64_t{row0 + row} * kD + column : 0);
      cp_async_16(tile + row * kPitch + column, from, there ? 16 : 0);
    }
  };
  const unsigned tile = kBelowDiagonal ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  const int i0 = static_cast<int>(tile) * 64, lane = static_cast<int>(lane_id());
  const int row = i0 + static_cast<int>(warp_id()) * 16 + lane / 4;
  const int end = kBelowDiagonal && i0 + 64 < p.N ? i0 + 64 : p.N;  // end of the keys
  load(queries, p.q, i0);
  load(keys, p.k, 0);
  cp_async_commit();
  Rows<kD> rows;
  for (int j0 = 0; j0 < end; j0 += 64) {
    load(values, p.v, j0);
    cp_async_commit();
    cp_async_wait_group<1>();
    __syncthreads();  // the keys are there
    float scores[8][4] = {};
    multiply_keys<kD>(scores, queries, keys);
    __syncthreads();  // nobody reads the keys any more
    if (j0 + 64 < end) load(keys, p.k, j0 + 64);
    cp_async_commit();
    weigh(rows, scores, row, j0 + lane % 4 * 2);
    cp_async_wait_group<1>();
    __syncthreads();  // the values are there
    add_values(rows, scores, values);
    __syncthreads();  // nobody reads the values any more
  }
  store_rows(p, rows, row);
}

template <bool kBelowDiagonal>
void run_attention_prefetch(const Attention& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.N, 64)), static_cast<unsigned>(p.H));
  if (p.D == 64)
    launch(attention_prefetch<64, kBelowDiagonal>, grid, 128, kThreeTiles<64>, stream, p);
  else
    launch(attention_prefetch<128, kBelowDiagonal>, grid, 128, kThreeTiles<128>, stream, p);
}
inline void run_attention_6(const Attention& p, cudaStream_t stream) { run_attention_prefetch<false>(p, stream); }

}  // namespace tll::ladder
