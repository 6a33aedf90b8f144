#include "dev/ptx_sim/device_memory.h"

#include <map>

#include "dev/ptx_sim/ptx_sim.h"

namespace ptx {
namespace {

std::map<uint64_t, uint64_t>& ranges() {                 // begin and end
  static auto& all = *new std::map<uint64_t, uint64_t>;  // lives until the program has ended
  return all;
}

}  // namespace

Range range_of(uint64_t address) {
  auto after = ranges().upper_bound(address);
  if (after == ranges().begin()) return {};
  --after;
  return address < after->second ? Range{after->first, after->second} : Range{};
}

void add_memory(const void* base, size_t bytes) {
  const auto begin = reinterpret_cast<uint64_t>(base);
  if (bytes) ranges()[begin] = begin + bytes;
}
void remove_memory(const void* base, size_t bytes) {
  const auto begin = reinterpret_cast<uint64_t>(base);
  ranges().erase(ranges().lower_bound(begin), ranges().lower_bound(begin + bytes));
}

}  // namespace ptx
