#include "src/train/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tll {
namespace {

constexpr ScheduleKind kKinds[] = {ScheduleKind::kConstantWithWarmup, ScheduleKind::kLinear, ScheduleKind::kCosine};

TEST(Schedule, ValuesOfTheFormula) {
  // transformers' get_linear_schedule_with_warmup(num_warmup_steps=2, num_training_steps=6), and the cosine one.
  const double linear[] = {0, 0.5, 1, 0.75, 0.5, 0.25};
  const double cosine[] = {0, 0.5, 1, 0.8535533905932737, 0.5, 0.14644660940672627};
  const double constant[] = {0, 0.5, 1, 1, 1, 1};
  for (int k = 0; k < 6; ++k) {
    EXPECT_DOUBLE_EQ((Schedule{ScheduleKind::kLinear, 1, 6, 2}.factor(k)), linear[k]) << k;
    EXPECT_NEAR((Schedule{ScheduleKind::kCosine, 1, 6, 2}.factor(k)), cosine[k], 1e-15) << k;
    EXPECT_DOUBLE_EQ((Schedule{ScheduleKind::kConstantWithWarmup, 1, 6, 2}.factor(k)), constant[k]) << k;
    EXPECT_DOUBLE_EQ((Schedule{ScheduleKind::kLinear, 2e-4, 6, 2}.learning_rate(k)), 2e-4 * linear[k]) << k;
  }
}

TEST(Schedule, RisesThenFallsAndNeverReachesZeroAtTheEnd) {
  for (ScheduleKind kind : kKinds) {
    for (int64_t n : {1, 2, 3, 7, 100, 1009}) {
      for (int64_t w : {int64_t{0}, std::min<int64_t>(1, n - 1), n / 3, n - 1}) {
        const Schedule schedule{kind, 1, n, w};
        EXPECT_EQ(schedule.factor(0), w > 0 ? 0 : 1);
        for (int64_t k = 1; k < n; ++k) {
          const double before = schedule.factor(k - 1), now = schedule.factor(k);
          if (k <= w) {
            EXPECT_GT(now, before);
          } else if (kind == ScheduleKind::kConstantWithWarmup) {
            EXPECT_EQ(now, before);
          } else {
            EXPECT_LT(now, before);
          }
        }
        EXPECT_EQ(schedule.factor(w), 1) << "n " << n << " w " << w;
        EXPECT_GT(schedule.factor(n - 1), 0);
      }
    }
  }
}

TEST(Schedule, WarmupLongerThanTheRunOnlyRises) {
  const Schedule schedule{ScheduleKind::kCosine, 1, 4, 8};
  for (int k = 0; k < 4; ++k) EXPECT_DOUBLE_EQ(schedule.factor(k), k / 8.0);
}

TEST(Schedule, WarmupRatioIsRoundedUpAndStepsReplaceIt) {
  const auto of = [](int64_t updates, std::optional<int64_t> steps, double ratio) {
    return warmup_updates(ScheduleKind::kCosine, updates, steps, ratio);
  };
  EXPECT_EQ(of(100, {}, 0.03), 3);
  EXPECT_EQ(of(101, {}, 0.03), 4);
  EXPECT_EQ(of(100, {}, 0), 0);
  EXPECT_EQ(of(100, 7, 0.03), 7);
  EXPECT_EQ(of(100, 0, 0.03), 0) << "given, so there is no warm-up";
}

TEST(Schedule, ARatioBelowOneLeavesStepsThatTrain) {
  EXPECT_EQ(warmup_updates(ScheduleKind::kCosine, 1, {}, 0.03), 0);
  EXPECT_EQ(warmup_updates(ScheduleKind::kLinear, 2, {}, 0.99), 0);
  EXPECT_EQ(warmup_updates(ScheduleKind::kLinear, 2, {}, 0.5), 1);
  EXPECT_EQ(warmup_updates(ScheduleKind::kLinear, 2, {}, 1), 2) << "asked for";
  EXPECT_EQ(warmup_updates(ScheduleKind::kLinear, 1, 1, 0.03), 1) << "asked for";
}

TEST(Schedule, ConstantHasNoWarmup) {
  for (const std::optional<int64_t> steps : {std::optional<int64_t>(), std::optional<int64_t>(5)}) {
    EXPECT_EQ(warmup_updates(ScheduleKind::kConstant, 100, steps, 0.1), 0);
    EXPECT_EQ(warmup_updates(ScheduleKind::kConstantWithWarmup, 100, steps, 0.1), steps.value_or(10));
  }
}

TEST(ScheduleDeathTest, UpdatesOutsideTheRun) {
  const Schedule schedule{ScheduleKind::kLinear, 1, 4, 0};
  EXPECT_DEATH(schedule.factor(4), "update 4 of 4");
  EXPECT_DEATH(schedule.factor(-1), "update -1 of 4");
}

}  // namespace
}  // namespace tll
