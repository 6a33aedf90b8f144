// Which kernels attention runs on sm_90, and what the check at start finds.
#include "kernels/attention_wgmma.h"

#include "kernels/cuda_device.h"
#include "tests/emulated_gpu.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

struct Wgmma : EmulatedGpu<Run> {
  void SetUp() override {
    EmulatedGpu::SetUp();
    if (!IsSkipped()) emulator::options().arch = 900;
  }
  struct Opened {
    std::string problem, kernel;  // why wgmma is not used; what forward of head size 64 launches
  };
  template <class Float>
  static Opened open() {
    Device device = open_cuda_device();
    Opened opened{cuda_properties(device).no_wgmma, ""};
    emulator::options().instead_of_running = [&](const emulator::LaunchShape& shape) { opened.kernel = shape.kernel; };
    AttentionForward<Float> op{};
    op.sizes = {.docs = 1, .N = 100, .H = 2, .G = 1, .D = 64, .stride = 256, .qk_stride = 256};
    op.cuda(device);
    emulator::options().instead_of_running = nullptr;
    close_cuda_device(device);
    return opened;
  }
};

TEST_F(Wgmma, RunsOnThatArchitectureAlone) {
  const Opened bf16s = open<bf16>(), halves = open<half>(), floats = open<float>();
  EXPECT_EQ(bf16s.problem, "");
  EXPECT_TRUE(says(bf16s.kernel, "attention_wgmma_kernel")) << bf16s.kernel;
  EXPECT_TRUE(says(halves.kernel, "attention_wgmma_kernel")) << halves.kernel;
  EXPECT_TRUE(says(floats.kernel, "attention_forward_kernel")) << floats.kernel;
  for (const int arch : {800, 890, 1000, 1200}) {
    emulator::options().arch = arch;
    const Opened other = open<bf16>();
    EXPECT_EQ(other.problem, "");
    EXPECT_TRUE(says(other.kernel, "attention_forward_kernel")) << arch << other.kernel;
  }
}

TEST_F(Wgmma, WhereItDiffersTheOtherKernelsRun) {
  emulator::options().wrong_wgmma = true;
  const Opened opened = open<bf16>();
  EXPECT_EQ(opened.problem, "the kernels with wgmma and those with mma differ at head size 64");
  EXPECT_TRUE(says(opened.kernel, "attention_forward_kernel")) << opened.kernel;
  EXPECT_EQ(cuda_faults({}), "");
}

TEST_F(Wgmma, WhereItDoesNotLaunchTheOtherKernelsRun) {
  emulator::options().registers["attention_wgmma_kernel<half,128>"] = 300;
  emulator::options().print = false;
  const Opened opened = open<bf16>();
  EXPECT_TRUE(says(opened.problem, "too many resources requested for launch")) << opened.problem;
  EXPECT_TRUE(says(opened.kernel, "attention_forward_kernel")) << opened.kernel;
  EXPECT_TRUE(says(cuda_faults({}), "300 registers"));
}

TEST_F(Wgmma, ARunSaysSoOnceAndGoesOn) {
  const auto run = [&](const std::string& output, bool wrong) {
    emulator::options().wrong_wgmma = wrong;
    Options options = parse(output, "--device cuda --dtype bf16 --max-steps 2 --eval-samples 0");
    options.quiet = false;
    testing::internal::CaptureStderr();
    train<bf16>(options);
    return testing::internal::GetCapturedStderr();
  };
  const std::string note = "note: attention runs in the kernels of older GPUs, which are slower: ";
  EXPECT_FALSE(says(run("right", false), note));
  const std::string text = run("wrong", true);
  ASSERT_TRUE(says(text, note)) << text;
  EXPECT_EQ(text.find(note), text.rfind(note)) << "twice: " << text;
  emulator::options().arch = 800;
  EXPECT_FALSE(says(run("older", false), note));
  EXPECT_EQ(bytes("wrong", "adapter_model.safetensors"), bytes("older", "adapter_model.safetensors"));
}

}  // namespace
}  // namespace tll
