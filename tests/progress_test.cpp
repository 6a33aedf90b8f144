#include "src/report/progress.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>
#include <string>
#include <vector>

#include "src/base/check.h"
#include "src/base/process.h"
#include "src/base/units.h"
#include "tests/allocations.h"
#include "tests/refusal.h"

namespace tll {
namespace {

ProgressLine line(int64_t step) { return {step, 2.34567, 1.2345, 2e-4, 812.3, 0.634, 1288490189}; }

// Two ends: what is written to `in` is read from `out`.
struct Channel {
  int in = -1, out = -1;
  static Channel pipe() {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    return {ends[1], ends[0]};
  }
  static Channel terminal(unsigned short columns) {
    int in, out;
    winsize size{24, columns, 0, 0};
    EXPECT_EQ(openpty(&out, &in, nullptr, nullptr, &size), 0);
    return {in, out};
  }
  // What was written so far. A terminal hands it over in pieces.
  std::string text() {
    std::string all;
    char buffer[4096];
    for (pollfd wait{out, POLLIN, 0}; poll(&wait, 1, 50) > 0 && (wait.revents & POLLIN);) {
      const ssize_t got = read(out, buffer, sizeof buffer);
      if (got <= 0) break;
      all.append(buffer, static_cast<size_t>(got));
    }
    return all;
  }
  ~Channel() { ::close(in), ::close(out); }
};

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) parts.push_back(part);
  return parts;
}

TEST(Progress, PlainLinesForAPipe) {
  Channel channel = Channel::pipe();
  Progress progress(1, 1000, false, channel.in);
  for (int step = 1; step <= 1000; ++step) progress.show(line(step));
  progress.finish();
  const auto lines = split(channel.text(), '\n');
  EXPECT_LE(lines.size(), 102u);
  EXPECT_GE(lines.size(), 90u);
  EXPECT_EQ(lines.front().find("step 1/1000  loss 2.3457  norm 1.23  lr 2.00e-04  812 tokens/s  63% of peak  1.20 GiB  ETA "), 0u)
      << lines.front();
  EXPECT_EQ(lines.back().find("step 1000/1000"), 0u) << lines.back();
  EXPECT_TRUE(says(lines.back(), "ETA 0:00"));
  EXPECT_EQ(lines.front().find('\r'), std::string::npos);
}

TEST(Progress, FirstAndLastOfAResumedAndInterruptedRun) {
  Channel channel = Channel::pipe();
  Progress progress(501, 1000, false, channel.in);
  for (int step = 501; step <= 703; ++step) progress.show(line(step));
  progress.note("interrupted");
  progress.finish();
  const auto lines = split(channel.text(), '\n');
  EXPECT_EQ(lines.front().find("step 501/1000"), 0u);
  EXPECT_EQ(lines[lines.size() - 2], "interrupted");
  EXPECT_EQ(lines.back().find("step 703/1000"), 0u) << lines.back();
}

TEST(Progress, QuietSaysNothing) {
  Channel channel = Channel::pipe();
  Progress progress(1, 2, true, channel.in);
  progress.show(line(1));
  progress.note("note");
  progress.finish();
  ASSERT_EQ(write(channel.in, "end", 3), 3);
  EXPECT_EQ(channel.text(), "end");
}

