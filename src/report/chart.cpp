#include "src/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <initializer_list>

namespace tll {
namespace {

// Steps of ticks are 1, 2 or 5 times a power of ten.
double round_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

std::vector<double> linear_ticks(double low, double high, size_t most) {
  std::vector<double> ticks;
  for (double step = round_step((high - low) / static_cast<double>(most));; step = round_step(step * 1.5)) {
    ticks.clear();
    for (double n = std::ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) ticks.push_back(n == 0 ? 0 : n * step);
    if (ticks.size() <= most) return ticks;
  }
}

std::vector<double> logarithmic_ticks(double low, double high, size_t most) {
  const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
  std::vector<double> ticks;
  const auto fill = [&](std::initializer_list<double> factors, int every) {
    ticks.clear();
    for (int power = first; power <= last; power++)
      for (const double factor : factors)
        if (const double tick = factor * std::pow(10.0, power);
            power % every == 0 && tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9))
          ticks.push_back(tick);
    return ticks.size() <= most;
  };
  if (fill({1, 1.5, 2, 3, 4, 5, 7}, 1) || fill({1, 2, 5}, 1) || fill({1, 3}, 1)) return ticks;
  for (int every = 1; !fill({1}, every);) every++;
  return ticks;
}

// 0.00015 as 1.5e-4, 0.0002 as 2e-4.
std::string scientific(double value, int decimals) {
  const std::string text = fmt::format("{:.{}e}", value, decimals);
  const size_t e = text.find('e');
  std::string digits = text.substr(0, e);
  if (digits.find('.') != std::string::npos) digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.ends_with('.')) digits.pop_back();
  return fmt::format("{}e{}", digits, std::atoi(text.c_str() + e + 1));
}

}  // namespace

std::vector<Point> thinned(std::span<const Point> points, size_t columns) {
  if (points.size() <= 4 * columns || columns == 0) return {points.begin(), points.end()};
  const double begin = points.front().x, width = points.back().x - begin;
  const auto column_of = [&](double x) {
    return width > 0 ? std::min(columns - 1, static_cast<size_t>((x - begin) / width * static_cast<double>(columns))) : 0;
  };
  std::vector<Point> kept;
  kept.reserve(9 * columns);
  for (size_t i = 0; i < points.size();) {
    const size_t column = column_of(points[i].x);
    size_t end = i;
    while (end < points.size() && column_of(points[end].x) == column) end++;
    // The runs between gaps are thinned by themselves, up to a gap a column: more would not be seen.
    bool gap = false;
    while (i < end) {
      if (!std::isfinite(points[i].y)) {
        if (!gap) kept.push_back(points[i]);
        gap = true;
        i++;
        continue;
      }
      size_t run = i, lowest = i, highest = i;
      for (; run < end && (std::isfinite(points[run].y) || gap); run++) {
        if (!std::isfinite(points[run].y)) continue;
        if (points[run].y < points[lowest].y) lowest = run;
        if (points[run].y > points[highest].y) highest = run;
      }
      size_t last = run - 1;
      while (!std::isfinite(points[last].y)) last--;
      const size_t chosen[] = {i, std::min(lowest, highest), std::max(lowest, highest), last};
      for (size_t k = 0; k < std::size(chosen); k++)
        if (k == 0 || chosen[k] != chosen[k - 1]) kept.push_back(points[chosen[k]]);
      i = run;
    }
    i = end;
  }
  return kept;
}

double Axis::place(double value) const {
  const double part = logarithmic ? std::log(std::max(value, low) / low) / std::log(high / low) : (value - low) / (high - low);
  return std::clamp(part, 0.0, 1.0);
}

std::string Axis::text(double tick) const {
  const double largest = std::max(std::abs(low), std::abs(high));
  if (tick == 0) return "0";
  if (logarithmic) {
    if (tick < 1e-3 || tick >= 1e5) return scientific(tick, 0);
    return fmt::format("{:g}", tick);
  }
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : std::abs(tick);
  const int last = static_cast<int>(std::floor(std::log10(step) + 1e-9));  // the place of the last digit
  const auto decimals = [&](int shift) { return std::max(0, shift - last); };
  if (largest >= 1e6 - 1) return fmt::format("{:.{}f}M", tick / 1e6, decimals(6));
  if (largest >= 1e4 - 1) return fmt::format("{:.{}f}k", tick / 1e3, decimals(3));
  if (largest < 1e-2) return scientific(tick, decimals(static_cast<int>(std::floor(std::log10(std::abs(tick)) + 1e-9))));
  return fmt::format("{:.{}f}", tick, decimals(0));
}

Axis axis_over(double low, double high, size_t most_ticks, bool logarithmic) {
  Axis axis{low, high, logarithmic && low > 0};
  // Nor where the values differ in their last bits only: no ticks lie between.
  if (!(high - low > 1e-9 * std::max(std::abs(low), std::abs(high)))) {
    const double room = low == 0 ? 1 : std::abs(low) * 0.1;
    axis.low -= room, axis.high += room;
  }
  axis.ticks =
      axis.logarithmic ? logarithmic_ticks(axis.low, axis.high, most_ticks) : linear_ticks(axis.low, axis.high, most_ticks);
  return axis;
}

}  // namespace tll
