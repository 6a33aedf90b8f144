// Kernels that nvcc compiles for compute_90a, to be run by ptx_sim.
#pragma once

namespace ptx::test {

// The host's stubs. product: one wgmma as Arguments (wgmma_case.h) says, for n 8, 64 or 256. attention: out[64][64] = (Q Kᵀ
// rounded to bf16) V for bf16 Q[64][64], K[128][64], V[128][64], in two tiles of K and V. Parameters: q, k, v, out.
const void* product_kernel(bool half, int n, bool a_in_registers, bool a_transposed, bool b_transposed);
const void* attention_kernel();

}  // namespace ptx::test
