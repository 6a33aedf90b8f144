// What phases (src/base/phase.h) say while it lives.
#pragma once

#include <string>
#include <vector>

#include "src/base/phase.h"

namespace tll {

class PhaseRecord : public PhaseView {
 public:
  struct Shown {
    std::string activity;
    int64_t done, total;
    bool operator==(const Shown&) const = default;
  };

  PhaseRecord() : before_(set_phase_view(this)) {}
  ~PhaseRecord() { set_phase_view(before_); }
  void show(const char* activity, int64_t done, int64_t total) override { shown.push_back({activity, done, total}); }
  void end() override { ended++; }

  std::vector<Shown> shown;
  int ended = 0;

 private:
  PhaseView* before_;
};

}  // namespace tll
