#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "src/report/chart.h"
#include "src/report/chart_ranges.h"

namespace tll {
namespace {

constexpr size_t kLeast = 30, kGutter = 9;  // columns

// The colours of a terminal nearest to those of chart_svg: they follow its light or dark theme.
constexpr const char* kColours[] = {"\x1b[34m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[2m"};
constexpr const char* kFaint = "\x1b[2m";
constexpr const char* kPlain = "\x1b[0m";

struct Cell {
  uint8_t dots = 0;  // of a Braille character, as Unicode numbers them
  char letter = 0;   // in place of dots
  const Curve* curve = nullptr;
};

// A grid of cells, each `wide` by `tall` dots.
class Canvas {
 public:
  Canvas(size_t columns, size_t rows, bool unicode)
      : columns_(columns), rows_(rows), wide_(unicode ? 2 : 1), tall_(unicode ? 4 : 1), cells_(columns * rows) {}

  size_t dots_across() const { return columns_ * wide_; }
  const Cell& cell(size_t column, size_t row) const { return cells_[row * columns_ + column]; }

  // Places go from 0 to 1, from the left and from the bottom.
  void line(const Curve& curve, const std::vector<Point>& places) {
    const Point* before = nullptr;
    for (const Point& p : places) {
      const bool here = std::isfinite(p.y);
      if (here) join(curve, before ? *before : p, p);
      before = here ? &p : nullptr;
    }
  }
  void mark(const Curve& curve, const Point& place, char letter) {
    Cell& cell = cells_[dot(1 - place.y, rows_) * columns_ + dot(place.x, columns_)];
    cell = {0, letter, &curve};
  }

 private:
  static size_t dot(double place, size_t dots) {
    return std::min(dots - 1, static_cast<size_t>(std::clamp(place, 0.0, 1.0) * static_cast<double>(dots - 1) + 0.5));
  }
  void join(const Curve& curve, const Point& from, const Point& to) {
    const auto x = [&](const Point& p) { return static_cast<int64_t>(dot(p.x, columns_ * wide_)); };
    const auto y = [&](const Point& p) { return static_cast<int64_t>(dot(1 - p.y, rows_ * tall_)); };
    const int64_t x0 = x(from), y0 = y(from), dx = x(to) - x0, dy = y(to) - y0;
    const int64_t steps = std::max({std::abs(dx), std::abs(dy), int64_t{1}});
    for (int64_t i = 0; i <= steps; i++) {
      const auto part = [&](int64_t d) { return std::llround(static_cast<double>(d * i) / static_cast<double>(steps)); };
      put(curve, static_cast<size_t>(x0 + part(dx)), static_cast<size_t>(y0 + part(dy)));
    }
  }
  void put(const Curve& curve, size_t x, size_t y) {
    constexpr uint8_t kDots[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    Cell& cell = cells_[y / tall_ * columns_ + x / wide_];
    if (cell.curve != &curve) cell = {0, 0, &curve};  // the later curve covers the earlier one
    if (wide_ == 2)
      cell.dots |= kDots[y % tall_][x % wide_];
    else
      cell.letter = curve.style == CurveStyle::kFaint ? '.' : '*';
  }

  size_t columns_, rows_, wide_, tall_;
  std::vector<Cell> cells_;
};

std::string braille(uint8_t dots) {  // U+2800 and the dots
  return {'\xe2', static_cast<char>(0xa0 | dots >> 6), static_cast<char>(0x80 | (dots & 0x3f))};
}

class TextChart {
 public:
  TextChart(const Chart& chart, const TextChartStyle& style)
      : chart_(chart), style_(style), columns_(style.columns - kGutter - 1) {
    std::erase_if(chart_.panels, [](const Panel& panel) { return panel.rows == 0; });
    for (Panel& panel : chart_.panels) std::erase_if(panel.curves, [&](const Curve& curve) { return !is_drawn(curve); });
    const ChartRange x = x_range(chart_);
    across_ = axis_over(x.low, x.high, std::clamp<size_t>(columns_ / 16, 2, 12));
  }

  std::string draw() {
    for (const Panel& panel : chart_.panels)
      if (has_points(panel)) draw(panel);
    draw_steps();
    return out_;
  }

