#include "kernels/update.h"

namespace tll {

template <Isa>
void UpdateDecision::cpu() const {
  decide();
}

template void UpdateDecision::cpu<kIsa>() const;

}  // namespace tll
