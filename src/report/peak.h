// The ceilings that shares of the peak refer to, measured on this machine now: the rate of a large matrix product of this type,
// and that of copying memory.
#pragma once

#include "kernels/device.h"

namespace tll {

// Flops a second. Takes about a tenth of a second.
template <class Float>
double measure_peak_flops(const Device& device);
// The same on a CUDA device, in memory that holds nothing yet. 0 on the emulator, where speed means nothing.
template <class Float>
double measure_peak_flops(const Device& device, void* memory, int64_t bytes);

// Bytes a second, read and written, of copying; on a CUDA device within memory that holds nothing yet.
double measure_peak_bytes(const Device& device, void* memory = nullptr, int64_t bytes = 0);

}  // namespace tll
