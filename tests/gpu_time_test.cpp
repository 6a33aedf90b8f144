// The model of the time that ops take on a GPU: the blocks on the SMs, what is launched, the sum over a step.
#include "kernels/gpu_time.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "kernels/cuda_device.h"
#include "kernels/elementwise.h"
#include "kernels/swiglu.h"
#include "src/commands/planner.h"
#include "src/report/known_gpus.h"
#include "tests/emulated_gpu.h"
#include "tests/words.h"

namespace tll::test {
namespace {

// ---- the SMs ------------------------------------------------------------------------------------------------------------------

const BlockClocks kAlone{{0}, {10}};  // one block an SM, 10 clocks a turn

TEST(Schedule, BlocksGoToWhicheverSmIsFree) {
  // Two SMs. 4 → until 40; 3 → until 30, and there 2 → until 50; at 40 the first is free for 1 → until 50.
  EXPECT_DOUBLE_EQ(schedule(2, kAlone, {4, 3, 2, 1}), 50);
  // The lightest first: 1 → 10, 2 → 20; 3 begins at 10 → 40, 4 at 20 → 60.
  EXPECT_DOUBLE_EQ(schedule(2, kAlone, {1, 2, 3, 4}), 60);
  EXPECT_DOUBLE_EQ(schedule(4, kAlone, {1, 2, 3, 4}), 40) << "an SM for each";
  EXPECT_DOUBLE_EQ(schedule(2, kAlone, {}), 0);
  EXPECT_DOUBLE_EQ(schedule(1, {{7}, {10}}, {1, 2}), 44) << "each block has a prologue";
}

TEST(Schedule, BlocksOfAnSmShareIt) {
  // A turn takes 10 clocks alone, 16 beside another. Both go until 16, when the shorter ends; the other's second turn is alone.
  const BlockClocks two{{0, 0}, {10, 16}};
  EXPECT_DOUBLE_EQ(schedule(1, two, {2, 1}), 26);
  // A third takes the place of the shorter one at 16, so both go on beside another until 32.
  EXPECT_DOUBLE_EQ(schedule(1, two, {2, 1, 1}), 32);
  // The first two go to different SMs: two that lie alone.
  EXPECT_DOUBLE_EQ(schedule(2, two, {2, 1}), 20);
  // The third goes to the first SM. From 0 to 16 it and the 2 share; then the 2 has a turn left, alone.
  EXPECT_DOUBLE_EQ(schedule(2, two, {2, 2, 1}), 26);
}

TEST(Schedule, EqualBlocksGoInWaves) {
  EXPECT_DOUBLE_EQ(schedule_equal(2, kAlone, 4, 3), 60);
  EXPECT_DOUBLE_EQ(schedule_equal(2, kAlone, 5, 3), 90) << "one block more is a whole wave";
  EXPECT_DOUBLE_EQ(schedule_equal(2, kAlone, 6, 3), 90);
  const BlockClocks two{{5, 7}, {10, 16}};
  // Six blocks: four in the first wave, 7 + 2 · 16; then one on each SM, 5 + 2 · 10.
  EXPECT_DOUBLE_EQ(schedule_equal(2, two, 6, 2), 39 + 25);
  for (int blocks = 1; blocks <= 32; blocks++)  // of more not all are followed on one SM
    for (int sms : {1, 2, 3, 7})
      EXPECT_NEAR(schedule(sms, two, std::vector<int>(static_cast<size_t>(blocks), 3)), schedule_equal(sms, two, blocks, 3), 1e-6)
          << blocks << " on " << sms;
}

// What greedy assignment promises, for blocks that do not share: no less than the work over all SMs or the longest block, and no
// more than both together (Graham 1966); more SMs are never slower.
TEST(Schedule, HasTheBoundsOfListScheduling) {
  std::vector<int> turns;
  uint32_t state = 1;
  for (int i = 0; i < 300; i++) turns.push_back(1 + static_cast<int>((state = state * 1664525 + 1013904223) >> 25));
  const double work = 10.0 * std::accumulate(turns.begin(), turns.end(), 0),
               longest = 10.0 * *std::max_element(turns.begin(), turns.end());
  double before = INFINITY;
  for (int sms = 20; sms <= 300; sms++) {  // from 20 on every block is followed
    const double time = schedule(sms, kAlone, turns);
    EXPECT_GE(time * (1 + 1e-9), std::max(work / sms, longest)) << sms;
    EXPECT_LE(time, work / sms + longest) << sms;
    EXPECT_LE(time, before * (1 + 1e-9)) << sms;
    before = time;
  }
  EXPECT_DOUBLE_EQ(before, longest);
}

// Of many blocks the first are not followed; that may change the result by no more than the last blocks' share of it.
TEST(Schedule, OfManyBlocksFollowsTheLast) {
  const BlockClocks two{{5, 7}, {10, 16}};
  const auto triangle = [](int tiles, int heads) {
    std::vector<int> turns;
    for (int h = 0; h < heads; h++)
      for (int t = tiles; t > 0; t--) turns.push_back(t);
    return turns;
  };
  for (int heads : {7, 9, 20, 50}) {  // on 4 SMs of two blocks 128 are followed of 16 · heads
    const std::vector<int> turns = triangle(16, heads);
    double even = 0;
    for (const int t : turns) even += (7 + 16.0 * t) / 8;
    const double time = schedule(4, two, turns);
    EXPECT_GE(time * (1 + 1e-9), even) << heads;
    EXPECT_LE(time, even + 7 + 16 * 16) << heads;
  }
}

TEST(Schedule, HeaviestFirstEndsEarliest) {
  std::vector<int> turns(40);
  std::iota(turns.begin(), turns.end(), 1);
  const double lightest_first = schedule(6, kAlone, turns);
  std::reverse(turns.begin(), turns.end());
  EXPECT_LT(schedule(6, kAlone, turns), lightest_first);
}

// ---- ops ----------------------------------------------------------------------------------------------------------------------

AttentionSizes attention_sizes(int N, int docs, int H, int G, int D, int window = 0) {
  static const int32_t some = 0;
  const double n = static_cast<double>(N) / docs, w = window > 0 ? std::min<double>(window, n) : n;
  return {.cu_seqlens = &some,
          .docs = docs,
          .N = N,
          .H = H,
          .G = G,
          .D = D,
          .stride = (H + 2 * G) * D,
          .qk_stride = (H + 2 * G) * D,
          .window = window,
          .scale = 1,
          .pairs = docs * (w * (w + 1) / 2 + (n - w) * w)};
}
Matmul<float> product(int rows, int cols, int inner, bool ta, bool tb, DType type = DType::bf16) {
  const ConstMatrix a = ta ? ConstMatrix{nullptr, type, inner, rows, rows}.t() : ConstMatrix{nullptr, type, rows, inner, inner};
  const ConstMatrix b = tb ? ConstMatrix{nullptr, type, cols, inner, inner}.t() : ConstMatrix{nullptr, type, inner, cols, cols};
  static float scratch = 0;  // never touched
  return {.out = {nullptr, type, rows, cols, cols}, .a = a, .b = b, .scratch = {&scratch, Matmul<float>::kCudaScratch}};
}
double seconds(const Gpu& gpu, const AttentionSizes& sizes) {
  AttentionForward<bf16> op{};
  op.sizes = sizes;
  return gpu_time(gpu, op).seconds;
}
double backward_seconds(const Gpu& gpu, const AttentionSizes& sizes) {
  AttentionBackward<bf16> op{};
  op.sizes = sizes;
  return gpu_time(gpu, op).seconds;
}

TEST(GpuTime, IsTheLargestOfItsBounds) {
  const Gpu gpu = nominal_gpu("H200");
  const Copy<float> copy{nullptr, nullptr, 1 << 28};
  const OpTime moved = gpu_time(gpu, copy);
  EXPECT_DOUBLE_EQ(moved.seconds, 8.0 * (1 << 28) / (4.8e12 * kMemoryShare) + gpu.launch);
  EXPECT_EQ(moved.bound, Bound::memory);
  EXPECT_EQ(moved.launches, 1);
  // 8192 x 28672 in tiles of 128 x 256: 7168 in 55 waves of 132; of 128 x 128: 14336 in 109 waves.
  const OpTime large = gpu_time(gpu, product(8192, 28672, 4096, false, true));
  EXPECT_EQ(large.bound, Bound::arithmetic);
  const double waste = std::min(55.0 * 132 / 7168, 109.0 * 132 / 14336);
  EXPECT_NEAR(large.seconds - large.gaps, 2.0 * 8192 * 28672 * 4096 / (989e12 * kGemmShare) * waste, 1e-12);
  EXPECT_DOUBLE_EQ(large.stretch, waste);
  const OpTime thin = gpu_time(gpu, product(128, 4096, 4096, false, true));
  EXPECT_EQ(thin.bound, Bound::memory) << "the weight is read for few rows";
  EXPECT_EQ(gpu_time(gpu, SwigluForward<float>{nullptr, nullptr, 4096, 8192}).bound, Bound::memory) << "float's is not counted";
}

TEST(GpuTime, AttentionIsCountedOnEachArchitecture) {
  for (const char* name : {"A100-80GB", "L4", "H200", "RTX-5090"}) {
    const Gpu gpu = nominal_gpu(name);
    for (const int D : {32, 64, 80, 128}) {
      AttentionForward<bf16> op{};
      op.sizes = attention_sizes(4096, 1, 32, 8, D);
      const OpTime t = gpu_time(gpu, op);
      EXPECT_EQ(t.bound, Bound::instructions) << name << " " << D;
      EXPECT_GT(t.seconds, op.cost().flops / gpu.tensor_flops) << name << ": faster than the peak";
      EXPECT_GE(t.stretch, 1) << name;
    }
  }
  AttentionBackward<half> old{};
  old.sizes = attention_sizes(2048, 1, 32, 8, 64);
  EXPECT_EQ(gpu_time(nominal_gpu("T4"), old).bound, Bound::instructions);
  EXPECT_EQ(gpu_time(nominal_gpu("T4"), old).launches, 4);
  old.sizes = attention_sizes(4096, 1, 32, 8, 64);
  EXPECT_EQ(gpu_time(nominal_gpu("T4"), old).launches, 3) << "enough blocks without parts";
}

TEST(GpuTime, MoreWorkIsSlowerAndABetterGpuIsNot) {
  const Gpu gpu = nominal_gpu("H200");
  for (const auto& time : {seconds, backward_seconds}) {
    EXPECT_GT(time(gpu, attention_sizes(8192, 1, 32, 8, 128)), 2 * time(gpu, attention_sizes(4096, 1, 32, 8, 128)))
        << "the pairs are four times as many";
    EXPECT_LT(time(gpu, attention_sizes(8192, 8, 32, 8, 128)), time(gpu, attention_sizes(8192, 1, 32, 8, 128)));
    EXPECT_LT(time(gpu, attention_sizes(8192, 1, 32, 8, 128, 512)), time(gpu, attention_sizes(8192, 1, 32, 8, 128)));
    EXPECT_GT(time(gpu, attention_sizes(4096, 1, 32, 8, 128)), time(gpu, attention_sizes(4096, 1, 32, 8, 64)));
    double before = INFINITY;
    for (const int sms : {16, 33, 66, 132, 264, 528}) {
      Gpu more = gpu;  // with as much of all else as SMs
      const double factor = sms / 132.0;
      more.sms = sms, more.tensor_flops *= factor, more.fp32_flops *= factor, more.bandwidth *= factor;
      const double now = time(more, attention_sizes(4096, 1, 32, 8, 128));
      EXPECT_LE(now, before) << sms;
      before = now;
    }
    Gpu fast = gpu;
    fast.clock *= 1.25, fast.tensor_flops *= 1.25;
    EXPECT_LT(time(fast, attention_sizes(4096, 1, 32, 8, 128)), time(gpu, attention_sizes(4096, 1, 32, 8, 128)));
  }
  for (const auto& [rows, cols, inner] : {std::tuple{4096, 16, 4096}, {4096, 4096, 16}, {16, 4096, 4096}, {4096, 4096, 4096}}) {
    const double once = gpu_time(gpu, product(rows, cols, inner, false, true)).seconds;
    EXPECT_GE(gpu_time(gpu, product(2 * rows, cols, inner, false, true)).seconds, once);
    EXPECT_GE(gpu_time(gpu, product(rows, cols, 2 * inner, false, true)).seconds, once);
  }
}

// ---- launches -----------------------------------------------------------------------------------------------------------------

// The model and the .cu files each say how many blocks there are and which kernel they run. Here the .cu files say it.
class Launches : public EmulatedGpu<testing::Test> {
 protected:
  void SetUp() override {
    EmulatedGpu::SetUp();
    if (IsSkipped()) return;
    open(900);
  }
  void TearDown() override {
    if (!IsSkipped()) close();
    EmulatedGpu::TearDown();
  }
  void open(int arch) {
    emulator::options().arch = arch;
    emulator::options().instead_of_running = nullptr;
    device_ = open_cuda_device();  // which on sm_90 runs kernels, to check them
    emulator::options().instead_of_running = [this](const emulator::LaunchShape& shape) { launched_.push_back(shape); };
    close_cublas_ = device_.blas, device_.blas = nullptr;
  }
  void close() {
    device_.blas = close_cublas_;
    close_cuda_device(device_);
  }
  template <class Op>
  std::vector<emulator::LaunchShape> launched_by(const Op& op) {
    launched_.clear();
    op.cuda(device_);
    return launched_;
  }
  // As count_instructions.py shortens it.
  static std::string short_name(std::string name) {
    for (const std::string_view part : {"tll::", "(anonymous namespace)::", " "})
      for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, part.size());
    if (name.starts_with("void")) name.erase(0, 4);
    if (const size_t at = name.find('('); at != std::string::npos) name.resize(at);
    for (const std::string_view type : {"<bf16,", "<half,"})
      if (const size_t at = name.find(type); at != std::string::npos) name.erase(at + 1, type.size() - 1);
    return name;
  }
  static void expect_equal(const emulator::LaunchShape& launched, const GpuLaunch& told) {
    EXPECT_EQ(short_name(launched.kernel), told.kernel);
    for (int i = 0; i < 3; i++) EXPECT_EQ(launched.grid[i], told.grid[i]) << told.kernel << ", dimension " << i;
    EXPECT_EQ(static_cast<int64_t>(launched.dynamic_shared), told.dynamic_shared) << told.kernel;
  }

