// What headers promise beyond formulae: which elements an op leaves alone, the statistics of dropout, the profile.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>
#include <utility>

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/matmul.h"
#include "tests/op_case.h"

namespace tll {
namespace {

class OnEachIsa : public testing::TestWithParam<Isa> {
 protected:
  Device device{.isa = GetParam(), .threads = 2};
};
INSTANTIATE_TEST_SUITE_P(Cpu, OnEachIsa, testing::ValuesIn(test::supported_isas()),
                         [](const auto& info) { return fmt::format("isa{}", static_cast<int>(info.param)); });

TEST_P(OnEachIsa, EmbeddingGivesThePaddingTokenNoGradient) {
  const std::vector<int32_t> ids{2, 1, 2, 0, 1};
  const std::vector<float> dout{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  std::vector<float> dtable{100, 200, 300, 400, 500, 600};
  run(device, EmbeddingBackward<float>{dtable.data(), dout.data(), ids.data(), 5, 2, 3, 1});
  EXPECT_EQ(dtable, (std::vector<float>{107, 208, 300, 400, 506, 608}));
}

TEST_P(OnEachIsa, ScatterLeavesOtherRowsAlone) {
  const std::vector<int32_t> rows{3, 0};
  const std::vector<float> x{1, 2, 3, 4};
  std::vector<float> out{9, 9, 8, 8, 7, 7, 6, 6, 5, 5};
  run(device, ScatterRows<float>{out.data(), x.data(), rows.data(), 2, 2});
  EXPECT_EQ(out, (std::vector<float>{3, 4, 8, 8, 7, 7, 1, 2, 5, 5}));
}

// Weights in bf16 are the same values in fp32, and so are their products with any number of rows.
TEST_P(OnEachIsa, MatmulWithWeightsIn16BitsHasTheBitsOfFp32) {
  const int cols = 45, inner = 301;
  std::vector<bf16> narrow(cols * inner);
  std::vector<float> wide(narrow.size()), scratch(static_cast<size_t>(Matmul<float>::scratch_floats(2)));
  for (size_t i = 0; i < narrow.size(); i++)
    narrow[i] = round_to_bf16(std::sin(static_cast<float>(i))), wide[i] = to_acc(narrow[i]);
  for (const int rows : {1, 3, 8, 9, 200}) {
    std::vector<float> a(static_cast<size_t>(rows * inner)), of_narrow(static_cast<size_t>(rows * cols)), of_wide = of_narrow;
    for (size_t i = 0; i < a.size(); i++) a[i] = std::cos(static_cast<float>(3 * i));
    const auto multiply = [&](std::vector<float>& out, ConstMatrix b) {
      run(device, Matmul<float>{.out = matrix(out.data(), rows, cols),
                                .a = matrix(std::as_const(a).data(), rows, inner),
                                .b = b.t(),
                                .scratch = {scratch.data(), static_cast<int64_t>(scratch.size())}});
    };
    multiply(of_narrow, matrix(std::as_const(narrow).data(), cols, inner));
    multiply(of_wide, matrix(std::as_const(wide).data(), cols, inner));
    EXPECT_EQ(of_narrow, of_wide) << rows << " rows";
  }
}

// Integers are exact in every type, so a sum of them in any order is the integer itself.
TEST_P(OnEachIsa, MatmulOfIntegersIsExact) {
  const int rows = 33, cols = 29, inner = 61;
  std::vector<bf16> a(rows * inner), b(cols * inner);
  for (size_t i = 0; i < a.size(); i++) a[i] = round_to_bf16(static_cast<float>(static_cast<int>(i * 7 % 15) - 7));
  for (size_t i = 0; i < b.size(); i++) b[i] = round_to_bf16(static_cast<float>(static_cast<int>(i * 5 % 13) - 6));
  std::vector<float> out(rows * cols, 1000), scratch(static_cast<size_t>(Matmul<float>::scratch_floats(2)));
  run(device, Matmul<float>{.out = matrix(out.data(), rows, cols),
                            .a = matrix(a.data(), rows, inner),
                            .b = matrix(b.data(), cols, inner).t(),
                            .alpha = 2,
                            .accumulate = true,
                            .scratch = {scratch.data(), static_cast<int64_t>(scratch.size())}});
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++) {
      float sum = 0;
      for (int k = 0; k < inner; k++) sum += to_acc(a[i * inner + k]) * to_acc(b[j * inner + k]);
      ASSERT_EQ(out[i * cols + j], 1000 + 2 * sum) << i << " " << j;
    }
}

// Adding to a bf16 result whose rows are not neighbours, as that of a part of a joint matrix: the float sums of all of it would
// be 6 MB, where the scratch has 3.6. Small integers are exact in bf16.
TEST_P(OnEachIsa, MatmulAddsToMoreThanItsScratchHolds) {
  const int rows = 1040, cols = 1536, inner = 16, stride = 2 * cols;
  std::vector<bf16> a(rows * inner), b(cols * inner), out(rows * stride, round_to_bf16(3));
  for (size_t i = 0; i < a.size(); i++) a[i] = round_to_bf16(static_cast<float>(static_cast<int>(i * 7 % 3) - 1));
  for (size_t i = 0; i < b.size(); i++) b[i] = round_to_bf16(static_cast<float>(static_cast<int>(i * 5 % 3) - 1));
  const int64_t floats = Matmul<float>::scratch_floats(2), guard = 1 << 20;
  std::vector<float> scratch(static_cast<size_t>(floats + guard), -1);
  run(device, Matmul<float>{.out = matrix(out.data(), rows, cols, stride),
                            .a = matrix(a.data(), rows, inner),
                            .b = matrix(b.data(), cols, inner).t(),
                            .accumulate = true,
                            .scratch = {scratch.data(), floats}});
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++) {
      float sum = 3;
      for (int k = 0; k < inner; k++) sum += to_acc(a[i * inner + k]) * to_acc(b[j * inner + k]);
      ASSERT_EQ(to_acc(out[i * stride + j]), sum) << i << " " << j;
      ASSERT_EQ(to_acc(out[i * stride + cols + j]), 3) << i << " " << j;
    }
  for (size_t i = static_cast<size_t>(floats); i < scratch.size(); i++) ASSERT_EQ(scratch[i], -1) << i - floats;
}

std::vector<bool> dropped(const Device& device, int N, int C, double p, uint64_t key) {
  const std::vector<float> ones(static_cast<size_t>(N) * C, 1.0f);
  std::vector<float> out(ones.size());
  run(device, Dropout<float>{out.data(), ones.data(), N, C, p, key, false});
  std::vector<bool> mask;
  const double rounded = std::round(p * 65536) / 65536;
  for (float y : out) {
    EXPECT_TRUE(y == 0 || y == static_cast<float>(1 / (1 - rounded))) << y;
    mask.push_back(y == 0);
  }
  return mask;
}

// A count of n independent events of probability q lies within 6 standard deviations of n·q, but for one time in 5·10^8.
void expect_binomial(int64_t count, double n, double q, const std::string& what) {
  EXPECT_LE(std::abs(static_cast<double>(count) - n * q), 6 * std::sqrt(n * q * (1 - q))) << what << ": " << count << " of " << n;
}

TEST_P(OnEachIsa, DropoutDropsIndependentlyWithItsProbability) {
  const int N = 500, C = 400;
  const double n = 1.0 * N * C;
  for (double p : {0.05, 0.1, 0.5, 0.9}) {
    const auto mask = dropped(device, N, C, p, dropout_key(1, 2, 3, 4, 5));
    expect_binomial(std::count(mask.begin(), mask.end(), true), n, p, "dropped");
    int64_t columns = 0;
    for (int r = 0; r < N; r += 2)
      for (int c = 0; c < C; c++) columns += mask[static_cast<size_t>(r) * C + c] && mask[static_cast<size_t>(r + 1) * C + c];
    expect_binomial(columns, n / 2, p * p, "pairs in a column");
    // Four columns share a random word: each of its quarters, pairs of them, and pairs of neighbouring words.
    for (size_t quarter = 0; quarter < 4; quarter++) {
      int64_t count = 0;
      for (size_t i = quarter; i < mask.size(); i += 4) count += mask[i];
      expect_binomial(count, n / 4, p, "of a quarter");
      for (const size_t distance : {1, 2, 3, 4}) {
        int64_t pairs = 0, tried = 0;
        for (size_t i = quarter; i + distance < mask.size(); i += 8, tried++) pairs += mask[i] && mask[i + distance];
        expect_binomial(pairs, static_cast<double>(tried), p * p, "pairs in a row");
      }
    }
    for (const uint64_t key : {dropout_key(2, 2, 3, 4, 5), dropout_key(1, 3, 3, 4, 5), dropout_key(1, 2, 4, 4, 5),
                               dropout_key(1, 2, 3, 5, 5), dropout_key(1, 2, 3, 4, 6), dropout_key(1, 2, 3, 5, 4)}) {
      const auto other = dropped(device, N, C, p, key);
      int64_t both = 0;
      for (size_t i = 0; i < mask.size(); i++) both += mask[i] && other[i];
      expect_binomial(both, n, p * p, "pairs with another key");
    }
  }
}

// Rows alone have the masks that they have among others, whether or not a row is a whole number of random words.
TEST_P(OnEachIsa, DropoutOfSomeRowsIsThatOfAll) {
  for (const int C : {1, 3, 8, 37}) {
    const int N = 40;
    const std::vector<float> ones(static_cast<size_t>(N) * C, 1.0f);
    std::vector<float> whole(ones.size()), parts(ones.size());
    run(device, Dropout<float>{whole.data(), ones.data(), N, C, 0.5, 9, false});
    for (int first = 0; first < N;) {
      const int rows = std::min(first % 5 + 1, N - first);
      const size_t at = static_cast<size_t>(first) * C;
      run(device, Dropout<float>{parts.data() + at, ones.data() + at, rows, C, 0.5, 9, false, nullptr, first});
      first += rows;
    }
    EXPECT_EQ(whole, parts) << C;
    EXPECT_GT(std::count(whole.begin(), whole.end(), 0.0f), N * C / 4);
  }
}

TEST(DropoutRule, KeepsWhatIsAtLeastTheThreshold) {
  const uint64_t word = 0x80007fffffff0000ull;
  const uint32_t half = dropout_rule(0.5).threshold;
  for (const auto& [i, keep] : {std::pair{0, false}, {1, true}, {2, false}, {3, true}})
    EXPECT_EQ(dropout_keeps(word, i, half), keep) << i;
  for (int i = 0; i < 4; i++) EXPECT_TRUE(dropout_keeps(word, i, 0)) << i;
}

// The first words of SplitMix64 from seed 1234567, as published with its implementations.
TEST(DropoutRule, TakesItsWordsFromSplitMix64) {
  EXPECT_EQ(dropout_word(1234567, 1), 6457827717110365317ull);
  EXPECT_EQ(dropout_word(1234567, 2), 3203168211198807973ull);
  EXPECT_EQ(dropout_word(1234567, 3), 9817491932198370423ull);
}

TEST(DropoutRule, RoundsProbabilitiesToMultiplesOf16Bits) {
  EXPECT_EQ(dropout_rule(0).threshold, 0u);
  EXPECT_EQ(dropout_rule(0).keep_scale, 1);
  EXPECT_EQ(dropout_rule(0.5).threshold, 0x80000000u);
  EXPECT_EQ(dropout_rule(0.5).keep_scale, 2);
  EXPECT_EQ(dropout_rule(0.1).threshold, 6554u << 16);
  EXPECT_EQ(dropout_rule(0.1).keep_scale, 1 / (1 - 6554.0 / 65536));
  EXPECT_EQ(dropout_rule(0.999999).threshold, 0xffff0000u);  // not all
  EXPECT_EQ(dropout_rule(0.999999).keep_scale, 65536);
}

TEST_P(OnEachIsa, DropoutOfZeroIsTheIdentity) {
  std::vector<float> x{1.5f, -2.25f, 1e-40f, 3e38f, 0.1f}, out(5);
  run(device, Dropout<float>{out.data(), x.data(), 1, 5, 0, 77, false});
  EXPECT_EQ(out, x);
}

TEST(DropoutKey, DiffersInEachOfItsParts) {
  std::set<uint64_t> keys;
  for (uint64_t seed = 0; seed < 6; seed++)
    for (uint64_t step = 0; step < 6; step++)
      for (uint64_t micro = 0; micro < 6; micro++)
        for (uint64_t layer = 0; layer < 6; layer++)
          for (uint64_t input = 0; input < 6; input++) keys.insert(dropout_key(seed, step, micro, layer, input));
  EXPECT_EQ(keys.size(), 6u * 6 * 6 * 6 * 6);
}

TEST(VisiblePairs, CountsWhatTheMaskShows) {
  const std::vector<int32_t> bounds{0, 5, 6, 13};
  for (int window : {0, 1, 2, 5, 6, 7, 8}) {
    int pairs = 0;
    for (size_t d = 0; d + 1 < bounds.size(); d++)
      for (int i = bounds[d]; i < bounds[d + 1]; i++)
        for (int j = bounds[d]; j <= i; j++) pairs += window == 0 || i - window < j;
    EXPECT_EQ(visible_pairs(bounds.data(), 3, window), pairs) << window;
  }
}

TEST(GroupParts, HoldEachHeadOnceAndFewBlocksMore) {
  EXPECT_EQ(group_parts(2048, 32, 8).parts, 2) << "Llama-3.2-1B";
  EXPECT_EQ(group_parts(4096, 32, 8).parts, 1);
  EXPECT_EQ(group_parts(2048, 8, 8).parts, 1) << "one head a group";
  EXPECT_EQ(group_parts(128, 32, 8).parts, 1) << "few rows";
  EXPECT_EQ(group_parts(129, 32, 8).parts, 4);
  for (const int64_t N : {0, 1, 64, 65, 500, 2048, 2049, 100000})
    for (const int G : {1, 2, 3, 8, 32, 256, 300})
      for (const int group : {1, 2, 3, 4, 7, 16}) {
        const auto [parts, heads] = group_parts(N, group * G, G);
        EXPECT_LT((parts - 1) * heads, group) << "a head in the last part";
        EXPECT_GE(parts * heads, group) << "all heads";
        EXPECT_TRUE(parts == 1 || (N + 63) / 64 * G * parts <= 512) << N << " " << G << " " << group;
      }
}

// A plan's scratch is that of the most rows that a batch may have. Fewer rows may be in more parts.
TEST(GroupParts, OfFewerRowsFitTheScratchOfMore) {
  const auto needs = [](int64_t n, int H, int G, int D) {
    const int64_t parts = group_parts(n, H, G).parts, tiles = (n + 63) / 64, columns = (D + 31) / 32 * 32;
    return 2 * n * H + (parts > 1 ? parts * G * tiles * 64 * columns * 2 : 0);
  };
  bool more = false;
  for (const auto& [H, G, D] : {std::tuple{32, 8, 64}, {28, 4, 128}, {14, 2, 64}, {8, 1, 80}, {32, 32, 96}, {600, 300, 4}})
    for (const int64_t N : {1, 64, 100, 1000, 2048, 4096, 20000}) {
      const int64_t has = AttentionBackward<bf16>::cuda_scratch_floats(N, H, G, D);
      EXPECT_GE(has, needs(N, H, G, D)) << N;
      more |= has > needs(N, H, G, D);
      for (int64_t n = 1; n < N; n += 13) ASSERT_GE(has, needs(n, H, G, D)) << n << " of " << N << " rows, " << H << " " << G;
    }
  EXPECT_TRUE(more) << "some number of rows needs less than fewer rows do";
}

TEST(Devices, NameTheirInstructionSets) {
#if defined(__x86_64__)
  EXPECT_STREQ(isa_name(Isa::base), "x86-64");
  EXPECT_STREQ(isa_name(Isa::avx512), "avx512");
#else
  EXPECT_STREQ(isa_name(Isa::base), "arm64");
  EXPECT_EQ(best_isa(), Isa::neon);
#endif
  EXPECT_EQ(test::supported_isas().front(), Isa::base);
  EXPECT_EQ(Device{}.isa, best_isa());
  EXPECT_EQ(test::supported_isas().back(), best_isa());
}

TEST(Profiles, AddUpCallsAndCosts) {
  Profile profile;
  const Device device{.isa = Isa::base, .threads = 1, .profile = &profile};
  std::vector<float> x(6, 1.0f), y(6);
  const Dropout<float> op{y.data(), x.data(), 2, 3, 0.5, 1, false};
  run(device, op);
  run(device, op);
  run(device, CastFromMaster<float>{y.data(), x.data(), 6});
  EXPECT_EQ(profile.line("dropout").calls, 2);
  EXPECT_EQ(profile.line("dropout").cost.bytes, 2 * op.cost().bytes);
  EXPECT_EQ(profile.line("cast").calls, 1);
  EXPECT_GE(profile.line("cast").seconds, 0);
  EXPECT_EQ(profile.line("never").calls, 0);
}

TEST(ChecksDeathTest, BrokenInvariantsNameTheirValues) {
  float x = 0;
  EXPECT_DEATH(run(Device{}, Dropout<float>{&x, &x, 1, 1, 1.0, 0, false}), "broken invariant.*p 1");
  EXPECT_DEATH(run(Device{}, Matmul<float>{.out = matrix(&x, 2, 2, 1), .a = matrix(&x, 2, 2, 1), .b = matrix(&x, 2, 2, 1)}),
               "broken invariant.*rows 2 cols 2 inner 2");
  half h[1] = {};
  EXPECT_DEATH(run(Device{}, Matmul<float>{.out = matrix(h, 1, 1), .a = matrix(&x, 1, 1), .b = matrix(&x, 1, 1)}),
               "matmul to fp16 runs on CUDA only");
}

}  // namespace
}  // namespace tll
