// The bf16 product of oneDNN, for processors that have one (AVX-512 and later).
#pragma once

#include "kernels/matmul.h"

namespace tll {

// Runs the product and returns true if both operands are bf16 and oneDNN has an implementation for this processor; else
// does nothing. Primitives are made at first use of a shape and kept: shapes repeat every step.
bool matmul_bf16(const Matmul<float>& op);

}  // namespace tll
