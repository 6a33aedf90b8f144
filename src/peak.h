// The ceiling that shares of the peak refer to: the rate of a large matrix product of this type, measured on this machine now.
#pragma once

#include "kernels/device.h"

namespace tll {

// Flops a second. Takes about a tenth of a second.
template <class Float>
double measure_peak_flops(const Device& device);
// The same on a CUDA device, in memory that holds nothing yet. 0 on the emulator, where speed means nothing.
template <class Float>
double measure_peak_flops(const Device& device, void* memory, int64_t bytes);

}  // namespace tll
