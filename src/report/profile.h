// The machine's ceilings, measured now: the rate of a large matmul in this type, and of copying memory. Shares of the peak refer
// to these. And --profile: where the time went, op by op.
#pragma once

#include "kernels/device.h"

namespace tll {

// Per second; 0: not measured.
struct Ceilings {
  double flops = 0;  // of a large matmul
  double bytes = 0;  // read and written, of copying
};

// Copying is measured only with `copies`. On CUDA the measurements use `memory`, `bytes` of the device that hold nothing yet; on
// the CPU they allocate their own. Each takes about a tenth of a second. The result is 0 on the emulator, where speed means
// nothing, and for a type without a matmul on the CPU.
template <class Float>
Ceilings measure_ceilings(const Device& device, bool copies, void* memory, int64_t bytes);

// Whether the CPU multiplies bf16 faster than fp32, which is then what --dtype auto takes: of a product of 256³ in each type, in turn,
// the best of a few runs, a millisecond or two in all. fp32 has to be a fifth faster, so that machines where the two are close do
// not choose now this and now that. False for a processor without such instructions.
bool bf16_is_faster(const Device& device);

// Prints a table to standard error: calls, seconds, share of the time, GB/s, GFLOP/s, share of the measured ceiling and
// which ceiling that is. Prints nothing if the device has no profile.
void print_profile(const Device& device, const Ceilings& ceilings);

}  // namespace tll
