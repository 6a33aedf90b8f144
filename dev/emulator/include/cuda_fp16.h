// __half and __half2: the conversions and arithmetic of CUDA's header of this name, on the host.
#pragma once

#include "emulator/half_types.h"

EMULATOR_HALF_TYPE(__half, __half2, __half_raw, f16)

#ifndef CUDA_NO_HALF
using half = __half;
using half2 = __half2;
#endif

EMULATOR_DEVICE __half __float2half(float x) { return __half(x); }
EMULATOR_DEVICE __half __float2half_rn(float x) { return __half(x); }
EMULATOR_DEVICE float __half2float(__half x) { return static_cast<float>(x); }
EMULATOR_DEVICE __half2 __floats2half2_rn(float low, float high) { return {low, high}; }
EMULATOR_DEVICE __half2 __float22half2_rn(float2 x) { return {x.x, x.y}; }
EMULATOR_DEVICE __half2 __float2half2_rn(float x) { return {x, x}; }
EMULATOR_DEVICE float2 __half22float2(__half2 x) { return {static_cast<float>(x.x), static_cast<float>(x.y)}; }
EMULATOR_DEVICE __half2 __halves2half2(__half low, __half high) { return {low, high}; }
EMULATOR_DEVICE __half2 __half2half2(__half x) { return {x, x}; }
EMULATOR_DEVICE __half __low2half(__half2 x) { return x.x; }
EMULATOR_DEVICE __half __high2half(__half2 x) { return x.y; }
EMULATOR_DEVICE unsigned short __half_as_ushort(__half x) { return x.__x; }
EMULATOR_DEVICE short __half_as_short(__half x) { return static_cast<short>(x.__x); }
EMULATOR_DEVICE __half __ushort_as_half(unsigned short x) { return __half(__half_raw{x}); }
