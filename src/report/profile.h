// --profile: where the time went, op by op.
#pragma once

#include "src/report/peak.h"

namespace tll {

// A table on standard error: calls, seconds, share of the time, GB/s, GFLOP/s and share of the measured ceiling. Nothing if the
// device does not keep a profile.
void print_profile(const Device& device, const Ceilings& ceilings);

}  // namespace tll
