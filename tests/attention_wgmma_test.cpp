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
    std::string problem, kernels;  // why wgmma is not used; what forward and backward of head size 64 launch
  };
  template <class Float>
  static Opened open() {
    Device device = open_cuda_device();
    Opened opened{cuda_properties(device).no_wgmma, ""};
    emulator::options().instead_of_running = [&](const emulator::LaunchShape& shape) {
      const size_t end = shape.kernel.find('<'), begin = shape.kernel.rfind(':', end) + 1;
      opened.kernels += shape.kernel.substr(begin, end - begin) + " ";
    };
    AttentionForward<Float> forward{};
    AttentionBackward<Float> backward{};
    forward.sizes = {.docs = 1, .N = 100, .H = 2, .G = 1, .D = 64, .stride = 256, .qk_stride = 256};
    backward.sizes = forward.sizes;
    forward.cuda(device);
    backward.cuda(device);
    emulator::options().instead_of_running = nullptr;
    close_cuda_device(device);
    return opened;
  }
  static constexpr const char* kOthers = "attention_forward_kernel delta_kernel keys_kernel queries_kernel ";
};

TEST_F(Wgmma, RunsOnThatArchitectureAlone) {
  const Opened bf16s = open<bf16>(), halves = open<half>(), floats = open<float>();
  EXPECT_EQ(bf16s.problem, "");
  EXPECT_EQ(bf16s.kernels, "attention_wgmma_kernel delta_kernel keys_wgmma_kernel queries_wgmma_kernel ");
  EXPECT_EQ(halves.kernels, bf16s.kernels);
  EXPECT_EQ(floats.kernels, kOthers);
  for (const int arch : {800, 890, 1000, 1200}) {
    emulator::options().arch = arch;
    const Opened other = open<bf16>();
    EXPECT_EQ(other.problem, "");
    EXPECT_EQ(other.kernels, kOthers) << arch;
  }
}

TEST_F(Wgmma, WhereItDiffersTheOtherKernelsRun) {
  emulator::options().wrong_wgmma = true;
  const Opened opened = open<bf16>();
  EXPECT_EQ(opened.problem, "the kernels with wgmma and those with mma differ at head size 64");
  EXPECT_EQ(opened.kernels, kOthers);
  EXPECT_EQ(cuda_faults({}), "");
}

TEST_F(Wgmma, WhereItDoesNotLaunchTheOtherKernelsRun) {
  emulator::options().registers["attention_wgmma_kernel<half,128>"] = 300;
  emulator::options().print = false;
  const Opened opened = open<bf16>();
  EXPECT_TRUE(says(opened.problem, "too many resources requested for launch")) << opened.problem;
  EXPECT_EQ(opened.kernels, kOthers);
  EXPECT_TRUE(says(cuda_faults({}), "300 registers"));
}

// Of a kernel that faults nothing saves the process; the message says what does without it.
TEST_F(Wgmma, AFaultInTheCheckEndsTheRun) {
  emulator::options().failing_launch = 5;  // the first with wgmma
  const std::string text = refusal_of([] { open_cuda_device(); }, kExitFault);
  EXPECT_TRUE(says(text, "in the check of the kernels with wgmma; a build with CUDA_ARCH=80 does without them")) << text;
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
