// wgmma: products of a warpgroup, four warps, that run while its warps go on. Rules of NVIDIA's "PTX ISA" manual, sections
// "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions" and "Async Proxy".
//
//  - A warp's part of a product, 16 rows of D, is computed when the warp waits for it: as late as it may. Until then D holds NaN.
//  - The warps of a warpgroup do not wait for each other. At each barrier they have executed the same wgmma.
//  - Of a register, whatever nvcc wrote is an access, even a mov that ptxas would take away.
#pragma once

#include "dev/ptx_sim/instruction.h"

namespace ptx {

// A matrix descriptor. The manual's canonical layouts place 16-byte pieces: of K-major matrices 8 elements along K, else along M
// or N.
struct MatrixDescriptor {
  uint64_t start, leading, stride;  // bytes
  uint64_t base_offset;
  uint64_t swizzle;   // bytes of a row of the pattern; 16: none
  bool reserved_set;  // bits that mean nothing
  explicit MatrixDescriptor(uint64_t bits);
  // Where in shared memory the piece lies that begins at element (mn, k).
  uint64_t address(bool transposed, uint64_t mn, uint64_t k) const;
};

// Once a kernel is decoded: what accesses a register of its wgmma is made to say so.
void watch_registers(Kernel& kernel);

}  // namespace ptx
