// How a token is chosen from logits: draws, truncations and the penalty, each against the definition.
#include "src/model/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "src/base/check.h"

namespace tll {
namespace {

// The probabilities with which ids are drawn: uniform numbers on a grid of n points.
std::vector<double> shares(const std::vector<float>& logits, const SamplingOptions& options, std::span<const int32_t> text = {}) {
  constexpr int n = 20000;
  std::vector<double> drawn(logits.size());
  for (int i = 0; i < n; i++) drawn[static_cast<size_t>(sample_token<float>(logits, options, (i + 0.5) / n, text))] += 1.0 / n;
  return drawn;
}

// Of each id the softmax over those that `kept` says.
std::vector<double> softmax_of(const std::vector<float>& logits, const std::vector<bool>& kept, double temperature = 1) {
  std::vector<double> p(logits.size());
  double sum = 0;
  for (size_t i = 0; i < logits.size(); i++) sum += p[i] = kept[i] ? std::exp(logits[i] / temperature) : 0;
  for (double& x : p) x /= sum;
  return p;
}

// To within a point of the grid at either end of an id's interval.
void expect_shares(const std::vector<double>& drawn, const std::vector<double>& expected) {
  for (size_t i = 0; i < drawn.size(); i++) EXPECT_NEAR(drawn[i], expected[i], 1.0 / 20000) << i;
}

const std::vector<float> kLogits = {0.5f, -1.0f, 2.0f, 1.25f, 1.25f, -3.0f};

// Uniform numbers on a grid of n points: each id is drawn n·p times, to within one point at either end of its interval.
TEST(Sampling, DrawsFromTheSoftmax) {
  const std::vector<float> logits = {0.5f, -1.0f, 2.0f, -INFINITY, 1.25f};
  for (const double temperature : {0.5, 1.0, 3.0}) {
    double sum = 0;
    for (const float x : logits) sum += std::exp(x / temperature);
    constexpr int n = 10000;
    std::vector<int> drawn(logits.size());
    for (int i = 0; i < n; i++)
      drawn[static_cast<size_t>(sample_token<float>(logits, {.temperature = temperature}, (i + 0.5) / n))]++;
    for (size_t v = 0; v < logits.size(); v++)
      EXPECT_NEAR(drawn[v], n * std::exp(logits[v] / temperature) / sum, 1.0) << v << " at " << temperature;
  }
  EXPECT_EQ(sample_token<float>(logits, {}, 0.999), 2);
  EXPECT_EQ(sample_token<float>(std::vector<float>{1, 3, 3}, {}, 0), 1);
  for (const float wrong : {NAN, INFINITY}) {
    for (size_t at = 0; at < 3; at++) {
      std::vector<float> bad = {1, 2, 3};
      bad[at] = wrong;
      for (const double temperature : {0.0, 1.0})
        EXPECT_THROW(sample_token<float>(bad, {.temperature = temperature}, 0.5), Error);
    }
  }
}

// The mean of n uniform numbers has standard deviation 0.29/√n; 5 of them are allowed.
TEST(Sampling, UniformNumbersAreSpread) {
  double sum = 0;
  std::set<double> seen;
  for (uint64_t seed : {0u, 1u, 42u})
    for (uint64_t request = 0; request < 20; request++)
      for (uint64_t token = 0; token < 50; token++) {
        const double u = sampling_uniform(seed, request, token);
        EXPECT_TRUE(u >= 0 && u < 1);
        sum += u;
        seen.insert(u);
      }
  EXPECT_EQ(seen.size(), 3000u);
  EXPECT_NEAR(sum / 3000, 0.5, 5 * 0.29 / std::sqrt(3000));
}

TEST(Sampling, TopKKeepsTiesWithTheLast) {
  expect_shares(shares(kLogits, {.temperature = 1, .top_k = 1}), {0, 0, 1, 0, 0, 0});
  const std::vector<double> three = softmax_of(kLogits, {false, false, true, true, true, false});
  expect_shares(shares(kLogits, {.temperature = 1, .top_k = 2}), three);
  expect_shares(shares(kLogits, {.temperature = 1, .top_k = 3}), three);
  expect_shares(shares(kLogits, {.temperature = 1, .top_k = 100}), softmax_of(kLogits, std::vector<bool>(6, true)));
}

// The softmax has 0.450 for id 2, 0.212 for each of ids 3 and 4, 0.100 for id 0.
TEST(Sampling, TopPKeepsTheFewestThatSuffice) {
  const std::vector<double> p = softmax_of(kLogits, std::vector<bool>(6, true));
  const auto kept = [](std::vector<bool> ids) { return softmax_of(kLogits, ids); };
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1e-9}), {0, 0, 1, 0, 0, 0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = p[2] - 1e-6}), kept({false, false, true, false, false, false}));
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = p[2] + 1e-6}), kept({false, false, true, true, false, false}));
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = p[2] + p[3] + 1e-6}), kept({false, false, true, true, true, false}));
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1 - p[5] / 2}), kept({true, true, true, true, true, true}));
  // Of the two that top_k leaves of three, the first has 0.731 of the probability; of all three, 0.665.
  expect_shares(shares({3, 2, 1}, {.temperature = 1, .top_k = 2, .top_p = 0.7}), softmax_of({3, 2, 1}, {true, false, false}));
}

TEST(Sampling, MinPIsRelativeToTheMostLikely) {
  const double ratio = std::exp(1.25 - 2.0);
  expect_shares(shares(kLogits, {.temperature = 1, .min_p = ratio * 1.001}), {0, 0, 1, 0, 0, 0});
  expect_shares(shares(kLogits, {.temperature = 1, .min_p = ratio * 0.999}),
                softmax_of(kLogits, {false, false, true, true, true, false}));
  expect_shares(shares(kLogits, {.temperature = 2, .min_p = ratio * 1.001}),  // exp(-0.375) is above it
                softmax_of(kLogits, {false, false, true, true, true, false}, 2));
  expect_shares(shares(kLogits, {.temperature = 1, .min_p = 1}), {0, 0, 1, 0, 0, 0});
}

TEST(Sampling, APenaltyMakesRepeatedTokensLessLikely) {
  const std::vector<int32_t> text = {2, 1, 2, 99};  // twice counts once; an id beyond the logits is nothing
  const std::vector<float> changed = {0.5f, -1.5f, 2.0f / 1.5f, 1.25f, 1.25f, -3.0f};
  expect_shares(shares(kLogits, {.temperature = 1, .repeat_penalty = 1.5}, text),
                softmax_of(changed, std::vector<bool>(6, true)));
  EXPECT_EQ(sample_token<float>(kLogits, {.repeat_penalty = 1.5}, 0, text), 2);
  EXPECT_EQ(sample_token<float>(kLogits, {.repeat_penalty = 1.7}, 0, text), 3);
}

}  // namespace
}  // namespace tll
