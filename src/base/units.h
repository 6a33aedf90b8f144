// Amounts as people read them: fmt::format("{}", Bytes{n}) and fmt::format("{}", Duration{seconds}). Neither allocates.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>

namespace tll {

struct Bytes {
  int64_t count;
};

struct Duration {
  double seconds;
};

}  // namespace tll

// 999 B, 1.00 KiB, 12.3 MiB, 456 GiB: three digits, powers of 1024.
template <>
struct fmt::formatter<tll::Bytes> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }

  template <class Context>
  auto format(tll::Bytes bytes, Context& context) const {
    if (bytes.count < 1000) return fmt::format_to(context.out(), "{} B", bytes.count);
    const char* units = "KMGTPE";
    double value = static_cast<double>(bytes.count) / 1024;
    while (value >= 999.5) value /= 1024, ++units;
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    return fmt::format_to(context.out(), "{:.{}f} {}iB", value, decimals, *units);
  }
};

// 0:07, 12:34, 1:02:03, 2d 03:04: whole seconds, and from one day on whole minutes; "?" if not known (not finite, negative, or
// above 1e12).
template <>
struct fmt::formatter<tll::Duration> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }

  template <class Context>
  auto format(tll::Duration duration, Context& context) const {
    if (!std::isfinite(duration.seconds) || duration.seconds < 0 || duration.seconds > 1e12)
      return fmt::format_to(context.out(), "?");
    const int64_t seconds = std::llround(duration.seconds);
    const int64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
    if (days > 0) return fmt::format_to(context.out(), "{}d {:02}:{:02}", days, hours % 24, minutes % 60);
    if (hours > 0) return fmt::format_to(context.out(), "{}:{:02}:{:02}", hours, minutes % 60, seconds % 60);
    return fmt::format_to(context.out(), "{}:{:02}", minutes, seconds % 60);
  }
};