TEST(Progress, OneLineFitsEveryWidthOfATerminal) {
  for (unsigned short width = 4; width <= 160; ++width) {
    Channel channel = Channel::terminal(width);
    Progress progress(1999, 2000, false, channel.in);
    progress.show(line(1999));
    const std::string text = channel.text();
    ASSERT_EQ(text.find("\r\x1b[K"), 0u);
    const std::string shown = text.substr(4);
    EXPECT_LT(shown.size(), width) << shown;
    EXPECT_EQ(shown.find('\n'), std::string::npos);
    const std::string step = "step 1999/2000";
    EXPECT_EQ(shown.substr(0, step.size()), step.substr(0, shown.size())) << "cut off only where not even this fits";
    EXPECT_EQ(shown.find("loss 2.3457") != std::string::npos, width > 27) << width << shown;
    if (width > 15) {
      const std::string all =
          "step 1999/2000  loss 2.3457  norm 1.23  lr 2.00e-04  812 tokens/s  63% of peak  1.20 GiB  ETA 0:00  ";
      EXPECT_TRUE(says(all, shown.substr(shown.rfind("  ") + 1) + "  ")) << "the last field is whole: " << shown;
    }
    EXPECT_TRUE(width <= 113 || shown.find("lr 2.00e-04") != std::string::npos) << shown;
  }
}

TEST(Progress, ATerminalIsRedrawnAFewTimesASecondAndNotesKeepTheirLine) {
  Channel channel = Channel::terminal(120);
  Progress progress(1, 10000, false, channel.in);
  for (int step = 1; step <= 500; ++step) progress.show(line(step));
  progress.note("eval loss 1.5");
  progress.finish();
  const std::string text = channel.text();
  const auto draws = split(text, '\r').size();
  EXPECT_LT(draws, 50u);
  EXPECT_TRUE(says(text, "\r\x1b[Keval loss 1.5\r\n\r\x1b[Kstep 500/10000"));
  EXPECT_EQ(text.substr(text.size() - 2), "\r\n") << "the terminal writes \\n as \\r\\n";
}

TEST(Progress, AStepAllocatesNothing) {
  Channel pipe = Channel::pipe(), terminal = Channel::terminal(100);
  Progress plain(1, 100, false, pipe.in), drawn(1, 100, false, terminal.in);
  if (!allocations_are_counted()) GTEST_SKIP() << "the sanitizer's operator new is in place of the counting one";
  const int64_t before = allocations;
  for (int step = 1; step <= 100; ++step) {
    plain.show(line(step));
    drawn.show(line(step));
  }
  EXPECT_EQ(allocations, before);
}

TEST(Units, Bytes) {
  const std::pair<int64_t, const char*> cases[] = {
      {0, "0 B"},          {999, "999 B"},        {1000, "0.98 KiB"},      {1024, "1.00 KiB"},        {10235, "10.0 KiB"},
      {102400, "100 KiB"}, {1 << 20, "1.00 MiB"}, {5LL << 30, "5.00 GiB"}, {1023 * 1024, "1.00 MiB"}, {INT64_MAX, "8.00 EiB"}};
  for (const auto& [count, text] : cases) EXPECT_EQ(fmt::format("{}", Bytes{count}), text) << count;
}

TEST(Units, Duration) {
  const std::pair<double, const char*> cases[] = {{0, "0:00"},       {7.4, "0:07"},        {754, "12:34"}, {3599.6, "1:00:00"},
                                                  {3723, "1:02:03"}, {183845, "2d 03:04"}, {NAN, "?"},     {INFINITY, "?"}};
  for (const auto& [seconds, text] : cases) EXPECT_EQ(fmt::format("{}", Duration{seconds}), text) << seconds;
}

// The exit status of a child that catches signals, gets `signals` one after the other, and exits with 7 once it is asked to stop.
int status_after(std::vector<int> signals) {
  const pid_t child = fork();
  if (child == 0) {
    catch_stop_signals();
    if (stop_requested()) _exit(1);
    for (int number : signals) raise(number);
    _exit(stop_requested() ? 7 : 2);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Signals, TheFirstAsksTheSecondEnds) {
  for (int number : {SIGINT, SIGTERM}) {
    EXPECT_EQ(status_after({}), 2) << "not asked";
    EXPECT_EQ(status_after({number}), 7);
    EXPECT_EQ(status_after({number, number}), kExitInterrupted);
  }
  EXPECT_EQ(status_after({SIGINT, SIGTERM}), kExitInterrupted);
}

}  // namespace
}  // namespace tll
