// --profile: where the time went, op by op.
#pragma once

#include "src/report/peak.h"

namespace tll {

// Prints a table to standard error: calls, seconds, share of the time, GB/s, GFLOP/s and share of the measured ceiling. Prints
// nothing if the device has no profile.
void print_profile(const Device& device, const Ceilings& ceilings);

}  // namespace tll
