// Which groups of samples are held out for validation, found in bounded memory.
#pragma once

#include <cstdint>
#include <functional>

namespace tll {

// Keys of a sample (Sample::group and ::subgroup).
struct GroupKeys {
  uint64_t group = 0, subgroup = 0;
};

// What is held out: the samples whose key is below a bound.
struct HeldOut {
  bool subgroups = false;  // the key is that of the subgroup
  uint64_t below = 0;
  bool contains(const GroupKeys& keys) const { return (subgroups ? keys.subgroup : keys.group) < below; }
};

// Walks over the keys of all samples; called several times.
using ForEachKeys = std::function<void(const std::function<void(const GroupKeys&)>&)>;

// Holds out a share of the groups, those with the smallest keys. If the share is less than half a group, subgroups are held out
// instead. If there is only one of those, nothing is. `most` keys are in memory at once.
HeldOut choose_held_out(double share, uint64_t samples, const ForEachKeys& for_each, uint64_t most = uint64_t{1} << 23);

}  // namespace tll
