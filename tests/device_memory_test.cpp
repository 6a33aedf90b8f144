// Devices and their memory beyond what ops need of them.
#include "src/model/device_memory.h"

#include <gtest/gtest.h>

namespace tll {
namespace {

// Destructors close these while the error of a fault unwinds, after which each of the calls fails.
TEST(DeviceMemory, ClosingIgnoresErrors) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  OpenDevice device;
  device.open();
  int nowhere = 0;
  EXPECT_NO_THROW(cuda_free(device, &nowhere));
  EXPECT_NO_THROW(cuda_free_host(device, &nowhere));
  EXPECT_NO_THROW(cuda_close_event(device, nullptr));
  EXPECT_NO_THROW(cuda_close_graph(device, nullptr));
  Device broken{.kind = DeviceKind::cuda};
  EXPECT_NO_THROW(close_cuda_device(broken));
  cuda_faults(device);  // of the emulator: these calls
  // Nor does one of these errors count as the next call's.
  auto* memory = static_cast<float*>(cuda_allocate(device, sizeof(float)));
  set_zero(device, memory, sizeof(float));
  EXPECT_EQ(HostCopy(device, memory, 1)[0], 0);
  cuda_free(device, memory);
}

}  // namespace
}  // namespace tll
