// Tensor cores for both matmuls: a block of four warps handles 64 queries, a warp 16 of them, and 64 keys and values at a time.
// The accumulators of the scores, rounded to bf16, are exactly the A operand of the second matmul (kernels/mma.cuh), so the
// weights never leave the registers. Of a lane's accumulators, elements 0 and 1 lie in one row, 2 and 3 in the row 8 below. The
// four lanes of a quad hold a whole row, so its maximum takes two shuffles. Needs sm_80.
//
// Traffic: requests 4·N·D bytes of keys and values per 64 queries: 64 flops per byte. Tile rows are padded (matmul, rung 7).
// Occupancy: 51 KiB of shared memory and 136 registers at D = 128: 12 warps.
// Bottleneck: all threads wait while a tile is loaded. And half of the tiles lie above the diagonal.
#pragma once

#include "dev/ladder/attention/3_online_softmax.cuh"

namespace tll::ladder {

// A thread's part of its two rows: the running maximum, the sum of its own weights, and its part of the result.
template <int kD>
struct Rows {
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {}, out[kD / 8][4] = {};
};

// scores[n/8] = Q·Kᵀ of this warp's 16 queries and 8 keys, for 64 keys.
template <int kD>
TLL_DEVICE void multiply_keys(float (&scores)[8][4], const bf16* queries, const bf16* keys) {
  constexpr int kPitch = kD + 8;
  const int lane = static_cast<int>(lane_id());
  const bf16* a_row = queries + (static_cast<int>(warp_id()) * 16 + (lane & 15)) * kPitch + 8 * (lane >> 4);
  const bf16* b_row = keys + ((lane & 7) + 8 * (lane >> 4)) * kPitch + 8 * ((lane >> 3) & 1);
#pragma unroll
  for (int d = 0; d < kD; d += 16) {
    uint32_t a[4], b[4];
    ldmatrix(a, a_row + d);
#pragma unroll
    for (int n = 0; n < 64; n += 16) {
      ldmatrix(b, b_row + n * kPitch + d);
      const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
      mma_m16n8k16<bf16>(scores[n / 8], a, left);
      mma_m16n8k16<bf16>(scores[n / 8 + 1], a, right);
    }
  }
}

// Online softmax: scores become weights. row: the query of the thread's first row; key: the key of its first column.
template <int kD>
TLL_DEVICE void weigh(Rows<kD>& rows, float (&scores)[8][4], int row, int key) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float higher = rows.top[r];
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float& s = scores[n][2 * r + e];
        s = key + 8 * n + e > row + 8 * r ? -INFINITY : s * (kLog2e / sqrtf(kD));
        higher = fmaxf(higher, s);
      }
    higher = warp_max<4>(higher);
    const float shrink = exp2f(rows.top[r] - higher);
    rows.top[r] = higher;
    rows.sum[r] *= shrink;
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        scores[n][2 * r + e] = exp2f(scores[n][2 * r + e] - higher);
        rows.sum[r] += scores[n][2 * r + e];
      }
#pragma unroll
    for (int n = 0; n < kD / 8; n++) rows.out[n][2 * r] *= shrink, rows.out[n][2 * r + 1] *= shrink;
  }
}

// out += weights · values.
template <int kD>
TLL_DEVICE void add_values(Rows<kD>& rows, const float (&weights)[8][4], const bf16* values) {
  constexpr int kPitch = kD + 8;
  const int lane = static_cast<int>(lane_id());
  const bf16* b_row = values + (lane & 15) * kPitch + 8 * (lane >> 4);
#pragma unroll
  for (int k = 0; k < 64; k += 16) {
    const float(&low)[4] = weights[k / 8], (&high)[4] = weights[k / 8 + 1];
    const uint32_t a[4] = {pack2<bf16>(low[0], low[1]), pack2<bf16>(low[2], low[3]), pack2<bf16>(high[0], high[1]),
                           pack2<bf16>(high[2], high[3])};
#pragma unroll
    for (int n = 0; n < kD; n += 16) {
      uint32_t b[4];
      ldmatrix_trans(b, b_row + k * kPitch + n);
      const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
      mma_m16n8k16<bf16>(rows.out[n / 8], a, left);
      mma_m16n8k16<bf16>(rows.out[n / 8 + 1], a, right);
    }
  }
}

template <int kD>
TLL_DEVICE void store_rows(const Attention& p, const Rows<kD>& rows, int row) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float sum = warp_sum<4>(rows.sum[r]);
    bf16* out = p.out + (int64_t{blockIdx.y} * p.N + row + 8 * r) * kD + lane_id() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kD / 8; n++) {
      const Vec<bf16, 2> pair = {from_float<bf16>(rows.out[n][2 * r] / sum), from_float<bf16>(rows.out[n][2 * r + 1] / sum)};
      if (row + 8 * r < p.N) store_vec(out + 8 * n, pair);
    }
  }
}

template <int kD>
inline constexpr size_t kThreeTiles = sizeof(bf16) * 3 * 64 * (kD + 8);  // bytes of shared memory: queries, keys, values

template <int kD>
__global__ void __launch_bounds__(128) attention_tensor_cores(const __grid_constant__ Attention p) {
  if (TLL_ARCH < 800) return;  // not run there: Rung::arch
  constexpr int kPitch = kD + 8, kTile = 64 * kPitch;
  bf16 *queries = dynamic_shared<bf16>(), *keys = queries + kTile, *values = keys + kTile;
  const int64_t first = int64_t{blockIdx.y} * p.N * kD;
  const auto load = [&](bf16* tile, const bf16* matrix, int row0) {
#pragma unroll
    for (int c = static_cast<int>(threadIdx.x); c < 64 * kD / 8; c += 128) {
      const int row = c / (kD / 8), column = c % (kD / 8) * 8;
      const bf16* from = matrix + first + int64_t{row0 + row} * kD + column;
      store_vec(tile + row * kPitch + column, load_8(from, row0 + row < p.N ? 8 : 0, true));
    }
  };
  const int i0 = static_cast<int>(blockIdx.x) * 64, lane = static_cast<int>(lane_id());
  const int row = i0 + static_cast<int>(warp_id()) * 16 + lane / 4;
  load(queries, p.q, i0);
  Rows<kD> rows;
  for (int j0 = 0; j0 < p.N; j0 += 64) {
    load(keys, p.k, j0);
    load(values, p.v, j0);
    __syncthreads();
    float scores[8][4] = {};
    multiply_keys<kD>(scores, queries, keys);
    weigh(rows, scores, row, j0 + lane % 4 * 2);
    add_values(rows, scores, values);
    __syncthreads();
  }
  store_rows(p, rows, row);
}

inline void run_attention_5(const Attention& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.N, 64)), static_cast<unsigned>(p.H));
  if (p.D == 64)
    launch(attention_tensor_cores<64>, grid, 128, kThreeTiles<64>, stream, p);
  else
    launch(attention_tensor_cores<128>, grid, 128, kThreeTiles<128>, stream, p);
}

}  // namespace tll::ladder
