// How many rows are split into chunks of nearly equal size: one small chunk at the end would cost nearly as much time as a large
// one.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tll {

// As few chunks as have at most `most` rows each. Chunks begin at multiples of `unit`, and differ in size by at most two units.
// `most` must be a multiple of `unit` where it is less than the count.
struct RowChunks {
  int most = 1, unit = 1;
  int number(int count) const { return (count + most - 1) / most; }
  // Where chunk i of number(count) begins; i = number(count): the count.
  int begin(int count, int i) const {
    const int64_t equal = int64_t{count} * i / std::max(number(count), 1);
    return static_cast<int>(std::min<int64_t>((equal + unit - 1) / unit * unit, count));
  }
};

}  // namespace tll
