#include "src/report/chart.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <sstream>

#include "src/report/markup.h"
#include "src/report/training_chart.h"

namespace tll {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

TEST(Thinned, KeepsWhatAPixelColumnShows) {
  std::mt19937 random(1);
  std::normal_distribution<double> noise;
  std::vector<Point> points;
  for (int i = 0; i < 100000; i++) points.push_back({double(i), noise(random)});
  points[31415].y = 50, points[31416].y = -50;  // one step up and down
  constexpr size_t kColumns = 300;
  const std::vector<Point> kept = thinned(points, kColumns);
  EXPECT_LE(kept.size(), 4 * kColumns);
  EXPECT_GE(kept.size(), 3 * kColumns);
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end(), [](const Point& a, const Point& b) { return a.x < b.x; }));
  EXPECT_EQ(kept.front().x, 0);
  EXPECT_EQ(kept.back().x, 99999);
  // Of each column the lowest and the highest value are the same as of all points.
  const auto ranges = [&](const std::vector<Point>& of) {
    std::vector<std::pair<double, double>> columns(kColumns, {1e9, -1e9});
    for (const Point& p : of) {
      auto& [low, high] = columns[std::min(kColumns - 1, size_t(p.x / 99999 * kColumns))];
      low = std::min(low, p.y), high = std::max(high, p.y);
    }
    return columns;
  };
  EXPECT_EQ(ranges(kept), ranges(points));
}

TEST(Thinned, GapsStayAndFewPointsStayAsTheyAre) {
  std::vector<Point> points;
  for (int i = 0; i < 10000; i++) points.push_back({double(i), i / 100 == 37 ? kNone : double(i % 7)});
  const std::vector<Point> kept = thinned(points, 100);
  const auto gaps = std::count_if(kept.begin(), kept.end(), [](const Point& p) { return std::isnan(p.y); });
  EXPECT_GE(gaps, 1);
  EXPECT_LE(gaps, 2);
  for (const Point& p : kept) EXPECT_TRUE(std::isfinite(p.y) || int(p.x) / 100 == 37);
  EXPECT_LE(kept.size(), 900u);

  const std::vector<Point> few = {{1, 2}, {2, kNone}, {3, 4}};
  EXPECT_EQ(thinned(few, 10).size(), 3u);
  EXPECT_TRUE(thinned({}, 10).empty());
  const std::vector<Point> nothing(1000, Point{5, kNone});
  EXPECT_EQ(thinned(nothing, 10).size(), 1u) << "one column, one gap";
}

std::string texts(const Axis& axis) {
  std::string all;
  for (const double tick : axis.ticks) all += axis.text(tick) + " ";
  return all;
}

TEST(Axis, RoundNumbers) {
  EXPECT_EQ(texts(axis_over(0.13, 2.41, 6)), "0.5 1.0 1.5 2.0 ");
  EXPECT_EQ(texts(axis_over(0, 2e-4, 5)), "0 5e-5 1e-4 1.5e-4 2e-4 ") << "decimals where they are needed";
  EXPECT_EQ(texts(axis_over(0, 100, 5)), "0 50 100 ");
  EXPECT_EQ(texts(axis_over(1, 25000, 6)), "5k 10k 15k 20k 25k ");
  EXPECT_EQ(texts(axis_over(0, 3.2e6, 4)), "0 1M 2M 3M ");
  EXPECT_EQ(texts(axis_over(-1.5, 1.5, 4)), "-1 0 1 ");
  EXPECT_EQ(texts(axis_over(2.001, 2.004, 4)), "2.001 2.002 2.003 2.004 ");
  EXPECT_EQ(texts(axis_over(0.9, 12, 5, true)), "1 2 5 10 ");
  EXPECT_EQ(texts(axis_over(1e-6, 1e3, 5, true)), "1e-6 1e-4 0.01 1 100 ");
}

TEST(Axis, WhatIsFlatOrExtremeHasAnAxisToo) {
  EXPECT_GE(axis_over(5, 5, 5).ticks.size(), 2u);
  EXPECT_GE(axis_over(0, 0, 5).ticks.size(), 2u);
  EXPECT_GE(axis_over(-3, -3, 5, true).ticks.size(), 2u) << "no logarithm of these";
  for (const double scale : {1e-300, 1e-20, 1e-3, 1.0, 1e20, 1e300})
    for (const double low : {-1.0, 0.0, 0.5, 0.999999})
      for (const bool logarithmic : {false, true})
        for (const size_t most : {2u, 5u, 10u}) {
          const Axis axis = axis_over(low * scale, scale, most, logarithmic);
          EXPECT_LE(axis.ticks.size(), most);
          EXPECT_TRUE(std::is_sorted(axis.ticks.begin(), axis.ticks.end()));
          for (const double tick : axis.ticks) EXPECT_LT(axis.text(tick).size(), 330u);
          EXPECT_EQ(axis.place(low * scale), 0);
          EXPECT_EQ(axis.place(scale), 1);
        }
  const Axis axis = axis_over(1, 100, 5, true);
  EXPECT_DOUBLE_EQ(axis.place(10), 0.5);
  EXPECT_EQ(axis.place(1e9), 1);
  EXPECT_EQ(axis.place(-5), 0);
}

