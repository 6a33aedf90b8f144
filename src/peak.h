// The ceiling that shares of the peak refer to: the rate of a large matrix product of this type, measured on this machine now.
#pragma once

#include "kernels/device.h"

namespace tll {

// Flops a second. Takes about a tenth of a second.
template <class Float>
double measure_peak_flops(const Device& device);

}  // namespace tll
