// The ceilings that shares of the peak refer to, measured on this machine now: the rate of a large matmul of this type, and that
// of copying memory.
#pragma once

#include "kernels/device.h"

namespace tll {

// A second; 0: not measured.
struct Ceilings {
  double flops = 0;  // of a large matmul
  double bytes = 0;  // read and written, of copying
};

// Copying is measured where `copies` is set. On a CUDA device in `memory`, `bytes` of the device that hold nothing yet; the CPU
// takes memory of its own. Each takes about a tenth of a second. 0 on the emulator, where speed means nothing, and for a type
// that the CPU has no matmul of.
template <class Float>
Ceilings measure_ceilings(const Device& device, bool copies, void* memory, int64_t bytes);

}  // namespace tll
