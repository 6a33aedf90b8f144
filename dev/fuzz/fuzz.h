// What the fuzzers share. A fuzzer gives bytes to one reader of files and goes on to use what was read. Only an Error that is one
// short line may come out: any other exception, a broken invariant, a sanitizer's report, more than 2 s or too much memory is a
// finding.
#pragma once

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/check.h"
#include "src/base/file.h"
#include "tests/temporary_directory.h"

namespace tll::fuzz {

inline void check_line(std::string_view line) {
  constexpr size_t kMaxLine = 1200;
  TLL_CHECK(line.size() <= kMaxLine && line.find('\n') == line.npos, "not one short line: {} bytes, {}", line.size(),
            line.substr(0, kMaxLine));
}
inline void check_lines(const std::vector<std::string>& lines) {
  constexpr size_t kMaxLines = 100;
  TLL_CHECK(lines.size() <= kMaxLines, "{} lines", lines.size());
  for (const std::string& line : lines) check_line(line);
}

// Whether the action ended without an Error.
template <class Action>
bool completes(const Action& action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    TLL_CHECK(error.exit_code != kExitFault, "a fault of the machine: {}", error.what());
    check_line(error.what());
    return false;
  }
}

// Replaces the file's content. The directory is on a file system in memory, so that costs microseconds.
inline void put(const std::filesystem::path& path, std::string_view content) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  TLL_CHECK(file >= 0 && write_all(file, content), "{} cannot be written", path.string());
  ::close(file);
}

// Processor time, which other programs on the machine do not change.
class Timer {
 public:
  ~Timer() { std::fprintf(stderr, "stat::slowest_input_ms: %.0f\n", 1000 * longest_); }
  template <class Action>
  void time(const Action& action) {
    constexpr double kMost = 2;
    const double start = now();
    action();
    const double seconds = now() - start;
    longest_ = std::max(longest_, seconds);
    TLL_CHECK(seconds < kMost, "{} s", seconds);
  }

 private:
  static double now() {
    timespec t;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
  }
  double longest_ = 0;
};

// What a fuzzer defines: reads the bytes and uses what was read.
void read(std::string_view bytes);

}  // namespace tll::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static tll::fuzz::Timer timer;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  timer.time([&] { tll::fuzz::completes([&] { tll::fuzz::read(bytes); }); });
  return 0;
}
