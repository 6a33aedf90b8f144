#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/report/chart.h"
#include "src/report/chart_ranges.h"
#include "src/report/markup.h"

namespace tll {
namespace {

// The colours of curves are told apart also by eyes that see few of them (Okabe and Ito 2008, on white and on black); so are the
// curves by their form.
constexpr const char* kStyle = R"(<style>
.chart{font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;color-scheme:light dark}
.chart text{fill:#24292f}.chart .small{fill:#57606a}.chart .title{font-weight:600}
.chart .back{fill:#fff}.chart .grid{stroke:#d8dee4;stroke-width:1}.chart .axis{stroke:#8c959f;stroke-width:1}
.chart .line{fill:none;stroke-linejoin:round;stroke-linecap:round}
.chart .faint{stroke-width:1}.chart .strong{stroke-width:2}.chart .marked{stroke-width:1.3;stroke-dasharray:5 3}
.chart .c0{stroke:#0072b2}.chart .c1{stroke:#c44e00}.chart .c2{stroke:#00795a}.chart .c3{stroke:#a8478a}.chart .c4{stroke:#6e7781}
.chart .faint.c0{stroke:#9fcbe6}.chart .mark{fill:#fff;stroke-width:1.6}
@media (prefers-color-scheme:dark){
.chart text{fill:#e6edf3}.chart .small{fill:#9da7b3}.chart .back{fill:#0d1117}.chart .grid{stroke:#262c36}.chart .axis{stroke:#6e7681}
.chart .c0{stroke:#56b4e9}.chart .c1{stroke:#f0a33a}.chart .c2{stroke:#3fc79a}.chart .c3{stroke:#dd8fc0}.chart .c4{stroke:#9da7b3}
.chart .faint.c0{stroke:#23577a}.chart .mark{fill:#0d1117}}
@media print{.chart text{fill:#000}.chart .small{fill:#333}.chart .back,.chart .mark{fill:#fff}.chart .grid{stroke:#ddd}}
</style>
)";

constexpr double kLegend = 20, kTitle = 20, kGap = 14, kLetter = 6.7;  // pixels

const char* style_name(CurveStyle style) {
  return style == CurveStyle::kFaint ? "faint" : style == CurveStyle::kStrong ? "strong" : "marked";
}

// The points as the data of a path; a gap begins a new line.
std::string path_of(std::span<const Point> points, const auto& x_of, const auto& y_of) {
  std::string path;
  bool pen_down = false;
  for (const Point& p : points) {
    if (std::isfinite(p.y)) path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", x_of(p.x), y_of(p.y));
    pen_down = std::isfinite(p.y);
  }
  return path;
}

}  // namespace

std::string chart_svg(const Chart& chart, double width) {
  const double left = 62, right = 14, plot = width - left - right;
  const ChartRange x = x_range(chart);
  const Axis across = axis_over(x.low, x.high, static_cast<size_t>(std::clamp(plot / 65, 2.0, 10.0)));
  const auto x_of = [&](double value) { return left + plot * across.place(value); };
  std::string body;
  const auto text = [&](double at_x, double at_y, std::string_view content, std::string_view more) {
    body += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}>{}</text>\n", at_x, at_y, more, markup_escaped(content));
  };

  double y = 6;
  for (const Panel& panel : chart.panels) {
    if (!has_points(panel)) continue;
    text(10, y + 14, panel.title, " class=\"title\"");
    y += kTitle;
    double at = 10;
    for (const Curve& curve : panel.curves) {
      if (panel.curves.size() == 1 || !has_points(curve)) continue;
      const double wide = 34 + kLetter * static_cast<double>(curve.name.size()) + 14;
      if (at > 10 && at + wide > width) at = 10, y += kLegend;
      body += fmt::format("<path class=\"line {0} c{1}\" d=\"M{2:.1f} {3:.1f}H{4:.1f}\"/>\n", style_name(curve.style),
                          curve.colour, at, y + 9, at + 26);
      if (curve.style == CurveStyle::kMarked)
        body += fmt::format("<circle class=\"mark c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>\n", curve.colour, at + 13, y + 9);
      text(at + 32, y + 13, curve.name, " class=\"small\"");
      at += wide;
    }
    if (panel.curves.size() > 1) y += kLegend;

    const double tall = panel.height, top = y + 6;
    const Axis up = panel_axis(panel, static_cast<size_t>(std::max(2.0, tall / 28)));
    const auto y_of = [&](double value) { return top + tall * (1 - up.place(value)); };
    body += fmt::format("<rect class=\"back\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>\n", left, top, plot,
                        tall);
    for (const double tick : across.ticks)
      body += fmt::format("<path class=\"grid\" d=\"M{0:.1f} {1:.1f}V{2:.1f}\"/>\n", x_of(tick), top, top + tall);
    for (const double tick : up.ticks) {
      body += fmt::format("<path class=\"grid\" d=\"M{0:.1f} {1:.1f}H{2:.1f}\"/>\n", left, y_of(tick), left + plot);
      text(left - 6, y_of(tick) + 4, up.text(tick), " class=\"small\" text-anchor=\"end\"");
    }
    body +=
        fmt::format("<path class=\"axis line\" d=\"M{0:.1f} {1:.1f}V{2:.1f}H{3:.1f}\"/>\n", left, top, top + tall, left + plot);
    for (const Curve& curve : panel.curves) {
      const std::vector<Point> points = thinned(curve.points, static_cast<size_t>(plot));
      body += fmt::format("<path class=\"line {} c{}\" d=\"{}\"/>\n", style_name(curve.style), curve.colour,
                          path_of(points, x_of, y_of));
      const auto finite =
          static_cast<size_t>(std::count_if(points.begin(), points.end(), [](const Point& p) { return std::isfinite(p.y); }));
      const bool marks = curve.style == CurveStyle::kMarked && static_cast<double>(finite) * 8 < plot;
      if (!marks && finite > 1) continue;
      for (const Point& p : points)
        if (std::isfinite(p.y))
          body += fmt::format("<circle class=\"mark c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>\n", curve.colour, x_of(p.x),
                              y_of(p.y));
    }
    y = top + tall + kGap;
  }
  y += 4;
  for (const double tick : across.ticks) {
    const double at = x_of(tick);
    const char* anchor = at > width - 30 ? "end" : "middle";
    text(anchor[0] == 'e' ? width - 4 : at, y, across.text(tick), fmt::format(" class=\"small\" text-anchor=\"{}\"", anchor));
  }
  text(left + plot / 2, y + 18, chart.x_name, " class=\"small\" text-anchor=\"middle\"");
  y += 28;
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
             "height=\"{1:.0f}\" role=\"img\" aria-label=\"{2}\">\n<title>{2}</title>\n{3}"
             "<rect class=\"back\" width=\"{0:.0f}\" height=\"{1:.0f}\"/>\n",
             width, y, markup_escaped(chart.title), kStyle) +
         body + "</svg>\n";
}

}  // namespace tll
