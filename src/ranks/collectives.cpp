#include "src/ranks/collectives.h"

#include <algorithm>
#include <vector>

#include "src/base/process.h"

namespace tll {

void agree_to_stop(Collectives& collectives) {
  std::vector<char> signalled(static_cast<size_t>(collectives.size()));
  signalled[static_cast<size_t>(collectives.rank())] = stop_signalled();
  collectives.all_gather_host(signalled.data(), 1);
  agree_to_stop(std::count(signalled.begin(), signalled.end(), 1) > 0);
}

}  // namespace tll
