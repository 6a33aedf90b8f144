// How tensor cores add up: one element of the result of mma, a · b + c over `inner` products of 16-bit values. Host code that
// knows neither the emulator nor CUDA, since dev/gpu compares real tensor cores with it.
#pragma once

namespace emulator {

// A sum in double, rounded once. A NaN is 0x7fffffff, as on the GPU.
float mma_exact(const float* a, const float* b, float c, int inner);

// As measured on GPUs: in each block of k the products and c are cut toward zero to `fraction` bits below their largest exponent
// and added exactly, then the sum is cut toward zero to float.
struct MmaBlocks {
  int fraction, products;
};
MmaBlocks mma_blocks(int arch);  // 750 … 1200
// smallest_exponent: of the operands' smallest normal number, -126 for bf16, -14 for half.
float mma_hardware(const float* a, const float* b, float c, int inner, int smallest_exponent, MmaBlocks blocks);

}  // namespace emulator
