// The arithmetic intrinsics that kernels use. Approximate ones use the formula of the GPU, so that errors grow with the argument
// as they do there, but their last bits differ.
#pragma once

#include <bit>
#include <climits>
#include <cmath>

#include "emulator/types.h"

EMULATOR_DEVICE int min(int a, int b) { return a < b ? a : b; }
EMULATOR_DEVICE int max(int a, int b) { return a > b ? a : b; }

EMULATOR_DEVICE float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
EMULATOR_DEVICE unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }

EMULATOR_DEVICE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMULATOR_DEVICE float __fmul_rn(float a, float b) { return static_cast<float>(static_cast<double>(a) * b); }  // never fused
EMULATOR_DEVICE float __expf(float x) { return exp2f(x * 1.4426950408889634f); }

// Saturates, and NaN becomes 0, as on the GPU. (A cast out of range is reported.)
EMULATOR_DEVICE int __float2int_rz(float x) {
  return x != x ? 0 : x >= 2147483648.0f ? INT_MAX : x <= -2147483648.0f ? INT_MIN : static_cast<int>(x);
}

EMULATOR_DEVICE int __popc(unsigned x) { return std::popcount(x); }
EMULATOR_DEVICE int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
