// In place of matmul_bf16.cpp in a build without oneDNN.
#include "kernels/matmul_bf16.h"

namespace tll {

std::string onednn_version() { return "none"; }
bool cpu_has_bf16_matmul() { return false; }
bool matmul_bf16(const Matmul<float>&) { return false; }

}  // namespace tll