TEST(Markup, NothingInATextIsMarkup) {
  EXPECT_EQ(markup_escaped("<script>alert('x')</script> & \"y\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;");
  EXPECT_EQ(markup_escaped("Grüße, 你好 🙂\n\ttab"), "Grüße, 你好 🙂\n\ttab");
  EXPECT_EQ(markup_escaped(std::string_view("a\0b\x01\x7f", 5)), "a\ufffdb\ufffd\ufffd");
  EXPECT_EQ(markup_escaped("\xff\xc3(\xe2\x82"), "\ufffd\ufffd(\ufffd\ufffd") << "what is no UTF-8";
  EXPECT_EQ(markup_escaped("\xc0\xbcscript"), "\ufffd\ufffdscript") << "an overlong <";
  EXPECT_EQ(markup_escaped("\xed\xa0\x80"), "\ufffd\ufffd\ufffd") << "half of a surrogate pair";
  EXPECT_EQ(markup_escaped("a\u202eb\u2066c"), "a\ufffdb\ufffdc") << "what turns the direction";
}

Chart example(int steps) {
  RunHistory history(steps);
  history.evaluation(0, 4);
  for (int step = 1; step <= steps; step++) {
    const double loss = 4 * std::exp(-3.0 * step / steps) + 0.2 * std::sin(step);
    history.step({step, step == 17 ? kNone : loss, 0.5 + 0.1 * std::cos(step), 2e-4 * step / steps, 100, 40, 0.25});
    if (step % (steps / 4) == 0) history.evaluation(step, loss + 0.1);
  }
  return training_chart(history);
}

TEST(ChartSvg, IsWellFormedAndSmall) {
  for (const int steps : {1 << 2, 100, 30000})
    for (const double width : {360.0, 960.0}) {
      const std::string svg = chart_svg(example(steps), width);
      EXPECT_LT(svg.size(), 300000u) << steps;
      EXPECT_EQ(svg.find("nan"), std::string::npos);
      EXPECT_EQ(svg.find("inf"), std::string::npos);
      EXPECT_EQ(svg.find("http"), svg.find("http://www.w3.org/2000/svg")) << "no other address";
      EXPECT_EQ(svg.find("http", svg.find("http") + 1), std::string::npos);
      EXPECT_NE(svg.find(">validation</text>"), std::string::npos);
      EXPECT_NE(svg.find("Learning rate"), std::string::npos);
      EXPECT_EQ(std::count(svg.begin(), svg.end(), '<'), std::count(svg.begin(), svg.end(), '>'));
    }
  Chart hostile = example(8);
  hostile.title = "</title><script>alert(1)</script>";
  hostile.panels[0].title = hostile.panels[0].curves[0].name = hostile.x_name = "\"><img src=x onerror=alert(1)>";
  const std::string svg = chart_svg(hostile, 500);
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  EXPECT_EQ(svg.find("<img"), std::string::npos);
}

size_t columns_of(const std::string& line) {
  return size_t(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

TEST(ChartText, FitsItsColumns) {
  for (const size_t columns : {30u, 40u, 41u, 80u, 200u, 1000u})
    for (const int steps : {4, 100, 30000})
      for (const bool unicode : {false, true}) {
        const std::string text = chart_text(example(steps), {.columns = columns, .unicode = unicode});
        std::istringstream lines(text);
        std::string line;
        size_t n = 0, widest = 0;
        for (; std::getline(lines, line); n++) {
          EXPECT_LT(columns_of(line), columns) << line;
          widest = std::max(widest, columns_of(line));
          const bool ascii = std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c < 0x7f; });
          EXPECT_TRUE(unicode || ascii) << line;
        }
        EXPECT_EQ(widest, columns - 1);
        EXPECT_EQ(n, 10u + 4 + 2 + 2) << "two panels with their titles, and the steps";
      }
  EXPECT_EQ(chart_text(example(8), {.columns = 29}), "");
  EXPECT_EQ(chart_text({}, {.columns = 80}), "");
  EXPECT_EQ(chart_text(training_chart(RunHistory(10)), {.columns = 80}), "") << "no step yet";
}

TEST(ChartText, DrawsWhatItIsGiven) {
  Chart chart{.title = "",
              .x_name = "x",
              .panels = {{.title = "y", .curves = {{"", CurveStyle::kStrong, 0, {{0, 0}, {10, 10}}}}, .rows = 5}}};
  EXPECT_EQ(chart_text(chart, {.columns = 31}),
            "y\n"
            "     10 |                  ***\n"
            "        |             *****\n"
            "      5 |        *****\n"
            "        |   *****\n"
            "      0 |***\n"
            "        ++-------------------+\n"
            "         0                  10\n");
}

TEST(ChartText, ColoursOnlyWhereAskedFor) {
  EXPECT_EQ(chart_text(example(50), {.columns = 80, .unicode = true}).find('\x1b'), std::string::npos);
  const std::string text = chart_text(example(50), {.columns = 80, .unicode = true, .colour = true});
  EXPECT_NE(text.find("\x1b[34m"), std::string::npos);
  size_t begun = 0, ended = 0;
  for (size_t at = text.find("\x1b["); at != std::string::npos; at = text.find("\x1b[", at + 1))
    text.substr(at, 4) == "\x1b[0m" ? ended++ : begun++;
  EXPECT_GE(begun, ended);
  EXPECT_GT(ended, 0u);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t last = line.rfind('\x1b');
    EXPECT_TRUE(last == std::string::npos || line.substr(last, 4) == "\x1b[0m") << "no line leaves a colour on";
  }
}

// Two losses that are equal but for their last bits: between them no ticks can be told apart.
TEST(Chart, AnAxisOverAlmostNothing) {
  const double loss = 4.6346;
  for (const double high : {std::nextafter(loss, 5), loss * (1 + 1e-12)}) {
    const Axis axis = axis_over(loss, high, 5);
    EXPECT_GE(axis.ticks.size(), 2u);
    EXPECT_LE(axis.ticks.size(), 5u);
    EXPECT_LT(axis.low, loss);
  }
}

}  // namespace
}  // namespace tll
