// __nv_bfloat16 and __nv_bfloat162: the conversions and arithmetic of CUDA's header of this name, on the host.
#pragma once

#include "emulator/half_types.h"

EMULATOR_HALF_TYPE(__nv_bfloat16, __nv_bfloat162, __nv_bfloat16_raw, bf16)

using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

EMULATOR_DEVICE __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
EMULATOR_DEVICE __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
EMULATOR_DEVICE float __bfloat162float(__nv_bfloat16 x) { return static_cast<float>(x); }
EMULATOR_DEVICE __nv_bfloat162 __floats2bfloat162_rn(float low, float high) { return {low, high}; }
EMULATOR_DEVICE __nv_bfloat162 __float22bfloat162_rn(float2 x) { return {x.x, x.y}; }
EMULATOR_DEVICE __nv_bfloat162 __float2bfloat162_rn(float x) { return {x, x}; }
EMULATOR_DEVICE float2 __bfloat1622float2(__nv_bfloat162 x) { return {static_cast<float>(x.x), static_cast<float>(x.y)}; }
EMULATOR_DEVICE __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) { return {low, high}; }
EMULATOR_DEVICE __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
EMULATOR_DEVICE __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x) { return x.x; }
EMULATOR_DEVICE __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x) { return x.y; }
EMULATOR_DEVICE unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.__x; }
EMULATOR_DEVICE short __bfloat16_as_short(__nv_bfloat16 x) { return static_cast<short>(x.__x); }
EMULATOR_DEVICE __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return __nv_bfloat16(__nv_bfloat16_raw{x}); }
