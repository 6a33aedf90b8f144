#include "src/model/plan_picture.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <tuple>

#include "src/base/units.h"
#include "src/model/plan.h"

namespace tll {
namespace {

// In pixels. A letter is about kLetter wide at this size.
constexpr double kLeft = 84, kRight = 24, kTop = 118, kColumn = 68, kHeight = 600, kBottom = 64;
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

size_t letters_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// The layer of "layers.12.qkv"; -1: none.
int layer_of(const std::string& name) {
  const std::string_view prefix = "layers.";
  return name.starts_with(prefix) ? std::atoi(name.c_str() + prefix.size()) : -1;
}

// Neighbours in memory of one life and category.
struct Box {
  Life life;
  Category category;
  int64_t offset, bytes = 0;
  bool alone = false;                         // a tensor large enough to have a box of its own
  int first_layer = -1, last_layer = -1;      // of what belongs to layers
  std::map<std::string, int64_t> kinds = {};  // bytes of each: "gate_up", "embed"

  void add(const TensorRecord& t) {
    bytes += t.bytes;
    if (is_alignment(t)) return;
    const int layer = layer_of(t.name);
    if (layer >= 0) last_layer = layer, first_layer = first_layer < 0 ? layer : first_layer;
    kinds[layer >= 0 ? t.name.substr(t.name.find('.', std::string_view("layers.").size()) + 1) : group_of(t.name)] += t.bytes;
  }
  // "layers 0–3: gate_up, down, …", the largest first, in so many letters; empty if not even the first fits.
  std::string name(size_t letters) const {
    std::vector<std::pair<std::string, int64_t>> all(kinds.begin(), kinds.end());
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    std::string text;
    if (first_layer >= 0)
      text = first_layer == last_layer ? fmt::format("layer {}: ", first_layer)
                                       : fmt::format("layers {}–{}: ", first_layer, last_layer);
    for (size_t i = 0; i < all.size(); i++) {
      std::string kind = all[i].first;
      const size_t more = i + 1 == all.size() ? 0 : 3;
      if (i == 0 && letters_of(text + kind) + more > letters) kind = kind.substr(kind.rfind('.') + 1);
      if (letters_of(text + kind) + (i ? 2 : 0) + more > letters) return i ? text + ", …" : "";
      text += (i ? ", " : "") + kind;
    }
    return text;
  }
};

// Tensors of fewer than `least` bytes stand together, up to eight times that, but for those of one layer.
std::vector<Box> boxes(const Arena& arena, int64_t least) {
  std::vector<const TensorRecord*> tensors;
  for (const TensorRecord& t : arena.tensors())
    if (t.bytes > 0) tensors.push_back(&t);
  const auto place = [](const TensorRecord& t) { return std::tuple(t.life.first, t.life.last, t.offset); };
  std::stable_sort(tensors.begin(), tensors.end(),
                   [&](const TensorRecord* a, const TensorRecord* b) { return place(*a) < place(*b); });
  std::vector<Box> all;
  for (const TensorRecord* t : tensors) {
    const bool follows = !all.empty() && all.back().life == t->life && all.back().offset + all.back().bytes == t->offset;
    const bool small = t->bytes < least;
    const auto joins = [&](const Box& box) {
      if (is_alignment(*t)) return true;
      const bool full = box.bytes > 8 * least && layer_of(t->name) != box.last_layer;
      return small && !box.alone && !full && box.category == t->category;
    };
    if (!follows || !joins(all.back())) all.push_back({t->life, t->category, t->offset, 0, !small});
    all.back().add(*t);
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
  std::string names;  // drawn last
  const auto text_into = [](std::string& to, double x, double y, const std::string& content, const std::string& more) {
    to += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"#1f2328\"{}>{}</text>\n", x, y, more, escaped(content));
  };
  const auto text = [&](double x, double y, const std::string& content, const std::string& more = "") {
    text_into(svg, x, y, content, more);
  };

  // The title, broken at a word that fits; the legend with the bytes at the peak.
  const size_t letters = static_cast<size_t>((width - 40) / 8.7);
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
  const auto tick = [&](int64_t bytes) {
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#d0d7de\"/>\n", kLeft, y_of(bytes),
                       width - kRight, y_of(bytes));
    text(kLeft - 8, y_of(bytes) + 4, bytes == 0 ? "0" : fmt::format("{}", Bytes{bytes}), " text-anchor=\"end\"");
  };
  const int64_t step = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(arena.total() / 8 + 1)));
  for (int64_t bytes = 0; bytes + step / 4 < arena.total(); bytes += step) tick(bytes);
  tick(arena.total());
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
    const std::string name = box.name(room), with_bytes = name + " · " + bytes;
    const bool one_line = letters_of(with_bytes) <= room, two_lines = !one_line && tall > 2 * kNamed;
    const double baseline = top + tall / 2 + 4 - (two_lines ? kNamed / 2 : 0);
    const char* halo = " stroke=\"#ffffff\" stroke-opacity=\"0.7\" stroke-width=\"2.5\" paint-order=\"stroke\"";
    if (!name.empty()) text_into(names, left + 5, baseline, one_line ? with_bytes : name, halo);
    if (two_lines) text_into(names, left + 5, baseline + kNamed, bytes, halo);
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
  return svg + names + "</svg>\n";
}

}  // namespace tll
