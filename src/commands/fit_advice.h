// What a run that does not fit can do about it. Whatever is proposed has been planned, and fits.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "src/options/options.h"

namespace tll {

// The bytes that a run with these options needs.
using PlannedBytes = std::function<int64_t(const Options&)>;

// The largest n of low … high with bytes(n) <= room; low - 1 if there is none. `bytes` never falls. It is nearly a straight line,
// which the search makes use of.
int64_t largest_within(int64_t low, int64_t high, const std::function<int64_t(int64_t)>& bytes, int64_t room);

// "it fits with --batch-size 3, or with --recompute full": each of these settings alone makes the run fit in `room` bytes;
// numbers are the largest that fit. Where none suffices, the settings that do so together. Where they do not either, what is
// needed then. A setting that the command does not take, that saves nothing, or that a resumed run may not change is never named.
std::string fit_advice(const Options& options, int64_t room, const PlannedBytes& planned);

}  // namespace tll
