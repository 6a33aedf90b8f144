// In place of matmul_bf16.cpp on other processors than x86-64.
#include "kernels/matmul_bf16.h"

namespace tll {

Bf16Instructions bf16_instructions() { return Bf16Instructions::none; }
const char* bf16_instructions_name(Bf16Instructions) { return "none"; }
bool cpu_has_bf16_matmul() { return false; }
bool matmul_bf16(const Matmul<float>&, Bf16Instructions) { return false; }

}  // namespace tll
