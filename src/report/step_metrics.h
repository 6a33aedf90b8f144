// What is measured of a step.
#pragma once

#include <cstdint>

namespace tll {

// One optimizer step. Numbers that are not finite are written as null.
struct StepMetrics {
  int64_t step = 0;      // from 1
  double loss = 0;       // mean over the step's target tokens, before the update
  double grad_norm = 0;  // before clipping
  double lr = 0;
  int64_t tokens = 0;  // without padding
  int64_t target_tokens = 0;
  double seconds = 0;  // wall time of the step

  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
};

}  // namespace tll
