// Errors. What the user or the machine did wrong is thrown as an Error: one line of text and an exit code. A broken invariant of
// the program aborts.
//
// Exit codes: 0 done; 1 a fault of the program or machine; 2 usage; 3 does not fit in --memory; 4 a file is missing or
// malformed; 5 training cannot go on; 130 interrupted, after a checkpoint was written.
#pragma once

#include <fmt/core.h>  // and not format.h, which takes nvcc a second a file

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

namespace tll {

enum ExitCode : int {
  kExitDone = 0,
  kExitFault = 1,
  kExitUsage = 2,
  kExitDoesNotFit = 3,
  kExitBadFile = 4,
  kExitCannotTrain = 5,
  kExitInterrupted = 130,
};

// The message says what was expected, what was found, where, and what to do. It is one line, without the prefix "error: ", which
// report() adds (src/base/process.h).
struct Error : std::runtime_error {
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), exit_code(code) {}
  ExitCode exit_code;
};

template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// The usual case: a file that is missing or malformed (exit code 4).
template <class... Args>
[[noreturn]] void bad_file(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kExitBadFile, fmt::format(format, std::forward<Args>(args)...));
}

// Where lines for errors go: standard error; of a rank that shows nothing else, a copy of it (src/base/process.h); -1: nowhere.
inline int error_descriptor = 2;

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line, const std::string& values) {
  ::dprintf(error_descriptor, "%s:%d: broken invariant: %s (%s)\n", file, line, condition, values.c_str());
  std::abort();
}

}  // namespace tll

// TLL_CHECK(n > 0, "n = {}", n): an invariant of the program, on in every build.
#define TLL_CHECK(condition, ...) \
  ((condition) ? (void)0 : ::tll::check_failed(#condition, __FILE__, __LINE__, ::fmt::format(__VA_ARGS__)))
