// Rows of the tiles are 40 elements apart instead of 32: 80 bytes. Shared memory has 32 banks of 4 bytes; ldmatrix reads 8 rows
// of 16 bytes at once, all 32 banks if the rows begin at 8 different multiples of 16 bytes modulo 128. With a pitch of 64 bytes
// they begin at two: four rows want the same banks and take four turns. With 80 = 5 · 16, an odd multiple, all eight differ.
//
// Same bytes, instructions and occupancy, a quarter more shared memory: the kernel is that of rung 6 with another number.
// Limits: waiting for a tile and multiplying take turns.
#pragma once

#include "dev/ladder/matmul/6_tensor_cores.cuh"

namespace tll::ladder {

inline void run_matmul_7(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_tensor_cores<40>, grid, 512, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
