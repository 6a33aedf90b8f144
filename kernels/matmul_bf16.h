// oneDNN's bf16 matmul, for processors that have one (AVX-512 and later).
#pragma once

#include <string>

#include "kernels/matmul.h"

namespace tll {

// Runs the matmul and returns true if both operands are bf16 and oneDNN has an optimised implementation for this processor; else
// does nothing and returns false. Its scratchpad is the op's scratch; a result that needs more is computed a part of its rows at
// a time. A primitive is made at the first use of a shape and kept while it is in use: most shapes repeat every step.
bool matmul_bf16(const Matmul<float>& op);

std::string onednn_version();  // of the library that is loaded, or "none": the program was built without it

}  // namespace tll