 private:
  // What was measured at each step would cover the line through it, if both were of dots of one colour.
  bool is_drawn(const Curve& curve) const {
    return has_points(curve) && (curve.style != CurveStyle::kFaint || !style_.unicode || style_.colour);
  }
  std::string coloured(std::string_view text, const Curve& curve) const {
    if (!style_.colour) return std::string(text);
    return fmt::format("{}{}{}{}", curve.style == CurveStyle::kFaint ? kFaint : "", kColours[curve.colour], text, kPlain);
  }
  std::string sign_of(const Curve& curve) const {
    if (curve.style == CurveStyle::kMarked) return "o";
    if (!style_.unicode) return curve.style == CurveStyle::kFaint ? "." : "*";
    return braille(curve.style == CurveStyle::kFaint ? 0x12 : 0x1b) + braille(0x12);
  }

  void draw(const Panel& panel) {
    const auto rows = static_cast<size_t>(panel.rows);
    const Axis up = panel_axis(panel, std::max<size_t>(2, (rows + 1) / 2));
    // The title, and what the curves are as far as there is room.
    std::string title = panel.title;
    size_t used = title.size();
    for (const Curve& curve : panel.curves) {
      const size_t wide = 2 + (style_.unicode && curve.style != CurveStyle::kMarked ? 2 : 1) + 1 + curve.name.size();
      if (panel.curves.size() == 1 || used + wide >= style_.columns) continue;
      title += fmt::format("  {} {}", coloured(sign_of(curve), curve), curve.name);
      used += wide;
    }
    if (used >= style_.columns) title = panel.title.substr(0, style_.columns - 1);
    out_ += title + "\n";

    Canvas canvas(columns_, rows, style_.unicode);
    for (const Curve& curve : panel.curves) {
      std::vector<Point> places = thinned(curve.points, canvas.dots_across());
      for (Point& p : places)
        if (p.x = across_.place(p.x); std::isfinite(p.y)) p.y = up.place(p.y);
      if (curve.style != CurveStyle::kMarked) canvas.line(curve, places);
      if (curve.style != CurveStyle::kMarked) continue;
      for (const Point& p : places)
        if (std::isfinite(p.y)) canvas.mark(curve, p, 'o');
    }
    std::vector<std::string> labels(rows);
    for (const double tick : up.ticks)
      labels[static_cast<size_t>(std::lround((1 - up.place(tick)) * static_cast<double>(rows - 1)))] = up.text(tick);
    for (size_t row = 0; row < rows; row++) {
      std::string line =
          fmt::format("{:>{}} {}", labels[row], kGutter - 2, style_.unicode ? labels[row].empty() ? "│" : "┤" : "|");
      size_t blanks = 0;
      for (size_t column = 0; column < columns_; column++) {
        const Cell& cell = canvas.cell(column, row);
        if (cell.curve == nullptr) {
          blanks++;
          continue;
        }
        line.append(std::exchange(blanks, 0), ' ');
        line += coloured(cell.letter ? std::string(1, cell.letter) : braille(cell.dots), *cell.curve);
      }
      out_ += line + "\n";
    }
  }

  // The axis of steps, and its labels where they do not touch each other.
  void draw_steps() {
    out_ += std::string(kGutter - 1, ' ') + (style_.unicode ? "└" : "+");
    std::string labels(style_.columns - 1, ' ');
    std::vector<bool> ticks(columns_);
    size_t free = 0;
    for (const double tick : across_.ticks) {
      const auto column = static_cast<size_t>(std::lround(across_.place(tick) * static_cast<double>(columns_ - 1)));
      ticks[column] = true;
      const std::string text = across_.text(tick);
      const size_t middle = kGutter + column;
      const size_t begin = std::min(middle - std::min(middle, text.size() / 2), labels.size() - text.size());
      if (begin < free) continue;
      labels.replace(begin, text.size(), text);
      free = begin + text.size() + 1;
    }
    for (size_t column = 0; column < columns_; column++)
      out_ += style_.unicode ? ticks[column] ? "┬" : "─" : ticks[column] ? "+" : "-";
    const std::string name = chart_.x_name;
    if (free + name.size() < labels.size()) labels.replace(labels.size() - name.size(), name.size(), name);
    labels.erase(labels.find_last_not_of(' ') + 1);
    out_ += "\n" + labels + "\n";
  }

  Chart chart_;  // of what is drawn
  const TextChartStyle& style_;
  const size_t columns_;  // between the gutter and the terminal's last column, which stays free
  Axis across_;
  std::string out_;
};

}  // namespace

std::string chart_text(const Chart& chart, const TextChartStyle& style) {
  const bool drawn = std::any_of(chart.panels.begin(), chart.panels.end(), [](const Panel& p) { return has_points(p); });
  return style.columns < kLeast || !drawn ? "" : TextChart(chart, style).draw();
}

}  // namespace tll
