#include "src/base/spelling.h"

#include <algorithm>
#include <vector>

namespace tll {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before, last, now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) now[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    before = std::move(last), last = std::move(now), now.assign(b.size() + 1, i);
    for (size_t j = 1; j <= b.size(); j++) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
  }
  return now.back();
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

}  // namespace tll
