#include "src/base/phase.h"

#include <utility>

#include "src/base/process.h"

namespace tll {
namespace {

PhaseView* installed = nullptr;

}  // namespace

PhaseView* set_phase_view(PhaseView* view) { return std::exchange(installed, view); }

Phase::Phase(const char* activity, int64_t total) : activity_(activity), outer_activity_(set_activity(activity)), total_(total) {
  if (installed && !outer_activity_) installed->show(activity_, 0, total_);
}

Phase::~Phase() {
  set_activity(outer_activity_);
  if (installed && !outer_activity_) installed->end();
}

void Phase::describe(std::string_view text) const {
  if (installed && !outer_activity_) installed->describe(text);
}

void Phase::advance(int64_t units) {
  done_ += units;
  if (stop_requested()) throw Stopped(activity_);
  if (installed && !outer_activity_) installed->show(activity_, done_, total_);
}

}  // namespace tll
