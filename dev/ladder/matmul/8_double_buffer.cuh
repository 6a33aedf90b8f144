// Double buffering: while one tile of each operand is multiplied, cp.async loads the next from global to shared memory, without
// registers. One barrier per iteration is left. It says that this tile is complete, and that nobody reads the other one any more.
// Needs sm_80.
//
// Traffic: as rung 7. Occupancy: 56 registers, 32 warps; twice the shared memory, 40 KiB.
// Bottleneck: shared memory. A warp's 32 × 32 takes 2 KiB from it per 8 mma: 16 clocks at 128 bytes each. In that time an SM
// could do 8 mma (sm_80) or 16 (sm_90).
#pragma once

#include "dev/ladder/matmul/6_tensor_cores.cuh"

namespace tll::ladder {

template <int kWarpRows, int kWarpCols>
__global__ void __launch_bounds__(128 / kWarpRows * (128 / kWarpCols) * 32)
    matmul_double_buffer(const __grid_constant__ Matmul p, bool vector) {
  if (TLL_ARCH < 800) return;  // not run there: Rung::arch
  constexpr int kPitch = 40, kThreads = 128 / kWarpRows * (128 / kWarpCols) * 32;
  __shared__ __align__(16) bf16 a_tiles[2][128 * kPitch], b_tiles[2][128 * kPitch];
  const int row0 = static_cast<int>(blockIdx.x) * 128, col0 = static_cast<int>(blockIdx.y) * 128;
  const int warp = static_cast<int>(warp_id()), across = 128 / kWarpCols;
  const int warp_row = warp / across * kWarpRows, warp_col = warp % across * kWarpCols;
  const bf16* __restrict__ a = p.a;
  const bf16* __restrict__ b = p.b;
  const auto load = [&](bf16* tile, const bf16* operand, int first, int size, int k0) {
#pragma unroll
    for (int c = static_cast<int>(threadIdx.x); c < 128 * 4; c += kThreads) {
      const int line = c / 4, k = k0 + c % 4 * 8, valid = first + line < size ? valid_of_8(p.K - k) : 0;
      const bf16* from = valid > 0 ? operand + int64_t{first + line} * p.K + k : operand;
      copy_vec_async(tile + line * kPitch + c % 4 * 8, from, valid, vector);
    }
  };
  float sum[kWarpRows / 16][kWarpCols / 8][4] = {};
  load(a_tiles[0], a, row0, p.M, 0);
  load(b_tiles[0], b, col0, p.N, 0);
  cp_async_commit();
  for (int k0 = 0, stage = 0; k0 < p.K; k0 += 32, stage ^= 1) {
    cp_async_wait_group<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (k0 + 32 < p.K) {
      load(a_tiles[stage ^ 1], a, row0, p.M, k0 + 32);
      load(b_tiles[stage ^ 1], b, col0, p.N, k0 + 32);
    }
    cp_async_commit();
    add_products<kPitch, kWarpRows, kWarpCols>(sum, a_tiles[stage] + warp_row * kPitch, b_tiles[stage] + warp_col * kPitch);
  }
  store_sums(p, sum, row0 + warp_row, col0 + warp_col);
}

inline void run_matmul_8(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_double_buffer<32, 32>, grid, 512, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
