#include "src/report/profile.h"

#include <algorithm>
#include <vector>

namespace tll {

void print_profile(const Device& device, const Ceilings& ceilings) {
  if (!device.profile) return;
  std::vector<ProfileLine> lines;
  double total = 0;
  for (const ProfileLine& l : device.profile->lines)
    if (l.op) lines.push_back(l), total += l.seconds;
  // The least time that the ceilings allow, divided by the time taken.
  const auto share = [&](const ProfileLine& l) {
    const double arithmetic = ceilings.flops > 0 ? l.cost.flops / ceilings.flops : 0,
                 memory = ceilings.bytes > 0 ? l.cost.bytes / ceilings.bytes : 0;
    return std::max(arithmetic, memory) / l.seconds;
  };
  std::sort(lines.begin(), lines.end(), [](const ProfileLine& a, const ProfileLine& b) { return a.seconds > b.seconds; });
  fmt::print(stderr, "{:<20} {:>9} {:>9} {:>7} {:>8} {:>9} {:>8}\n", "op", "calls", "seconds", "share", "GB/s", "GFLOP/s",
             "of peak");
  for (const ProfileLine& l : lines) {
    const double rate = l.cost.flops / l.seconds;
    fmt::print(stderr, "{:<20} {:>9} {:>9.3f} {:>6.1f}% {:>8.1f} {:>9.1f} {:>7.1f}%\n", l.op, l.calls, l.seconds,
               100 * l.seconds / total, l.cost.bytes / l.seconds / 1e9, rate / 1e9, 100 * share(l));
  }
  fmt::print(stderr, "{:<20} {:>9} {:>9.3f}   ceilings: a product of this type at {:.1f} GFLOP/s, a copy at {:.1f} GB/s\n",
             "all ops", "", total, ceilings.flops / 1e9, ceilings.bytes / 1e9);
}

}  // namespace tll
