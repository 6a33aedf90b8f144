#include "src/model/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "src/base/units.h"

namespace tll {

std::string group_of(const std::string& name) {
  std::string group;
  for (size_t i = 0; i < name.size(); i++) {
    const bool starts_number = std::isdigit(static_cast<unsigned char>(name[i])) && i > 0 && name[i - 1] == '.';
    if (!starts_number) {
      group += name[i];
      continue;
    }
    group += '*';
    while (i + 1 < name.size() && std::isdigit(static_cast<unsigned char>(name[i + 1]))) i++;
  }
  return group;
}

namespace {

struct Group {
  std::string name, shape, dtype;
  Category category;
  Life life;
  int64_t count = 0, bytes = 0;
};

std::string life_text(const Life& life) {
  if (life == kAlways) return "always";
  if (life.first == life.last) return phase_name(life.first);
  return fmt::format("{} - {}", phase_name(life.first), phase_name(life.last));
}

std::vector<Group> groups_of(const Arena& arena) {
  std::vector<Group> groups;
  for (const TensorRecord& t : arena.tensors()) {
    const std::string name = group_of(t.name);
    auto same = std::find_if(groups.begin(), groups.end(),
                             [&](const Group& g) { return g.name == name && g.category == t.category && g.life == t.life; });
    if (same == groups.end()) {
      groups.push_back({name, fmt::format("({})", fmt::join(t.shape, ", ")), dtype_name(t.dtype), t.category, t.life});
      same = groups.end() - 1;
    }
    same->count++, same->bytes += t.bytes;
    if (is_alignment(t)) same->shape = "";
  }
  return groups;
}

}  // namespace

std::vector<std::string> largest_groups(const Arena& arena, size_t count) {
  std::vector<Group> groups = groups_of(arena);
  std::erase_if(groups, [&](const Group& g) { return !g.life.holds(arena.peak()); });
  std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.bytes > b.bytes; });
  groups.resize(std::min(groups.size(), count));
  std::vector<std::string> lines;
  for (const Group& g : groups)
    lines.push_back(fmt::format("{:>9} {:>3.0f} %  {} ({})", fmt::format("{}", Bytes{g.bytes}),
                                100.0 * static_cast<double>(g.bytes) / static_cast<double>(std::max<int64_t>(arena.total(), 1)),
                                g.name, category_name(g.category)));
  return lines;
}

std::string plan_table(const Arena& arena) {
  const std::vector<Group> groups = groups_of(arena);
  std::string text = fmt::format("{:<12} {:<24} {:>5}  {:<18} {:<7} {:>10}  {}\n", "category", "tensors", "count", "shape of one",
                                 "type", "bytes", "lives in");
  for (int c = 0; c < kCategories; c++)
    for (const Group& g : groups)
      if (g.category == static_cast<Category>(c))
        text += fmt::format("{:<12} {:<24} {:>5}  {:<18} {:<7} {:>10}  {}\n", category_name(g.category), g.name, g.count, g.shape,
                            g.dtype, fmt::format("{}", Bytes{g.bytes}), life_text(g.life));
  text += "\n";
  const auto sums = arena.bytes_by_category();
  for (int c = 0; c < kCategories; c++) {
    const int64_t bytes = sums[static_cast<size_t>(c)];
    text += fmt::format("{:<12} {:>15} bytes {:>10} {:>6.1f} %\n", category_name(static_cast<Category>(c)),
                        fmt::format("{}", Count{bytes}), fmt::format("{}", Bytes{bytes}),
                        100.0 * static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(arena.total(), 1)));
  }
  return text + fmt::format("{:<12} {:>15} bytes {:>10}\n", "total", fmt::format("{}", Count{arena.total()}),
                            fmt::format("{}", Bytes{arena.total()}));
}

std::string plan_line(const Arena& arena) {
  const auto sums = arena.bytes_by_category();
  std::string text;
  for (int c = 0; c < kCategories; c++)
    text += fmt::format("{} {} + ", category_name(static_cast<Category>(c)), Bytes{sums[static_cast<size_t>(c)]});
  text.resize(text.size() - 3);
  return text + fmt::format(" = {} ({} bytes)", Bytes{arena.total()}, Count{arena.total()});
}

}  // namespace tll
