// The bf16 matmul of processors that multiply bf16.
#pragma once

#include "kernels/bf16_instructions.h"
#include "kernels/matmul.h"

namespace tll {

// Runs the matmul and returns true if both operands are bf16 and the processor has such instructions; else does nothing and
// returns false. `with`: no more than bf16_instructions(). The memory that it needs is the op's scratch. A result is rounded
// once.
bool matmul_bf16(const Matmul<float>& op, Bf16Instructions with = bf16_instructions());

#if defined(__x86_64__)
// The matmul itself: of bf16 operands, with scratch, on a processor that has these instructions.
void multiply_bf16(const Matmul<float>& op, Bf16Instructions with);
#endif

}  // namespace tll
