#include "src/model/plan_picture.h"

#include <algorithm>
#include <map>

#include "src/base/units.h"
#include "src/model/plan.h"

namespace tll {
namespace {

// In pixels. A letter is about kLetter wide at this size.
constexpr double kLeft = 84, kRight = 24, kTop = 118, kColumn = 72, kHeight = 600, kBottom = 64;
constexpr double kFont = 11, kLetter = 6.1, kNamed = 14;  // a box lower than kNamed has no room for a name
constexpr const char* kFills[] = {"#c9d8f7", "#ffd9bd", "#f6c3cd", "#c6e6d5", "#ddd3f0"};
constexpr const char* kStrokes[] = {"#4269d0", "#c8641b", "#c93f5f", "#2f8563", "#7a5bb0"};

std::string escaped(std::string_view text) {
  std::string plain = in_quotes(text, 1000), result;
  plain = plain.substr(1, plain.size() - 2);  // one line of UTF-8
  for (const char c : plain) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else
      result += c;
  }
  return result;
}

// Neighbours in memory of one life and category.
struct Box {
  Life life;
  Category category;
  int64_t offset, bytes;
  std::map<std::string, std::pair<int, int64_t>> groups;  // of each: tensors, bytes

  // "gate_up ×16, down ×16, …", the largest first, in so many letters.
  std::string name(size_t letters) const {
    std::vector<std::pair<std::string, std::pair<int, int64_t>>> all(groups.begin(), groups.end());
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second.second > b.second.second; });
    std::string text;
    for (size_t i = 0; i < all.size(); i++) {
      const auto& [group, sum] = all[i];
      std::string more = (i ? ", " : "") + group + (sum.first > 1 ? fmt::format(" ×{}", sum.first) : "");
      const bool last = i + 1 == all.size();
      if (text.size() + more.size() + (last ? 0 : 3) > letters) return i ? text + " …" : "";
      text += more;
    }
    return text;
  }
};

std::vector<Box> boxes(const Arena& arena, int64_t least) {
  std::vector<const TensorRecord*> tensors;
  for (const TensorRecord& t : arena.tensors())
    if (t.bytes > 0) tensors.push_back(&t);
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorRecord* a, const TensorRecord* b) {
    return std::pair(a->life.first, a->offset) < std::pair(b->life.first, b->offset);
  });
  std::vector<Box> all;
  for (const TensorRecord* t : tensors) {
    const bool gap = is_alignment(*t);
    const bool follows = !all.empty() && all.back().life == t->life && all.back().offset + all.back().bytes == t->offset;
    const bool small = t->bytes < least && follows && all.back().category == t->category && all.back().bytes < 8 * least;
    if (!(follows && (gap || small || (!all.empty() && all.back().groups.empty()))))
      all.push_back({t->life, t->category, t->offset, 0, {}});
    Box& box = all.back();
    box.bytes += t->bytes;
    if (gap) continue;
    auto& [count, bytes] = box.groups[group_of(t->name)];
    count++, bytes += t->bytes;
  }
  return all;
}

}  // namespace

