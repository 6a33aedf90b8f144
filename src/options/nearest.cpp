#include "src/options/nearest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace tll {
namespace {

// How many letters must be put in, taken out, replaced, or swapped with the next, to turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string lower_case(std::string_view ascii) {
  std::string text(ascii);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::string_view nearest(std::string_view typed, const std::vector<std::string_view>& words) {
  constexpr size_t kLongest = 64;  // no word is longer
  if (typed.size() > kLongest) return {};
  const std::string wanted = lower_case(typed);
  std::string_view best;
  size_t best_distance = std::min(std::max<size_t>(1, wanted.size() / 3) + 1, wanted.size());  // something must be alike
  for (std::string_view word : words) {
    const size_t distance = edit_distance(wanted, lower_case(word));
    if (distance < best_distance) best = word, best_distance = distance;
  }
  if (!best.empty() || wanted.size() < 3) return best;
  for (std::string_view word : words) {
    if (!lower_case(word).starts_with(wanted)) continue;
    if (!best.empty()) return {};
    best = word;
  }
  return best;
}

std::string did_you_mean(std::string_view guess) { return guess.empty() ? "" : fmt::format("; did you mean {}?", guess); }

}  // namespace tll
