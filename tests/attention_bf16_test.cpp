// Attention over bf16 by each kind of instructions that this processor has. Its values are checked with those of all ops
// (op_cases_attention.cpp).
#include "kernels/attention_bf16.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "src/base/parallel.h"

namespace tll {
namespace {

constexpr int kHeads = 2, kGroups = 1, kDim = 64, kThreads = 2, kWidth = kHeads * kDim, kStride = (kHeads + 2 * kGroups) * kDim;

struct Attention {
  std::vector<int32_t> bounds{0};
  std::vector<bf16> qkv, dout, out, dqkv;
  std::vector<float> lse, scratch;

  explicit Attention(const std::vector<int>& lengths) {
    for (int n : lengths) bounds.push_back(bounds.back() + n);
    const auto rows = static_cast<size_t>(bounds.back());
    qkv.resize(rows * kStride), dqkv.resize(qkv.size()), dout.resize(rows * kWidth), out.resize(dout.size());
    lse.resize(rows * kHeads);
    scratch.resize(
        static_cast<size_t>(std::max(AttentionForward<bf16>::scratch_floats(bounds.back(), kGroups, kDim, kThreads),
                                     AttentionBackward<bf16>::scratch_floats(bounds.back(), kHeads, kGroups, kDim, kThreads))));
  }
  AttentionSizes sizes() const {
    return {.cu_seqlens = bounds.data(),
            .docs = static_cast<int>(bounds.size()) - 1,
            .N = bounds.back(),
            .H = kHeads,
            .G = kGroups,
            .D = kDim,
            .stride = kStride,
            .qk_stride = kStride,
            .threads = kThreads,
            .scale = 1 / std::sqrt(kDim)};
  }
  bool run(Bf16Instructions with) {
    const bf16 *q = qkv.data(), *k = q + kWidth, *v = k + kGroups * kDim;
    bf16 *dq = dqkv.data(), *dk = dq + kWidth, *dv = dk + kGroups * kDim;
    const bool forward = attention_bf16(AttentionForward<bf16>{out.data(), lse.data(), q, k, v, scratch.data(), sizes()}, with);
    return attention_bf16(
               AttentionBackward<bf16>{dq, dk, dv, dout.data(), out.data(), lse.data(), q, k, v, scratch.data(), sizes()},
               with) &&
           forward;
  }
};

struct AttentionBf16 : testing::TestWithParam<Bf16Instructions> {
  void SetUp() override {
    if (GetParam() > bf16_instructions()) GTEST_SKIP() << "this processor has no " << bf16_instructions_name(GetParam());
    set_cpu_threads(kThreads);
  }
  void TearDown() override { set_cpu_threads(1); }
};

TEST_P(AttentionBf16, ADocumentHasTheSameBitsAloneAndBehindOthers) {
  constexpr int kBefore = 13, kLength = 75;
  Attention packed({kBefore, kLength, 7}), alone({kLength});
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 1);
  for (std::vector<bf16>* values : {&packed.qkv, &packed.dout})
    for (bf16& x : *values) x = round_to_bf16(normal(random));
  std::copy_n(packed.qkv.begin() + kBefore * kStride, alone.qkv.size(), alone.qkv.begin());
  std::copy_n(packed.dout.begin() + kBefore * kWidth, alone.dout.size(), alone.dout.begin());
  ASSERT_TRUE(packed.run(GetParam()) && alone.run(GetParam()));
  EXPECT_EQ(std::memcmp(&packed.out[kBefore * kWidth], alone.out.data(), alone.out.size() * sizeof(bf16)), 0);
  EXPECT_EQ(std::memcmp(&packed.dqkv[kBefore * kStride], alone.dqkv.data(), alone.dqkv.size() * sizeof(bf16)), 0);
}

INSTANTIATE_TEST_SUITE_P(Instructions, AttentionBf16, testing::Values(Bf16Instructions::avx512, Bf16Instructions::amx),
                         [](const auto& info) { return info.param == Bf16Instructions::amx ? "amx" : "avx512"; });

TEST(AttentionBf16Test, IsLeftToOthersWithoutSuchInstructions) {
  Attention attention({3});
  EXPECT_FALSE(attention.run(Bf16Instructions::none));
}

}  // namespace
}  // namespace tll
