// What a person sees of a phase (src/base/phase.h): how far it is, and how long it still takes.
#pragma once

#include <chrono>

#include "src/base/phase.h"

namespace tll {

// While it lives, phases are shown on `output`, an open file that is not closed. A terminal gets one line, which appears once a
// phase has lasted half a second, is redrawn at most ten times a second, and is gone when the phase ends. Anything else gets a
// plain line every ten seconds. So short phases are not shown. `quiet` shows none. Nothing is allocated.
class PhaseLine : public PhaseView {
 public:
  using Clock = std::chrono::steady_clock;
  explicit PhaseLine(int output, bool quiet = false, Clock::time_point (*now)() = Clock::now);
  ~PhaseLine();

  void show(const char* activity, int64_t done, int64_t total) override;
  void describe(std::string_view text) override;
  void end() override;

 private:
  int output_;
  bool terminal_;
  Clock::time_point (*now_)();
  PhaseView* before_;  // the view that is installed again afterwards
  bool begun_ = false, drawn_ = false;
  char description_[96] = {};
  size_t described_ = 0;  // bytes of it
  Clock::time_point start_, last_;  // of the phase; last_ is when it was shown
};

}  // namespace tll
