#include "src/report/phase_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "src/base/file.h"
#include "src/base/units.h"
#include "src/report/terminal.h"

namespace tll {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kAppears{500}, kRedraw{100}, kPlain{10000};

}  // namespace

PhaseLine::PhaseLine(int output, bool quiet, Clock::time_point (*now)())
    : output_(output), terminal_(takes_escapes(output)), now_(now), before_(set_phase_view(quiet ? nullptr : this)) {}

PhaseLine::~PhaseLine() { set_phase_view(before_); }

void PhaseLine::show(const char* activity, int64_t done, int64_t total) {
  const Clock::time_point now = now_();
  if (!begun_) start_ = last_ = now;
  begun_ = true;
  const Clock::duration pause = terminal_ ? (drawn_ ? kRedraw : kAppears) : kPlain;
  if (now - last_ < pause) return;
  last_ = now;
  drawn_ = terminal_;

  const double elapsed = std::chrono::duration<double>(now - start_).count();
  constexpr int64_t kCounted = 1000000;  // larger totals are of bytes or parameters, and say nothing
  char line[256], *end = line;
  const auto append = [&](auto format, auto&&... args) {
    end = fmt::format_to_n(end, line + sizeof line - end, format, args...).out;
  };
  append(FMT_STRING("{}: "), activity);
  if (total <= 0) {
    append(FMT_STRING("{} done, {}"), Count{done}, Duration{elapsed});
  } else {
    const double share = static_cast<double>(done) / static_cast<double>(total);
    if (total < kCounted) append(FMT_STRING("{} of {}, "), Count{done}, Count{total});
    append(FMT_STRING("{:.0f}%, "), 100 * share);
    if (described_ > 0) append(FMT_STRING("{}, "), std::string_view(description_, described_));
    append(FMT_STRING("ETA {}"), Duration{elapsed / share - elapsed});
  }
  const std::string_view text(line, static_cast<size_t>(end - line));
  if (!terminal_) {
    write_all(output_, text);
    write_all(output_, "\n");
    return;
  }
  write_all(output_, kClearLine);
  write_all(output_, text.substr(0, terminal_columns(output_) - 1));
}

void PhaseLine::describe(std::string_view text) { described_ = text.copy(description_, sizeof description_); }

void PhaseLine::end() {
  if (drawn_) write_all(output_, kClearLine);
  begun_ = drawn_ = false;
  described_ = 0;
}

}  // namespace tll
