// One thread. It runs on the device so that the host need not wait for the result.
#include "kernels/row_access.cuh"
#include "kernels/update.h"

namespace tll {
namespace {

__global__ void __launch_bounds__(32) update_decision_kernel(const __grid_constant__ UpdateDecision op) {
  if (threadIdx.x == 0) op.decide();
}

}  // namespace

void UpdateDecision::cuda(const Device& device) const {
  launch<update_decision_kernel>(dim3(1), 32, 0, stream_of(device), *this);
}

}  // namespace tll
