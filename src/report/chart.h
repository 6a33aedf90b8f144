// Charts: curves over steps, as a picture (SVG) and in a terminal. They know nothing of what the curves are.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

struct Point {
  double x = 0, y = 0;  // a y that is not finite is a gap
};

// What is drawn of these points at so many columns of pixels: of each column the first, the lowest, the highest and the last one,
// in their order. A line through them covers the same pixels as a line through all (M4: Jugel et al., VLDB 2014). Gaps stay.
std::vector<Point> thinned(std::span<const Point> points, size_t columns);

// From low to high, in proportion or by logarithms.
struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  std::vector<double> ticks = {};    // round numbers between low and high
  double place(double value) const;  // 0 at low, 1 at high; clamped
  std::string text(double tick) const;
};

// At most so many ticks. With `logarithmic`, which needs low > 0. Where low is high, some room around it.
Axis axis_over(double low, double high, size_t most_ticks, bool logarithmic = false);

enum class CurveStyle { kFaint, kStrong, kMarked };  // what was measured, a line through it, single points that are joined
struct Curve {
  std::string name;
  CurveStyle style = CurveStyle::kStrong;
  int colour = 0;             // 0 ... 4: blue, orange, green, purple, grey
  std::vector<Point> points;  // x rises
};

struct Panel {
  std::string title;  // with the unit
  std::vector<Curve> curves;
  bool from_zero = false;           // the axis begins at 0
  bool may_be_logarithmic = false;  // where the strong and the marked curves go over a factor of ten and more
  int height = 180;                 // of the plot in a picture, in pixels
  int rows = 10;                    // of it in a terminal; 0: it is left out there
};

struct Chart {
  std::string title, x_name;
  std::vector<Panel> panels;  // one below the other, over the same x; those without a point are left out
};

// A file by itself, for light and dark surroundings, that needs nothing else. It may also stand in HTML. `width`: in pixels.
std::string chart_svg(const Chart& chart, double width);

struct TextChartStyle {
  size_t columns = 80;
  bool unicode = false;  // lines of Braille dots; else of ASCII characters
  bool colour = false;   // escape sequences of colours
};
// Lines, each ended; none is wider than `columns`. Nothing if there is no room for a chart (below 30 columns), or nothing to
// draw.
std::string chart_text(const Chart& chart, const TextChartStyle& style);

}  // namespace tll
