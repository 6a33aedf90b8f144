// AdamW with 8-bit moments over several steps: the published vector, and what its guard is for.
#include "kernels/adamw8bit.h"

#include <gtest/gtest.h>

#include <bit>
#include <numeric>
#include <random>

#include "kernels/cuda_device.h"
#include "kernels/quantized.h"
#include "src/model/device_memory.h"
#include "tests/op_case.h"
#include "tests/sha256.h"

namespace tll {
namespace {

constexpr double kLr = 1e-3;

// One tensor in codes, with its state, on the host or a device.
struct Tensor8bit {
  std::vector<float> param;
  std::vector<uint8_t> m_codes, v_codes;
  std::vector<float> m_absmax, v_absmax, maps = std::vector<float>(512);

  explicit Tensor8bit(std::vector<float> values) : param(std::move(values)) {
    const size_t blocks = static_cast<size_t>(AdamW8bit::blocks_of(static_cast<int64_t>(param.size())));
    m_codes.assign(blocks * AdamW8bit::kBlock, 0), v_codes = m_codes;
    m_absmax.assign(blocks, 0), v_absmax = m_absmax;
    dynamic_map(true, maps.data()), dynamic_map(false, maps.data() + 256);
  }
  void step(const Device& device, int64_t t, const std::vector<float>& grad, double weight_decay, bool guard) {
    const TrainedSpan span{0, 0, static_cast<int64_t>(param.size()), 0};
    const AdamWFactors factors = adamw_factors(static_cast<double>(t), kLr, 0.9, 0.999, weight_decay, 1);
    const int64_t blocks = static_cast<int64_t>(m_absmax.size());
    run(device, AdamW8bit{.param = param.data(),
                          .grad = grad.data(),
                          .dtype = DType::f32,
                          .spans = &span,
                          .span_count = 1,
                          .maps = maps.data(),
                          .factors = &factors,
                          .code_blocks = blocks,
                          .first = 0,
                          .blocks = blocks,
                          .m_codes = m_codes.data(),
                          .v_codes = v_codes.data(),
                          .m_absmax = m_absmax.data(),
                          .v_absmax = v_absmax.data(),
                          .m = nullptr,
                          .v = nullptr,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .guard = guard});
  }
};

class AdamW8bitOnEachIsa : public testing::TestWithParam<Isa> {
 protected:
  Device device{.isa = GetParam(), .threads = 2};
};
INSTANTIATE_TEST_SUITE_P(Cpu, AdamW8bitOnEachIsa, testing::ValuesIn(test::supported_isas()),
                         [](const auto& info) { return fmt::format("isa{}", static_cast<int>(info.param)); });

// Three steps of one block, recomputed from the rule outside of this program. Nothing in them is small enough for the guard.
TEST_P(AdamW8bitOnEachIsa, ThreeStepsAreThoseOfTheRule) {
  std::vector<float> p(256);
  for (int i = 0; i < 256; i++) p[static_cast<size_t>(i)] = static_cast<float>(i) / 256;
  Tensor8bit tensor(p);
  for (int t = 1; t <= 3; t++) {
    std::vector<float> grad;
    for (int i = 0; i < 256; i++) grad.push_back(static_cast<float>((7 * i + 13 * t) % 31 - 15) / 64);
    tensor.step(device, t, grad, 0.01, true);
  }
  const auto bits = [](float x) { return std::bit_cast<uint32_t>(x); };
  EXPECT_EQ(bits(tensor.m_absmax[0]), 0x3d02e716u);
  EXPECT_EQ(bits(tensor.v_absmax[0]), 0x38b2ef28u);
  EXPECT_EQ(bits(tensor.param[0]), 0x39ad0498u);
  EXPECT_EQ(bits(tensor.param[1]), 0x3b731c96u);
  EXPECT_EQ(bits(tensor.param[100]), 0x3ec8f22fu);
  EXPECT_EQ(bits(tensor.param[255]), 0x3f7f77e5u);
  EXPECT_EQ(test::sha256(tensor.m_codes.data(), 256), "68672c2de8a0b4992eaa79898a1a76d7093cd31ee1ec2c901eb847b7c22954cd");
  EXPECT_EQ(test::sha256(tensor.v_codes.data(), 256), "c4874531eab430b3ba626d061a3185aeae527f7f1944d5e1a7329e3a0b4c5cb1");
  const double sum = std::accumulate(tensor.param.begin(), tensor.param.end(), 0.0);
  EXPECT_NEAR(sum, 127.495382, 5e-7);
}

// Of each step's gradients 30 % are 0, and 1 % a thousand times as large as the others. A v that is small beside its block's
// largest is stored as 0, and the next step divides by eps.
double farthest_move(const Device& device, bool guard) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform;
  std::vector<float> start(8192);
  for (float& p : start) p = 0.05f * normal(random);
  Tensor8bit tensor(start);
  for (int t = 1; t <= 20; t++) {
    std::vector<float> grad;
    for (size_t i = 0; i < start.size(); i++) {
      const float which = uniform(random);
      grad.push_back(which < 0.3f ? 0 : normal(random) * 1e-3f * (which > 0.99f ? 1000.0f : 1.0f));
    }
    tensor.step(device, t, grad, 0, guard);
  }
  double farthest = 0;
  for (size_t i = 0; i < start.size(); i++) farthest = std::max(farthest, std::abs(double{tensor.param[i]} - start[i]));
  return farthest;
}

// With the guard v is at least 3.25e-7 of the block's largest: 1e-3·(3·1)² at most, whose root is 5.4e-5. m is at most some 0.3
// of a gradient of 3e-3, so a step is at most some 20 times lr, and there are 20 steps.
TEST_P(AdamW8bitOnEachIsa, TheGuardKeepsSmallSecondMomentsFromVanishing) {
  EXPECT_GT(farthest_move(device, false), 10.0);
  EXPECT_LT(farthest_move(device, true), 400 * kLr);
}

}  // namespace
}  // namespace tll
