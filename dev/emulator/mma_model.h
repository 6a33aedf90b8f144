// Models of how tensor cores accumulate: one element of mma's result, c + Σ a[k]·b[k] over `inner` 16-bit values. They know
// neither the emulator nor CUDA, because dev/gpu compares real tensor cores with them.
#pragma once

namespace emulator {

// Accumulates in double and rounds once. A NaN is 0x7fffffff, as on the GPU.
float mma_exact(const float* a, const float* b, float c, int inner);

// As measured on GPUs. In each block of `products` values of k, the products and c are truncated (toward zero) to `fraction` bits
// below their largest exponent and added exactly. The sum, truncated to float, is the c of the next block.
struct MmaBlocks {
  int fraction, products;
};
MmaBlocks mma_blocks(int arch);  // 750 … 1200
// smallest_exponent: that of the operand type's smallest normal number, -126 for bf16, -14 for half.
float mma_hardware(const float* a, const float* b, float c, int inner, int smallest_exponent, MmaBlocks blocks);

}  // namespace emulator
