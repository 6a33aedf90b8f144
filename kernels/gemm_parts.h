// How the GEMMs of a CPU are cut into parts.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

namespace tll {
namespace {

// The pieces that threads take are of so many groups of column panels and parts of the rows: a whole number of pieces for each
// thread where that is possible, two at least. Few parts, since each packs its part of B.
struct Sharing {
  int groups, row_parts;
};
inline Sharing share_out(int panels, int most_panels, int most_row_parts, int threads) {
  const int least = std::max((panels + most_panels - 1) / most_panels, 2 * threads);
  const int groups = std::min(panels, (least + threads - 1) / threads * threads);
  return {groups, std::clamp(2 * threads / groups, 1, most_row_parts)};
}

// body(first row, std::integral_constant<int, rows>) for parts of up to kMost rows, as equal as they can be: few rows have too
// few sums to hide the latency of an instruction.
template <int kMost, class Body>
inline void equal_parts(int rows, const Body& body) {
  const int parts = (rows + kMost - 1) / kMost;
  for (int part = 0; part < parts; part++) {
    const int first = rows * part / parts, n = rows * (part + 1) / parts - first;
    const auto pick = [&]<int... kLess>(std::integer_sequence<int, kLess...>) {
      ((n == kLess + 1 ? body(first, std::integral_constant<int, kLess + 1>()) : void()), ...);
    };
    pick(std::make_integer_sequence<int, kMost>());
  }
}

}  // namespace
}  // namespace tll
