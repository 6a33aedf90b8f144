// __nv_bfloat16: the conversions of CUDA's header of this name that kernels and tests use, on the host.
#pragma once

#include "emulator/half_types.h"

using __nv_bfloat16 = emulator::Float16<emulator::bf16_from_float, emulator::bf16_to_float>;

EMULATOR_DEVICE __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
EMULATOR_DEVICE unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.__x; }
EMULATOR_DEVICE __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return std::bit_cast<__nv_bfloat16>(x); }
