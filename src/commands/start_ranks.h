// The ranks of a training run, from the options and the launcher.
#pragma once

#include "src/options/options.h"
#include "src/ranks/launch.h"

namespace tll {

// What starts them, or finds them.
RankStart rank_start(const Options& options);
// Writes into the options where this rank stands, and how many there are. What a machine's measurement decides is decided by the
// first rank's.
void take_place(Options& options, const Ranks& ranks);

}  // namespace tll
