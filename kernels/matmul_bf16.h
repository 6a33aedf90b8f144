// The bf16 matmul of processors that multiply bf16: by AMX tiles or by AVX-512's dot products of pairs.
//
// Both add the products of a pair of bf16 to fp32 sums, take subnormal numbers for zeros, and round to nearest even (Intel,
// "Intel Architecture Instruction Set Extensions Programming Reference": TDPBF16PS, VDPBF16PS).
#pragma once

#include "kernels/matmul.h"

namespace tll {

enum class Bf16Instructions : uint8_t { none, avx512, amx };
Bf16Instructions bf16_instructions();  // the fastest that this processor and its system have
const char* bf16_instructions_name(Bf16Instructions);

// Runs the matmul and returns true if both operands are bf16 and the processor has such instructions; else does nothing and
// returns false. `with`: no more than bf16_instructions(). The memory that it needs is the op's scratch. A result is rounded
// once.
bool matmul_bf16(const Matmul<float>& op, Bf16Instructions with = bf16_instructions());

#if defined(__x86_64__)
// The matmul itself: of bf16 operands, with scratch, on a processor that has these instructions.
void multiply_bf16(const Matmul<float>& op, Bf16Instructions with);
#endif

}  // namespace tll
