// A phase: a long piece of work around the training steps, such as tokenising, reading weights or an evaluation. It says how far
// it is, so that no wait is silent, and a signal to stop ends it within one unit of its work.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

namespace tll {

// Thrown by work that ends early because a signal asked for it. What had been finished before stays.
class Stopped : public std::exception {
 public:
  explicit Stopped(const char* activity) : message_(std::string("interrupted while ") + activity) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// Shows phases to people. One is installed for the process; without one nothing is shown.
class PhaseView {
 public:
  virtual ~PhaseView() = default;
  // `done` of `total` units; called at the beginning with done == 0, and then after every unit.
  virtual void show(const char* activity, int64_t done, int64_t total) = 0;
  // More for people about what is done, as in "1.20 GiB of 5.00 GiB"; shown with what show() is told next.
  virtual void describe(std::string_view) {}
  virtual void end() = 0;
};

// Returns the view that was installed before; null means none.
PhaseView* set_phase_view(PhaseView* view);

// Lives as long as the work does. A phase inside another is not shown, but stops as well. Phases are of the main thread.
class Phase {
 public:
  // `activity` says what is done, as in "reading weights", and must live as long as the program.
  Phase(const char* activity, int64_t total);
  ~Phase();
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

  // `units` more are done. Throws Stopped if a signal to stop has come.
  void advance(int64_t units = 1);
  void describe(std::string_view text) const;

 private:
  const char* activity_;
  const char* outer_activity_;  // of the phase around this one
  int64_t done_ = 0, total_;
};

}  // namespace tll
