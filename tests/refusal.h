// What a bad input is refused with.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "src/base/check.h"

namespace tll {

// The message of the Error that the action throws, which must be one line and have this exit code; empty if it throws none.
template <class Action>
std::string message_of(const Action& action, ExitCode code = kExitBadFile) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code, code) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "";
}

}  // namespace tll
