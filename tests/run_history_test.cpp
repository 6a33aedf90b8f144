#include "src/report/run_history.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/report/trainer_state.h"
#include "tests/allocations.h"

namespace tll {
namespace {

StepMetrics metrics(int64_t step, double loss) { return {step, loss, 0.5, 1e-3 / static_cast<double>(step), 100, 40, 0.25}; }

TEST(RunHistory, AShortRunKeepsEveryStep) {
  RunHistory history(3);
  history.evaluation(0, 9);
  for (int step = 1; step <= 3; step++) history.step(metrics(step, 10 - step));
  history.evaluation(3, 7);
  EXPECT_EQ(history.interval(), 1);
  ASSERT_EQ(history.entries().size(), 3u);
  EXPECT_EQ(history.entries()[1].loss, 8);
  EXPECT_EQ(history.entries()[1].step, 2);
  EXPECT_EQ(history.entries()[1].tokens, 100);
  // k = 0.9: (9 k^2 + 8 k + 7) / (k^2 + k + 1)
  EXPECT_EQ(history.smoothing(), 10);
  EXPECT_NEAR(history.entries()[2].smoothed, (9 * 0.81 + 8 * 0.9 + 7) / 2.71, 1e-12);
  EXPECT_EQ(history.evaluations().size(), 2u);
  EXPECT_EQ(history.best()->step, 3);
  EXPECT_EQ(history.steps(), 3);
}

TEST(RunHistory, ALongRunKeepsMeansOfAPowerOfTwo) {
  const int64_t steps = RunHistory::kMostEntries * 5;  // the power of two is 8
  RunHistory history(steps);
  ASSERT_EQ(history.interval(), 8);
  const int64_t before = allocations;
  for (int64_t step = 1; step <= steps - 3; step++) {
    history.step(metrics(step, static_cast<double>(step)));
    if (step % 2 == 0) history.evaluation(step, 5 + std::abs(static_cast<double>(step) - 100));
  }
  const int64_t made = allocations - before;
  EXPECT_TRUE(!allocations_are_counted() || made == 0) << made << " allocations";
  ASSERT_EQ(history.entries().size(), size_t(steps / 8));
  const HistoryEntry& second = history.entries()[1];
  EXPECT_EQ(second.step, 16) << "as a trainer logs each eighth step";
  EXPECT_EQ(second.loss, 12.5);
  EXPECT_EQ(second.least, 9);
  EXPECT_EQ(second.most, 16);
  EXPECT_EQ(second.tokens, 800);
  EXPECT_EQ(second.seconds, 2);
  EXPECT_EQ(second.lr, 1e-3 / 16);
  EXPECT_EQ(history.entries().back().step, steps - 3) << "not whole";
  EXPECT_EQ(history.entries().back().losses, 5);
  EXPECT_EQ(history.evaluations().size(), size_t(steps / 8));
  EXPECT_EQ(history.evaluations()[0].step, 8);
  EXPECT_EQ(history.best()->step, 100) << "not among those that are kept";
  EXPECT_EQ(history.best()->loss, 5);
}

TEST(RunHistory, WhatIsNotFiniteIsLeftOut) {
  RunHistory history(4);
  history.step(metrics(1, NAN));
  EXPECT_TRUE(std::isnan(history.entries()[0].loss));
  EXPECT_TRUE(std::isnan(history.entries()[0].smoothed));
  history.step(metrics(2, 3));
  history.step(metrics(3, INFINITY));
  history.evaluation(3, NAN);
  EXPECT_EQ(history.entries()[2].smoothed, 3);
  EXPECT_EQ(history.entries()[2].losses, 0);
  EXPECT_FALSE(history.best());
}

TEST(RunHistory, ReadsLinesOfTheLog) {
  RunHistory history(9);
  for (const char* line : {R"({"step":0,"eval_loss":3.5,"eval_perplexity":33.1,"run":"x"})", R"({"step":0,"sample":"before"})",
                           R"({"step":1,"loss":2.5,"grad_norm":0.1,"lr":0.0002,"tokens":300,"target_tokens":100,"seconds":0.25})",
                           R"({"step":2,"loss":null,"grad_norm":null,"lr":0.0001,"tokens":10,"seconds":0.25})",
                           R"({"step":2,"sample":7,"something":"else"})"})
    history.line(Json::parse(line));
  ASSERT_EQ(history.entries().size(), 2u);
  EXPECT_EQ(history.entries()[0].loss, 2.5);
  EXPECT_EQ(history.entries()[0].lr, 0.0002);
  EXPECT_EQ(history.entries()[0].seconds, 0.25);
  EXPECT_TRUE(std::isnan(history.entries()[1].loss));
  EXPECT_EQ(history.evaluations().size(), 1u);
  ASSERT_EQ(history.samples().size(), 1u);
  EXPECT_EQ(history.samples()[0].text, "before");
}

TEST(RunHistory, KeepsTheFirstSampleAndTheNewest) {
  RunHistory history(1000);
  for (int64_t step = 0; step < 100; step++) history.sample(step, std::to_string(step));
  ASSERT_EQ(history.samples().size(), RunHistory::kMostSamples);
  EXPECT_EQ(history.samples().front().step, 0);
  EXPECT_EQ(history.samples()[1].step, 100 - int64_t(RunHistory::kMostSamples) + 1);
  EXPECT_EQ(history.samples().back().text, "99");
  history.sample(100, std::string(1 << 20, 'x'));
  EXPECT_EQ(history.samples().back().text.size(), RunHistory::kLongestSample);
}

TEST(TrainerStateJson, AsTrainerLogs) {
  RunHistory history(4);
  history.evaluation(0, 4);
  history.step(metrics(1, 3));
  history.step(metrics(2, NAN));
  history.evaluation(2, 2.5);
  history.step(metrics(3, 2));
  TrainerStateFacts facts{.step = 3, .total_steps = 4, .steps_per_epoch = 2, .epochs = 1.5, .eval_steps = 2, .tokens = 300};
  facts.best_checkpoint = "out/checkpoint-2";
  Json state = trainer_state_json(history, facts);
  EXPECT_EQ(state.at("global_step"), 3);
  EXPECT_EQ(state.at("max_steps"), 4);
  EXPECT_EQ(state.at("epoch"), 1.5);
  EXPECT_EQ(state.at("num_train_epochs"), 2);
  EXPECT_EQ(state.at("logging_steps"), 1);
  EXPECT_EQ(state.at("eval_steps"), 2);
  EXPECT_EQ(state.at("save_steps"), 4);
  EXPECT_EQ(state.at("best_metric"), 2.5);
  EXPECT_EQ(state.at("best_global_step"), 2);
  EXPECT_EQ(state.at("best_model_checkpoint"), "out/checkpoint-2");
  const Json& log = state.at("log_history");
  ASSERT_EQ(log.size(), 5u);
  EXPECT_EQ(log[0], Json::parse(R"({"epoch":0.0,"step":0,"eval_loss":4.0,"eval_perplexity":54.598150033144236})"));
  EXPECT_EQ(log[1], Json::parse(R"({"epoch":0.5,"step":1,"loss":3.0,"grad_norm":0.5,"learning_rate":0.001})"));
  EXPECT_EQ(log[2], Json::parse(R"({"epoch":1.0,"step":2,"grad_norm":0.5,"learning_rate":0.0005})")) << "no null";
  EXPECT_EQ(log[3].at("eval_loss"), 2.5) << "after its step";
  EXPECT_EQ(log[4].at("step"), 3);

  facts.finished = true, facts.seconds = 2, facts.rows_per_step = 8, facts.flops = 1e9;
  state = trainer_state_json(history, facts);
  EXPECT_EQ(state.at("log_history").size(), 6u);
  EXPECT_EQ(state.at("log_history").back(),
            Json::parse(R"({"epoch":1.5,"step":3,"total_flos":1e9,"train_loss":2.5,"train_runtime":2.0,
                            "train_steps_per_second":1.5,"train_samples_per_second":12.0})"));
}

}  // namespace
}  // namespace tll
