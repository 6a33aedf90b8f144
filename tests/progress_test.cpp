#include "src/report/progress.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "src/base/check.h"
#include "src/base/process.h"
#include "src/base/units.h"
#include "src/report/phase_line.h"
#include "src/report/terminal.h"
#include "tests/allocations.h"
#include "tests/refusal.h"

namespace tll {
namespace {

ProgressLine line(int64_t step) { return {step, 2.34567, 1.2345, 2e-4, 16246, 20, 0.634, 1288490189}; }

// Terminals of these tests understand escape sequences, whatever runs the tests.
class Terminals : public testing::Environment {
  void SetUp() override {
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
  }
};
testing::Environment* const terminals = testing::AddGlobalTestEnvironment(new Terminals);

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

TEST(Progress, LossIsShownAsMeasuredAndSmoothedAndTheSpeedSmoothed) {
  Channel channel = Channel::pipe();
  Progress progress(1, 3, false, channel.in);
  progress.show({.step = 1, .loss = 4, .grad_norm = 1, .tokens = 1000, .seconds = 1});
  progress.show({.step = 2, .loss = NAN, .grad_norm = 1, .tokens = 3000, .seconds = 1});
  progress.show({.step = 3, .loss = 2, .grad_norm = 5, .tokens = 1000, .seconds = 2});
  const auto lines = split(channel.text(), '\n');
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(says(lines[0], "loss 4.0000  norm 1 ")) << "one number has no average";
  EXPECT_TRUE(says(lines[0], "  1,000 tokens/s"));
  EXPECT_TRUE(says(lines[1], "loss nan")) << "what is not finite is not hidden";
  // Of 4 and 2: (0.9 4 + 2) / 1.9. Of tokens and seconds: (0.81 1000 + 0.9 3000 + 1000) / (0.81 + 0.9 + 2).
  EXPECT_TRUE(says(lines[2], "loss 2.0000  smoothed 2.9474  norm 5 "));
  EXPECT_TRUE(says(lines[2], "  1,216 tokens/s"));
}

TEST(Progress, WithoutEscapesATerminalGetsPlainLines) {
  for (const auto& [name, value] : {std::pair{"NO_COLOR", "1"}, {"TERM", "dumb"}, {"TERM", ""}}) {
    const std::string before = getenv(name) ? getenv(name) : "";
    setenv(name, value, 1);
    Channel channel = Channel::terminal(100);
    Progress progress(1, 1000, false, channel.in);
    for (int step = 1; step <= 20; step++) progress.show(line(step));
    progress.note("a note");
    progress.finish();
    setenv(name, before.c_str(), 1);
    const std::string text = channel.text();
    EXPECT_EQ(text.find('\x1b'), std::string::npos) << name << value;
    EXPECT_TRUE(says(text, "step 10/1000")) << name << value;
    EXPECT_TRUE(says(text, "a note\r\n")) << name << value;
    for (const std::string& shown : split(text, '\n')) EXPECT_LE(shown.size(), 100u) << "with its line end";
  }
}

TEST(Progress, TheLastStepStandsWhereAPhaseWasShown) {
  Channel channel = Channel::terminal(100);
  Progress progress(1, 9, false, channel.in);
  progress.show(line(1));
  channel.text();
  progress.finish();
  EXPECT_TRUE(says(channel.text(), "\r\x1b[Kstep 1/9"));
}

// A clock that stands still until it is told.
std::chrono::steady_clock::time_point told_time;
std::chrono::steady_clock::time_point told_now() { return told_time; }

TEST(PhaseLine, ATerminalGetsOneLineThatIsGoneAtTheEnd) {
  Channel channel = Channel::terminal(80);
  const PhaseLine line(channel.in, false, told_now);
  {
    Phase phase("reading weights", 200);
    told_time += std::chrono::milliseconds(499);
    phase.advance(10);
    EXPECT_EQ(channel.text(), "") << "it is not long enough yet";
    told_time += std::chrono::milliseconds(501);
    phase.advance(40);
    EXPECT_EQ(channel.text(), "\r\x1b[Kreading weights: 50 of 200, 25%, ETA 0:03");
    told_time += std::chrono::milliseconds(99);
    phase.advance(0);
    EXPECT_EQ(channel.text(), "") << "it was redrawn a moment ago";
    {
      Phase inner("hashing", 1);
      told_time += std::chrono::seconds(1);
      inner.advance();
    }
    EXPECT_EQ(channel.text(), "") << "a phase inside is not shown, and ends nothing";
    phase.advance(50);
    EXPECT_EQ(channel.text(), "\r\x1b[Kreading weights: 100 of 200, 50%, ETA 0:02");
  }
  EXPECT_EQ(channel.text(), "\r\x1b[K");
  {
    Phase phase("tokenising", 2);
    phase.advance();
  }
  EXPECT_EQ(channel.text(), "") << "too short to be shown, so there is nothing to clear";
}

TEST(PhaseLine, APipeGetsALineEveryTenSeconds) {
  Channel channel = Channel::pipe();
  const PhaseLine line(channel.in, false, told_now);
  {
    Phase phase("evaluating", 100);
    for (int second = 1; second <= 25; second++) {
      told_time += std::chrono::seconds(1);
      phase.advance();
    }
  }
  EXPECT_EQ(channel.text(), "evaluating: 10 of 100, 10%, ETA 1:30\nevaluating: 20 of 100, 20%, ETA 1:20\n");
  {
    Phase bytes("reading data", 5'000'000);
    told_time += std::chrono::seconds(10);
    bytes.advance(1'000'000);
  }
  EXPECT_EQ(channel.text(), "reading data: 20%, ETA 0:40\n") << "so many units are not counted";
  Phase unknown("tokenising lines", 0);
  told_time += std::chrono::seconds(10);
  unknown.advance(12345);
  EXPECT_EQ(channel.text(), "tokenising lines: 12,345 done, 0:10\n");
}

TEST(PhaseLine, FitsTheWidthAndCanBeQuiet) {
  Channel narrow = Channel::terminal(12), other = Channel::terminal(80);
  {
    const PhaseLine line(narrow.in, false, told_now);
    const PhaseLine quiet(other.in, true, told_now);
    Phase phase("reading weights", 2);
    told_time += std::chrono::seconds(1);
    phase.advance();
  }
  EXPECT_EQ(other.text() + narrow.text(), "");
  const PhaseLine line(narrow.in, false, told_now);
  Phase phase("reading weights", 2);
  told_time += std::chrono::seconds(1);
  phase.advance();
  EXPECT_EQ(narrow.text(), "\r\x1b[Kreading wei") << "the last column stays free";
}

TEST(Terminal, LinesBreakBetweenWords) {
  EXPECT_EQ(wrapped("model    a b c", 0, 9, 0), "model    a b c") << "no terminal, no width";
  EXPECT_EQ(wrapped("model    one two three", 17, 9, 0), "model    one two\n        three") << "an indent leaves half the line";
  EXPECT_EQ(wrapped("model    one two three", 20, 9, 0), "model    one two\n         three");
  EXPECT_EQ(wrapped("one\ntwo", 40, 9, 0), "one\n         two") << "a line of the text is a line";
  EXPECT_EQ(wrapped("ab cd", 5, 2, 0), "ab cd") << "just fits";
  EXPECT_EQ(wrapped("ab cd", 4, 1, 0), "ab\n cd");
  EXPECT_EQ(wrapped("x averylongpath/thatfitsnowhere y", 12, 2, 0), "x\n  averylongpath/thatfitsnowhere\n  y") << "whole";
  EXPECT_EQ(wrapped("aaa,bbb,ccc,ddd", 9, 1, 0), "aaa,bbb,\n ccc,ddd") << "but a list is broken";
  EXPECT_EQ(wrapped("\u00fc\u00fc \u00fc\u00fc", 5, 0, 0), "\u00fc\u00fc \u00fc\u00fc") << "characters count, not bytes";
  const std::string text = "plan     parameters 6.50 MiB + gradients 1.00 MiB + optimizer 2.00 MiB = 34.8 MiB (36,519,632 bytes)";
  for (size_t width = 40; width <= 120; width++)
    for (const std::string& line : split(wrapped(text, width, 9, 0), '\n')) EXPECT_LE(line.size(), width);
}

TEST(Progress, AStepAllocatesNothing) {
  Channel pipe = Channel::pipe(), terminal = Channel::terminal(100);
  Progress plain(1, 100, false, pipe.in), drawn(1, 100, false, terminal.in);
  if (!allocations_are_counted()) GTEST_SKIP() << "the sanitizer's operator new is in place of the counting one";
  const PhaseLine phases(terminal.in, false, told_now);
  const int64_t before = allocations;
  for (int step = 1; step <= 100; ++step) {
    plain.show(line(step));
    drawn.show(line(step));
    Phase phase("evaluating", 2);
    told_time += std::chrono::seconds(1);
    phase.advance();
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

TEST(Units, Counts) {
  const std::pair<int64_t, const char*> cases[] = {
      {0, "0"},   {999, "999"},   {1000, "1,000"},       {134515008, "134,515,008"},
      {-1, "-1"}, {-999, "-999"}, {-100000, "-100,000"}, {INT64_MIN, "-9,223,372,036,854,775,808"}};
  for (const auto& [number, text] : cases) EXPECT_EQ(fmt::format("{}", Count{number}), text);
  EXPECT_EQ(fmt::format("{}, {}, {}", Counted{1, "step"}, Counted{0, "step"}, Counted{2000, "token"}),
            "1 step, 0 steps, 2,000 tokens");
}

// The exit status of a child that catches signals, gets `signals` one after the other with a pause between them, and exits with 7
// once it is asked to stop.
int status_after(std::vector<int> signals, int pause_ms = 0, bool saving = false) {
  const pid_t child = fork();
  if (child == 0) {
    catch_stop_signals();
    if (stop_requested()) _exit(1);
    std::optional<KeepFromStopping> keep;
    if (saving) keep.emplace();
    for (int number : signals) raise(number), usleep(static_cast<useconds_t>(pause_ms) * 1000);
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
    EXPECT_EQ(status_after({number, number}), 7) << "the same one, sent twice";
  }
  EXPECT_EQ(status_after({SIGINT, SIGTERM}, 1100), kExitInterrupted);
  EXPECT_EQ(status_after({SIGINT, SIGTERM}, 1100, true), 7) << "what is being saved is saved";
}

}  // namespace
}  // namespace tll