std::string plan_picture(const Arena& arena, const std::string& title) {
  const double width = kLeft + kColumn * kStepPhases + kRight, height = kTop + kHeight + kBottom;
  const double total = static_cast<double>(std::max<int64_t>(arena.total(), 1));
  const auto x_of = [&](StepPhase p) { return kLeft + kColumn * static_cast<int>(p); };
  const auto y_of = [&](int64_t bytes) { return kTop + kHeight * (1 - static_cast<double>(bytes) / total); };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"'DejaVu Sans', Verdana, Arial, sans-serif\" font-size=\"{2}\">\n"
      "<title>{3}</title>\n<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
      width, height, kFont, escaped(title));
  const auto text = [&](double x, double y, const std::string& content, const std::string& more = "") {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"#1f2328\"{}>{}</text>\n", x, y, more, escaped(content));
  };

  // The title, broken at a word that fits; the legend with the bytes at the peak.
  const size_t letters = static_cast<size_t>((width - 40) / (kLetter + 1));
  const size_t cut = title.size() <= letters ? title.size() : std::min(title.size(), title.rfind(' ', letters));
  text(20, 28, title.substr(0, cut), " font-size=\"13\" font-weight=\"bold\"");
  if (cut < title.size()) text(20, 46, title.substr(cut + 1), " font-size=\"13\" font-weight=\"bold\"");
  const auto sums = arena.bytes_by_category();
  double x = 20;
  for (int c = 0; c < kCategories; c++) {
    const std::string label = fmt::format("{} {}", category_name(static_cast<Category>(c)), Bytes{sums[static_cast<size_t>(c)]});
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"60\" width=\"12\" height=\"12\" fill=\"{}\" stroke=\"{}\"/>\n", x, kFills[c],
                       kStrokes[c]);
    text(x + 18, 70, label);
    x += 40 + kLetter * static_cast<double>(label.size());
  }
  text(x, 70, "at the peak");

  // The axes: bytes on the left, phases below.
  for (int i = 0; i <= 8; i++) {
    const int64_t bytes = arena.total() / 8 * i;
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#d0d7de\"/>\n", kLeft, y_of(bytes),
                       width - kRight, y_of(bytes));
    text(kLeft - 8, y_of(bytes) + 4, i == 0 ? "0" : fmt::format("{}", Bytes{i == 8 ? arena.total() : bytes}),
         " text-anchor=\"end\"");
  }
  for (int p = 0; p < kStepPhases; p++) {
    const std::string name = phase_name(static_cast<StepPhase>(p));
    const size_t colon = name.find(": ");
    const double middle = x_of(static_cast<StepPhase>(p)) + kColumn / 2;
    text(middle, kTop + kHeight + 18, name.substr(0, colon), " text-anchor=\"middle\"");
    if (colon != std::string::npos) text(middle, kTop + kHeight + 32, name.substr(colon + 2), " text-anchor=\"middle\"");
  }

  for (const Box& box : boxes(arena, static_cast<int64_t>(kNamed / kHeight * total))) {
    const int c = static_cast<int>(box.category);
    const double left = x_of(box.life.first) + 1, right = x_of(box.life.last) + kColumn - 1;
    const double top = y_of(box.offset + box.bytes), tall = y_of(box.offset) - top;
    const std::string bytes = fmt::format("{}", Bytes{box.bytes});
    svg += fmt::format(
        "<g><title>{}: {}, {}</title><rect x=\"{:.1f}\" y=\"{:.2f}\" width=\"{:.1f}\" height=\"{:.2f}\" fill=\"{}\" "
        "stroke=\"{}\" stroke-width=\"{}\"/></g>\n",
        escaped(box.name(300)), bytes, category_name(box.category), left, top, right - left, tall, kFills[c], kStrokes[c],
        tall < 3 ? 0.2 : 0.7);
    if (tall < kNamed - 1) continue;
    const size_t room = static_cast<size_t>((right - left - 10) / kLetter);
    const std::string name = box.name(room);
    const std::string with_bytes = name + "  " + bytes;
    const double baseline = std::min(top + tall / 2 + 4, top + 200);
    if (!name.empty()) text(left + 5, baseline, with_bytes.size() <= room ? with_bytes : name);
    if (with_bytes.size() > room && tall > 2 * kNamed) text(left + 5, baseline + kNamed, bytes);
  }

  // The peak.
  const double peak = x_of(arena.peak());
  svg += fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"none\" stroke=\"#b3001b\" stroke-width=\"2\" "
      "stroke-dasharray=\"6 3\"/>\n",
      peak, kTop - 4, kColumn, kHeight + 4);
  const std::string label =
      fmt::format("peak: {}, {} ({} bytes)", phase_name(arena.peak()), Bytes{arena.total()}, Count{arena.total()});
  const double half = kLetter * static_cast<double>(label.size()) / 2;
  text(std::clamp(peak + kColumn / 2, kLeft + half, width - kRight - half), kTop - 12, label,
       " text-anchor=\"middle\" font-weight=\"bold\"");
  return svg + "</svg>\n";
}

}  // namespace tll
