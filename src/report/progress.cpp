#include "src/report/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "src/base/units.h"
#include "src/report/terminal.h"

namespace tll {
namespace {

constexpr int64_t kPlainLines = 100;
constexpr std::chrono::milliseconds kRedraw{50};

// Fields in the order shown. If they do not all fit, those with the highest `optional` are left out first.
struct Field {
  int optional;
  char text[64];
  size_t size;
};

template <class... Args>
Field field(int optional, fmt::format_string<Args...> format, Args&&... args) {
  Field made{optional, {}, 0};
  made.size = std::min(fmt::format_to_n(made.text, sizeof made.text, format, std::forward<Args>(args)...).size, sizeof made.text);
  return made;
}

}  // namespace

Progress::Progress(int64_t first, int64_t last, bool quiet, int output)
    : first_(first),
      last_(last),
      every_(std::max<int64_t>(1, (last - first + kPlainLines) / kPlainLines)),
      output_(output),
      quiet_(quiet),
      terminal_(takes_escapes(output)),
      loss_(smoothing_steps(last)) {}

void Smoothed::add(double value) {
  if (!std::isfinite(value)) return;
  sum_ = kept_ * sum_ + value, weight_ = kept_ * weight_ + 1;
}

void Progress::show(const ProgressLine& line) {
  if (quiet_) return;
  latest_ = line;
  pending_ = true;
  loss_.add(line.loss), tokens_.add(static_cast<double>(line.tokens)), seconds_.add(line.seconds);
  peak_share_.add(line.peak_share);
  const bool end = line.step == first_ || line.step == last_;
  const bool due = terminal_ ? Clock::now() - last_draw_ >= kRedraw : line.step % every_ == 0;
  if (end || due) draw(line);
}

void Progress::draw(const ProgressLine& line) {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double left = elapsed / static_cast<double>(line.step - first_ + 1) * static_cast<double>(last_ - line.step);
  const double speed = seconds_.value() > 0 ? tokens_.value() / seconds_.value() : 0;
  Field fields[] = {field(0, "step {}/{}", line.step, last_),
                    field(1, "loss {:.4f}", line.loss),
                    field(2, "smoothed {:.4f}", loss_.value()),
                    field(5, "norm {:.3g}", std::fabs(line.grad_norm)),
                    field(8, "lr {:.2e}", line.lr),
                    field(4, "{} tokens/s", Count{std::llround(speed)}),
                    field(6, "{:.0f}% of peak", peak_share_.value() * 100),
                    field(7, "{}", Bytes{line.bytes}),
                    field(3, "ETA {}", Duration{left})};
  if (line.step == first_ || !std::isfinite(loss_.value())) fields[2].size = 0;  // there is one number, or none
  if (line.peak_share <= 0) fields[6].size = 0;

  const size_t width = terminal_columns(output_);  // 0: any
  constexpr std::string_view kGap = "  ";
  const auto length = [&] {
    size_t total = 0;
    for (const Field& f : fields) total += f.size > 0 ? f.size + kGap.size() : 0;
    return total - kGap.size();
  };
  // A terminal's last column stays free: a cursor past it would wrap.
  while (width > 0 && length() >= width) {
    Field* worst = &fields[0];
    for (Field& f : fields) {
      if (f.size > 0 && f.optional > worst->optional) worst = &f;
    }
    if (worst == &fields[0]) break;
    worst->size = 0;
  }

  char text[sizeof fields + 16];
  char* end = text;
  const auto append = [&](std::string_view part) { end = std::copy(part.begin(), part.end(), end); };
  if (terminal_) append(kClearLine);
  char* const begin = end;
  for (const Field& f : fields) {
    if (f.size == 0) continue;
    if (end != begin) append(kGap);
    append({f.text, f.size});
  }
  if (width > 0 && static_cast<size_t>(end - begin) >= width) end = begin + (width - 1);
  if (!terminal_) append("\n");
  write({text, static_cast<size_t>(end - text)});
  drawn_ = terminal_;
  pending_ = false;
  last_draw_ = Clock::now();
}

void Progress::note(std::string_view text) {
  if (quiet_) return;
  if (drawn_) write(kClearLine);
  write(text);
  write("\n");
  if (drawn_) draw(latest_);
}

void Progress::finish() {
  if (pending_ || drawn_) draw(latest_);  // a phase may have been shown in its place
  if (drawn_) write("\n");
  drawn_ = false;
}

}  // namespace tll
