// Padded rows, against bank conflicts: tile rows are 40 elements (80 bytes) apart instead of 32. Shared memory has 32 banks of 4
// bytes. ldmatrix reads 8 rows of 16 bytes at once, which are all 32 banks if the rows begin at 8 different multiples of 16 bytes
// modulo 128. With a pitch of 64 bytes they begin at two: four rows share their banks and take four turns. With 80 = 5 · 16, an
// odd multiple, all eight differ.
//
// Traffic, instructions and occupancy: as rung 6, with a quarter more shared memory. The kernel is rung 6 with another pitch.
// Bottleneck: waiting for a tile and multiplying alternate.
#pragma once

#include "dev/ladder/matmul/6_tensor_cores.cuh"

namespace tll::ladder {

inline void run_matmul_7(const Matmul& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.M, 128)), static_cast<unsigned>(ceil_div(p.N, 128)));
  launch(matmul_tensor_cores<40>, grid, 512, 0, stream, p, vector_rows(p));
}

}  // namespace tll::ladder
