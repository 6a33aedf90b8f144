// What a bad input is refused with.
#pragma once

#include <gtest/gtest.h>

#include <source_location>
#include <string>
#include <string_view>

#include "src/base/check.h"

namespace tll {

// The message of the Error that the action throws, which must be one line and have this exit code; empty if it throws none.
template <class Action>
std::string message_of(const Action& action, ExitCode code = kExitBadFile,
                       std::source_location from = std::source_location::current()) {
  const testing::ScopedTrace trace(from.file_name(), static_cast<int>(from.line()), "what must be refused");
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
std::string refusal_of(const Action& action, ExitCode code = kExitBadFile,
                       std::source_location from = std::source_location::current()) {
  const std::string message = message_of(action, code, from);
  EXPECT_NE(message, "") << "accepted at line " << from.line();
  return message;
}

// Whether the text has this part.
inline testing::AssertionResult says(std::string_view text, std::string_view part) {
  if (text.find(part) != text.npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << text << "' does not say '" << part << "'";
}

}  // namespace tll
