// What a person sees of a run: on a terminal one line that is redrawn, elsewhere about a hundred plain lines.
//
// Loss and speed jump from one batch to the next. The loss is shown as measured and smoothed, the speed smoothed:
//   average after n steps = sum_i k^(n-i) x_i / sum_i k^(n-i),  k = 1 - 1/steps
// Adam's bias-corrected moments are such averages (Kingma and Ba 2015). Metrics.jsonl has what was measured.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "src/base/file.h"

namespace tll {

struct ProgressLine {
  int64_t step = 0;  // from 1
  double loss = 0;
  double grad_norm = 0;
  double lr = 0;
  int64_t tokens = 0;
  double seconds = 0;     // of the step
  double peak_share = 0;  // flops done, as a share of the ceiling measured on this machine; 0 if not known
  int64_t bytes = 0;      // of the plan
};

// Steps that the loss of a run of so many steps is smoothed over.
constexpr int64_t smoothing_steps(int64_t total_steps) { return std::clamp<int64_t>(total_steps / 50, 10, 1000); }

class Smoothed {
 public:
  explicit Smoothed(int64_t steps = 10) : kept_(1 - 1 / static_cast<double>(steps)) {}
  // Not finite: left out.
  void add(double value);
  double value() const { return sum_ / weight_; }  // NaN before the first

 private:
  double kept_, sum_ = 0, weight_ = 0;
};

class Progress {
 public:
  // For steps `first` ... `last`. `output` is an open file; it is not closed. A terminal (takes_escapes) gets a line that is
  // redrawn at most twenty times a second. Anything else gets plain lines for the first step, the last step, and about a hundred
  // steps at equal distances. Lines fit the width of a terminal: if it is narrow, fields are left out in a fixed order. `quiet`
  // shows nothing, not even notes.
  Progress(int64_t first, int64_t last, bool quiet, int output = 1);

  // The steps start now, not when this object was made. The remaining time is estimated from here.
  void start_clock() { start_ = Clock::now(); }

  // Called after each step; allocates nothing.
  void show(const ProgressLine&);

  // A line of its own, between the others (an evaluation's result, a checkpoint's name).
  void note(std::string_view text);

  // Leaves the last step visible and the cursor on a new line. For the end of the run, also if
  // it is interrupted, and for what others print.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;

  void draw(const ProgressLine&);
  void write(std::string_view text) const { write_all(output_, text); }  // a closed terminal or pipe does not end a run

  int64_t first_, last_, every_;
  int output_;
  bool quiet_, terminal_;
  bool drawn_ = false;    // the terminal's cursor is in a drawn line
  bool pending_ = false;  // `latest_` has not been shown
  ProgressLine latest_;
  Smoothed loss_, tokens_, seconds_, peak_share_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_draw_;
};

}  // namespace tll
