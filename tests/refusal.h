// What a bad input is refused with.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

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

// The same of an action that must throw.
template <class Action>
std::string refusal_of(const Action& action, ExitCode code = kExitBadFile) {
  const std::string message = message_of(action, code);
  EXPECT_NE(message, "") << "accepted";
  return message;
}

// Whether the text has this part.
inline testing::AssertionResult says(std::string_view text, std::string_view part) {
  if (text.find(part) != text.npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << text << "' does not say '" << part << "'";
}

}  // namespace tll
