#include "src/options/nearest.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/spelling.h"

namespace tll {
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
