// What was found. A report that repeats is counted.
#pragma once

#include <string>

#include "dev/ptx_sim/instruction.h"

namespace ptx {

void add_report(const std::string& text);
std::string place_text(const Kernel& kernel, uint32_t instruction);  // the instruction, its source line, the kernel

}  // namespace ptx
