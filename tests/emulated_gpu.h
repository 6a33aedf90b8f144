// For tests in which the emulator stands for another machine.
#pragma once

#include <gtest/gtest.h>

#include "emulator/emulator.h"

namespace emulator {
// Null: linked with a GPU's device, or none.
[[gnu::weak]] Options& options();
[[gnu::weak]] void repair_device();
}  // namespace emulator

namespace tll {

// A fixture after which the emulator is as before. Its tests are skipped without the emulator.
template <class Fixture>
struct EmulatedGpu : Fixture {
  void SetUp() override {
    if (!emulator::options) GTEST_SKIP() << "not linked with the emulator";
    before_ = emulator::options();
  }
  void TearDown() override {
    if (!emulator::options) return;
    emulator::options() = before_;
    emulator::repair_device();
  }

 private:
  emulator::Options before_;
};

}  // namespace tll
