// The memory that kernels may access, as ranges. It does not change while a kernel runs.
#pragma once

#include <cstdint>

namespace ptx {

struct Range {
  uint64_t begin = 0, end = 0;
  bool holds(uint64_t address, uint64_t bytes) const { return address >= begin && address < end && bytes <= end - address; }
};
Range range_of(uint64_t address);  // empty: in none

}  // namespace ptx
