#include "data/held_out.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tll {
namespace {

// The distinct keys of one kind, a range of their values after another.
class DistinctKeys {
 public:
  DistinctKeys(bool subgroups, uint64_t samples, const ForEachKeys& for_each, uint64_t most)
      : subgroups_(subgroups), for_each_(for_each), ranges_(1 + samples / most) {
    width_ = ranges_ == 1 ? 0 : UINT64_MAX / ranges_ + 1;
    for (uint64_t r = 0; r < ranges_; ++r) counts_.push_back(of_range(r).size());
  }

  uint64_t count() const {
    uint64_t sum = 0;
    for (const uint64_t c : counts_) sum += c;
    return sum;
  }

  // The key with so many keys below it.
  uint64_t at(uint64_t index) const {
    uint64_t range = 0;
    while (index >= counts_[range]) index -= counts_[range++];
    return of_range(range)[index];
  }

 private:
  std::vector<uint64_t> of_range(uint64_t range) const {
    std::vector<uint64_t> keys;
    for_each_([&](const GroupKeys& k) {
      const uint64_t key = subgroups_ ? k.subgroup : k.group;
      if (width_ && key / width_ != range) return;
      if (keys.empty() || keys.back() != key) keys.push_back(key);
    });
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
  }

  bool subgroups_;
  const ForEachKeys& for_each_;
  uint64_t ranges_, width_;
  std::vector<uint64_t> counts_;  // of each range
};

}  // namespace

HeldOut choose_held_out(double share, uint64_t samples, const ForEachKeys& for_each, uint64_t most) {
  if (share <= 0) return {};
  for (const bool subgroups : {false, true}) {
    const DistinctKeys keys(subgroups, samples, for_each, most);
    const uint64_t count = keys.count();
    const auto wanted = uint64_t(std::llround(share * double(count)));
    if (count < 2 || (!subgroups && wanted < 1)) continue;
    return {subgroups, keys.at(std::clamp<uint64_t>(wanted, 1, count - 1))};
  }
  return {};
}

}  // namespace tll
