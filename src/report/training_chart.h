// The curves of a training run.
#pragma once

#include "src/report/chart.h"
#include "src/report/run_history.h"

namespace tll {

// Loss (measured, smoothed, of validation), learning rate and gradient norm over steps.
Chart training_chart(const RunHistory& history);

}  // namespace tll
