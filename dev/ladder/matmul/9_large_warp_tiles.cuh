// Larger warp tiles: a warp computes 64 × 64 of the block's 128 × 128 instead of 32 × 32. 4 KiB from shared memory serve 32 mma,
// where 2 KiB served 8: half as much per mma. It is the idea of rung 4, one level up: reuse in registers. kernels/matmul.cu has
// this structure with 64 × 32 per warp.
//
// Traffic: as rung 8.
// Occupancy: 12 warps, four per block; 128 of the 166 registers are accumulators. 12 warps do what 32 did, because the 32
// independent mma of a warp hide the latency that other warps hid.
// Bottleneck: two stages leave little time for a tile to arrive. L2: all blocks together request a byte per 64 flops, 4.7 TB/s at
// 300 TFLOP/s. From sm_90 on mma itself: the full rate takes wgmma, which reads its operands from shared memory without
// registers.
#pragma once

#include "dev/ladder/matmul/8_double_buffer.cuh"

namespace tll::ladder {

inline void run_matmul_9(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_double_buffer<64, 64>, grid, 128, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
