// Which device --device means on machines whose GPU cannot be used.
#include <gtest/gtest.h>

#include "kernels/cuda_device.h"
#include "src/options/resolve.h"
#include "tests/emulated_gpu.h"
#include "tests/refusal.h"
#include "tests/words.h"

namespace tll {
namespace {

Options parse(const std::string& line) { return parse_options(words(line)); }

// The emulator as another machine.
struct DeviceChoice : EmulatedGpu<testing::Test> {
  // What --device auto says on standard error; it takes the CPU.
  static std::string note_of_auto(const std::string& more = "") {
    Options options = parse("train --data x" + more);
    testing::internal::CaptureStderr();
    resolve_options(options);
    EXPECT_EQ(options.device, DeviceOption::kCpu);
    return testing::internal::GetCapturedStderr();
  }
  static std::string refusal_of_cuda() {
    Options options = parse("train --data x --device cuda");
    return refusal_of([&] { resolve_options(options); }, kExitUsage);
  }
};

TEST_F(DeviceChoice, AGpuThatCanBeUsed) {
  EXPECT_EQ(cuda_missing(), "");
  Options options = parse("train --data x --device cuda");
  resolve_options(options);
  EXPECT_EQ(options.device, DeviceOption::kCuda);
  EXPECT_EQ(note_of_auto(), "") << "the emulator is taken only where it is asked for";
}

TEST_F(DeviceChoice, NoCodeForTheGpu) {
  emulator::options().arch = 700;
  const std::string reason =
      "this program has no code for the GPU, whose compute capability is 7.0: it was compiled for 7.5, 8.0, ";
  EXPECT_EQ(cuda_device_count(), 0);
  EXPECT_TRUE(says(refusal_of_cuda(), reason));
  EXPECT_TRUE(says(note_of_auto(), "note: " + reason));
  EXPECT_EQ(note_of_auto(" --quiet"), "");
}

TEST_F(DeviceChoice, ADriverThatIsTooOld) {
  emulator::options().driver = 12020;
  const char* reason =
      "the NVIDIA driver serves CUDA 12.2 and older, and this program was built with CUDA 13.0: update the driver";
  EXPECT_TRUE(says(refusal_of_cuda(), reason));
  EXPECT_TRUE(says(note_of_auto(), reason));
}

TEST_F(DeviceChoice, NoDriver) {
  emulator::options().driver = 0;
  EXPECT_EQ(refusal_of_cuda(), "--device cuda: there is no NVIDIA driver; --device cpu runs without a GPU");
  EXPECT_EQ(note_of_auto(), "");
  Options plan = parse("plan --device cuda --memory 16GiB");
  resolve_options(plan);
  EXPECT_EQ(plan.device, DeviceOption::kCuda) << "a plan needs no GPU";
}

}  // namespace
}  // namespace tll
