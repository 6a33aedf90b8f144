// Tensor cores: a warp multiplies 16 × 16 by 16 × 8 in one instruction, mma. ldmatrix loads the operands from shared memory in
// the layout that mma needs (kernels/mma.cuh). A block of 16 warps computes 128 × 128 elements, a warp 32 × 32 of them in the
// accumulators of 2 × 4 mma. Tiles stay bf16, without conversion. Needs sm_80.
//
// Traffic: as rung 4. An mma is 64 multiply-adds per lane, an fma is one. Products are exact, sums are fp32.
// Occupancy: 64 registers, 32 warps. (The launch bounds ask for it: with two registers more only one block would fit.)
// Bottleneck: (1) bank conflicts: a tile row is 64 bytes, so four of the 8 rows that ldmatrix reads at once lie in the same
// banks; (2) all threads wait for a tile, then all multiply, then all wait; (3) a warp reads 2 KiB per 8 mma.
#pragma once

#include "dev/ladder/load.cuh"
#include "dev/ladder/matmul/5_wide_loads.cuh"

namespace tll::ladder {

// sum += A·Bᵀ of a warp: kRows × 32 from a, kCols × 32 from b, which are tiles in shared memory with a pitch of kPitch.
template <int kPitch, int kRows, int kCols>
TLL_DEVICE void add_products(float (&sum)[kRows / 16][kCols / 8][4], const bf16* a, const bf16* b) {
  const int lane = static_cast<int>(lane_id());
#pragma unroll
  for (int k = 0; k < 32; k += 16) {
    uint32_t av[kRows / 16][4], bv[kCols / 16][4];  // bv: two tiles of 8 columns each
#pragma unroll
    for (int i = 0; i < kRows / 16; i++) ldmatrix(av[i], a + (16 * i + (lane & 15)) * kPitch + k + 8 * (lane >> 4));
#pragma unroll
    for (int j = 0; j < kCols / 16; j++)
      ldmatrix(bv[j], b + (16 * j + (lane & 7) + 8 * (lane >> 4)) * kPitch + k + 8 * ((lane >> 3) & 1));
#pragma unroll
    for (int i = 0; i < kRows / 16; i++)
#pragma unroll
      for (int j = 0; j < kCols / 8; j++) {
        const uint32_t pair[2] = {bv[j / 2][j % 2 * 2], bv[j / 2][j % 2 * 2 + 1]};
        mma_m16n8k16<bf16>(sum[i][j], av[i], pair);
      }
  }
}

// Writes a warp's accumulators to C, from (row0, col0) on.
template <int kRows, int kCols>
TLL_DEVICE void store_sums(const Matmul& p, const float (&sum)[kRows][kCols][4], int row0, int col0) {
  const int lane = static_cast<int>(lane_id());
#pragma unroll
  for (int i = 0; i < kRows; i++)
#pragma unroll
    for (int j = 0; j < kCols; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int row = row0 + 16 * i + lane / 4 + 8 * (e / 2), col = col0 + 8 * j + lane % 4 * 2 + e % 2;
        if (row < p.M && col < p.N) p.c[int64_t{row} * p.N + col] = sum[i][j][e];
      }
}

template <int kPitch>
__global__ void __launch_bounds__(512, 2) matmul_tensor_cores(const __grid_constant__ Matmul p, bool vector) {
  if (TLL_ARCH < 800) return;  // not run there: Rung::arch
  __shared__ __align__(16) bf16 a_tile[128 * kPitch], b_tile[128 * kPitch];
  const int row0 = static_cast<int>(blockIdx.x) * 128, col0 = static_cast<int>(blockIdx.y) * 128;
  const int t = static_cast<int>(threadIdx.x), warp_row = t / 128 * 32, warp_col = t / 32 % 4 * 32;
  const int line = t / 4, from = t % 4 * 8;  // what this thread loads
  const bf16* __restrict__ a = p.a + int64_t{row0 + line} * p.K + from;
  const bf16* __restrict__ b = p.b + int64_t{col0 + line} * p.K + from;
  const int a_left = row0 + line < p.M ? p.K - from : 0, b_left = col0 + line < p.N ? p.K - from : 0;  // elements that exist
  float sum[2][4][4] = {};
  for (int k0 = 0; k0 < p.K; k0 += 32) {
    store_vec(a_tile + line * kPitch + from, load_8(a + k0, valid_of_8(a_left - k0), vector));
    store_vec(b_tile + line * kPitch + from, load_8(b + k0, valid_of_8(b_left - k0), vector));
    __syncthreads();
    add_products<kPitch, 32, 32>(sum, a_tile + warp_row * kPitch, b_tile + warp_col * kPitch);
    __syncthreads();
  }
  store_sums(p, sum, row0 + warp_row, col0 + warp_col);
}

inline void run_matmul_6(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_tensor_cores<32>, grid, 512, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
