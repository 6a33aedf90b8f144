// Instructions that multiply bf16: AMX tiles, or AVX-512's dot products of pairs.
//
// Both add the products of a pair of bf16 to fp32 sums, take subnormal numbers for zeros, and round to nearest even (Intel,
// "Intel Architecture Instruction Set Extensions Programming Reference": TDPBF16PS, VDPBF16PS).
#pragma once

#include <cstdint>
#include <iterator>

#include "kernels/isa.h"

namespace tll {

// Of the instruction sets that kernels are compiled for, these instructions are used with the last alone.
inline constexpr Isa kIsaWithBf16 = kIsas[std::size(kIsas) - 1];

enum class Bf16Instructions : uint8_t { none, avx512, amx };
Bf16Instructions bf16_instructions();  // the fastest that this processor and its system have
const char* bf16_instructions_name(Bf16Instructions);

}  // namespace tll
