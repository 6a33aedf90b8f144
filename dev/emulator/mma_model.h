// How tensor cores add up: one element of the result of mma, a · b + c over `inner` products of 16-bit values. Host code that
// knows neither the emulator nor CUDA, since dev/gpu compares real tensor cores with it.
#pragma once

namespace emulator {

// A sum in double, rounded once. A NaN is 0x7fffffff, as on the GPU.
float mma_exact(const float* a, const float* b, float c, int inner);

// As measured on GPUs: products and c are cut toward zero to a common exponent and added exactly, the sum is cut toward zero to
// float; so for each block of k (8 of them and 24 bits below the largest exponent before sm_90, 16 and 25 bits from there on).
// smallest_exponent: of the operands' smallest normal number, -126 for bf16, -14 for half. arch: 750 … 1200.
float mma_hardware(const float* a, const float* b, float c, int inner, int smallest_exponent, int arch);

}  // namespace emulator
