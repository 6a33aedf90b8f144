// What the two ways to draw a chart (src/report/chart.h) have in common: over what its axes go.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/report/chart.h"

namespace tll {

struct ChartRange {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
  bool empty() const { return low > high; }
};

inline bool has_points(const Curve& curve) {
  return std::any_of(curve.points.begin(), curve.points.end(), [](const Point& p) { return std::isfinite(p.y); });
}
inline bool has_points(const Panel& panel) {
  return std::any_of(panel.curves.begin(), panel.curves.end(), [](const Curve& c) { return has_points(c); });
}

inline ChartRange x_range(const Chart& chart) {
  ChartRange range;
  for (const Panel& panel : chart.panels)
    for (const Curve& curve : panel.curves)
      for (const Point& p : curve.points) range.add(p.x);
  return range.empty() ? ChartRange{0, 1} : range;
}

// Some room above and below the curves.
inline Axis panel_axis(const Panel& panel, size_t most_ticks) {
  constexpr double kRoom = 0.05, kLogarithmicFrom = 10;
  ChartRange all, lines;
  for (const Curve& curve : panel.curves)
    for (const Point& p : curve.points) {
      if (!std::isfinite(p.y)) continue;
      all.add(p.y);
      if (curve.style != CurveStyle::kFaint) lines.add(p.y);
    }
  if (lines.empty()) lines = all;
  const bool logarithmic = panel.may_be_logarithmic && all.low > 0 && lines.high / lines.low >= kLogarithmicFrom;
  if (logarithmic) {
    const double room = std::pow(all.high / all.low, kRoom);
    return axis_over(all.low / room, all.high * room, most_ticks, true);
  }
  if (all.high > all.low) {
    const double room = kRoom * (all.high - all.low);
    all.low -= all.low >= 0 && all.low < room ? all.low : room;  // what is never negative has no room below 0
    all.high += room;
  }
  if (panel.from_zero) all.low = std::min(all.low, 0.0);
  return axis_over(all.low, all.high, most_ticks);
}

}  // namespace tll
