// A warp owns 64 × 64 of the block's 128 × 128 instead of 32 × 32: 4 KiB from shared memory serve 32 mma instead of 8, half as
// much for each. It is rung 4's idea again, one level up: reuse in registers. kernels/matmul.cu has this structure with 64 × 32 a
// warp.
//
// Same bytes from global memory. Occupancy: 128 of the 166 registers are sums; 12 warps, four a block, do what 32 did, since the
// 32 independent mma of a warp hide the latency that other warps hid.
// Limits: two stages leave little time for a tile to arrive; L2, which is asked for a byte every 64 flops by all blocks together,
// 4.7 TB/s at 300 TFLOP/s; and from sm_90 on mma itself, since the full rate takes wgmma, whose operands come from shared memory
// without passing through registers.
#pragma once

#include "dev/ladder/matmul/8_double_buffer.cuh"

namespace tll::ladder {

inline void run_matmul_9(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_double_buffer<64, 64>, grid, 128, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
