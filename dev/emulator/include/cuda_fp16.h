// __half: the conversions and the arithmetic of CUDA's header of this name that kernels and tests use, on the host. An operation
// is computed in float, exactly or correctly rounded, and then rounded to the type. A fused operation rounds only once, because
// its sum is first rounded to odd.
#pragma once

#include "emulator/half_types.h"

using __half = emulator::Float16<emulator::f16_from_float, emulator::f16_to_float>;

EMULATOR_DEVICE __half operator+(__half a, __half b) { return __half(static_cast<float>(a) + static_cast<float>(b)); }
EMULATOR_DEVICE __half operator*(__half a, __half b) { return __half(static_cast<float>(a) * static_cast<float>(b)); }
EMULATOR_DEVICE __half __hfma(__half a, __half b, __half c) { return __half(emulator::fma_to_odd(a, b, c)); }

EMULATOR_DEVICE __half __float2half_rn(float x) { return __half(x); }
EMULATOR_DEVICE float __half2float(__half x) { return x; }
EMULATOR_DEVICE unsigned short __half_as_ushort(__half x) { return x.__x; }
EMULATOR_DEVICE __half __ushort_as_half(unsigned short x) { return std::bit_cast<__half>(x); }