  Device device_;

 private:
  void* close_cublas_ = nullptr;
  std::vector<emulator::LaunchShape> launched_;
};

TEST_F(Launches, OfAttentionAreAsTheModelHasThem) {
  std::set<int64_t> parts;
  for (const int arch : {800, 900, 1000})
    for (const int D : {32, 64, 96, 128})
      for (const int H : {8, 24, 32})
        for (const int N : {100, 200, 2048, 4096}) {
          AttentionForward<bf16> forward{};
          AttentionBackward<bf16> backward{};
          forward.sizes = backward.sizes = attention_sizes(N, 1, H, 8, D);
          device_.arch = arch;
          const auto made = launched_by(forward), made_backward = launched_by(backward);
          const auto told = gpu_launches(forward.sizes, false, arch), told_backward = gpu_launches(forward.sizes, true, arch);
          ASSERT_EQ(made.size(), 1u);
          expect_equal(made[0], told[0]);
          const bool split = told_backward[0].grid[1] > 1;
          parts.insert(told_backward[0].grid[1]);
          ASSERT_EQ(made_backward.size(), split ? 4u : 3u) << "delta_kernel comes first";
          expect_equal(made_backward[1], told_backward[0]);
          EXPECT_EQ(made_backward[2].kernel.find("add_parts_kernel") != std::string::npos, split) << made_backward[2].kernel;
          expect_equal(made_backward.back(), told_backward[1]);
          for (const GpuLaunch& launch : {told[0], told_backward[0], told_backward[1]})
            EXPECT_EQ(static_cast<int64_t>(launch.turns.size()), launch.grid[0] * launch.grid[1] * launch.grid[2])
                << launch.kernel;
          // All heads of a group stream by each tile, in one part or in several: as many turns as those of a head's own blocks.
          const std::vector<int> grouped = told_backward[0].turns;
          const std::vector<int> alone = gpu_launches(attention_sizes(N, 1, H, H, D), true, arch)[0].turns;
          EXPECT_EQ(std::accumulate(grouped.begin(), grouped.end(), 0), std::accumulate(alone.begin(), alone.end(), 0));
        }
  EXPECT_EQ(parts, (std::set<int64_t>{1, 2, 3, 4}));
}

TEST_F(Launches, OfProductsAreAsTheModelHasThem) {
  const auto compare = [&](int arch, DType type) {
    for (const int N : {100, 512, 4096, 16384})
      for (const int size : {1024, 2048, 14336})
        for (const int r : {8, 16, 32, 48, 64, 128})
          for (const bool ta : {false, true})
            for (const bool tb : {false, true})
              for (const Matmul<float>& op : {product(N, r, size, ta, tb, type), product(N, size, r, ta, tb, type),
                                              product(r, size, N, ta, tb, type), product(size, r, N, ta, tb, type)}) {
                if ((op.rows() <= 8 && !ta && tb) || (ta && tb)) continue;  // dot_rows_kernel, matmul_fma_kernel
                const auto made = launched_by(op);
                const GpuLaunch told = gpu_launch(op, arch);
                ASSERT_EQ(made.size(), told.grid[2] > 1 ? 2u : 1u) << "the second adds up the splits";
                expect_equal(made[0], told);
                if (HasFailure())
                  FAIL() << arch << ": " << op.rows() << " x " << op.cols() << " x " << op.inner() << " " << ta << tb;
              }
  };
  compare(900, DType::bf16);
  close();
  open(750);
  compare(750, DType::f16);
}

// ---- a step -------------------------------------------------------------------------------------------------------------------

TEST(GpuTime, OfAStepIsTheSumOfItsOps) {
  for (const std::string more : {"--gpu H200", "--gpu T4", "--gpu H200 --weights nf4 --dropout 0.1",
                                 "--gpu A100-80GB --recompute full", "--gpu H200 --dtype fp32", "--gpu H200 --train full"}) {
    Options options = parse_options(words("plan --config dev/bench/configs/tiny.json --seq-len 64 --batch-size 2 " + more));
    resolve_options(options);
    const ModelSource source = open_model(options, TokenizerNeed::none);
    const Planner planner(source.config, std::nullopt, training_needs);
    std::vector<OpTime> ops;
    const double step = planner.seconds(options, &ops);
    double sum = 0;
    for (const OpTime& t : ops) {
      EXPECT_GE(t.seconds, t.gaps) << t.op;
      EXPECT_NEAR(t.gaps, t.launches * nominal_gpu(options.gpu).launch, 1e-12) << t.op;
      sum += t.seconds;
    }
    EXPECT_GT(ops.size(), 50u) << more;
    EXPECT_NEAR(sum, step, 1e-9 * step) << more;
    EXPECT_EQ(planner.seconds(options), step) << more << ": the same again";
  }
}

// The table of GPUs agrees with itself: a multiply-add a clock of every lane is the published rate. Where it is stated for a
// higher clock than that of tensor cores (sm_90, sm_100) it is up to 9 % larger.
TEST(KnownGpus, HaveTheSmsAndClocksOfTheirRates) {
  for (const std::string_view name : known_gpu_names()) {
    const KnownGpu* gpu = known_gpu(name);
    const double lanes = gpu->arch <= 800 ? 64 : 128, rate = 2 * lanes * gpu->sms * gpu->clock;
    EXPECT_NEAR(gpu->fp32_flops / rate, gpu->arch >= 900 && gpu->arch < 1200 ? 1.045 : 1, gpu->arch >= 900 ? 0.05 : 0.015)
        << name;
    EXPECT_GE(gpu->l2, 3 << 20) << name;
  }
}

}  // namespace
}  // namespace tll::test
