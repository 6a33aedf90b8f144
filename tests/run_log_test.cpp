#include "src/report/run_log.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "src/base/file.h"
#include "src/report/memory_probe.h"
#include "tests/allocations.h"
#include "tests/json_lines.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class MetricsLogTest : public testing::Test {
 protected:
  const TemporaryDirectory path_;
};

constexpr const char* kRun = "0123456789abcdef";

StepMetrics metrics(int64_t step) { return {step, 2.5 / static_cast<double>(step), 0.1, 2e-4, 300, 100, 0.25}; }

TEST_F(MetricsLogTest, ALineAStep) {
  const fs::path path = path_ / "metrics.jsonl";
  MetricsLog log(path, kRun);
  log.step(metrics(1));
  log.step(metrics(2));
  log.evaluation(2, std::log(8.0));
  const auto found = json_lines(path);  // while the log is still open: every line is on its way
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0], Json::parse(R"({"step":1,"loss":2.5,"grad_norm":0.1,"lr":0.0002,"tokens":300,"target_tokens":100,
                                      "seconds":0.25,"tokens_per_second":1200,"run":"0123456789abcdef"})"));
  EXPECT_EQ(found[1].at("loss"), 1.25);
  EXPECT_EQ(found[2].at("step"), 2);
  EXPECT_NEAR(found[2].at("eval_perplexity").get<double>(), 8, 1e-12);
  EXPECT_EQ(found[2].at("run"), kRun);
  EXPECT_EQ(found[2].size(), 4u);
}

TEST_F(MetricsLogTest, NumbersAreExactAndAlwaysJson) {
  MetricsLog log(path_ / "m", kRun);
  StepMetrics m{std::numeric_limits<int64_t>::max(), 1.0 / 3, NAN, 5e-324, 1, 1, 0};
  log.step(m);
  m.loss = -std::numeric_limits<double>::max(), m.grad_norm = INFINITY;
  log.step(m);
  const auto found = json_lines(path_ / "m");
  EXPECT_EQ(found[0].at("loss").get<double>(), 1.0 / 3);
  EXPECT_EQ(found[0].at("lr").get<double>(), 5e-324);
  EXPECT_TRUE(found[0].at("grad_norm").is_null());
  EXPECT_TRUE(found[0].at("tokens_per_second").is_null()) << "no time passed";
  EXPECT_EQ(found[1].at("loss").get<double>(), -std::numeric_limits<double>::max());
  EXPECT_TRUE(found[1].at("grad_norm").is_null());
}

TEST_F(MetricsLogTest, ALineAllocatesNothing) {
  MetricsLog log(path_ / "m", kRun);
  if (!allocations_are_counted()) GTEST_SKIP() << "the sanitizer's operator new is in place of the counting one";
  const int64_t before = allocations;
  for (int step = 1; step <= 200; ++step) {
    StepMetrics m = metrics(step);
    m.loss = std::exp(-step) / 3;
    log.step(m);
    log.evaluation(step, 1e300 * step);
  }
  EXPECT_EQ(allocations, before);
  EXPECT_GT(process_memory().peak, 0);
  EXPECT_EQ(allocations, before);
}

// A sample is as long as it is, of one step there is one, and it is no line of a step.
TEST_F(MetricsLogTest, ASampleIsALineOfItsOwn) {
  const fs::path path = path_ / "m";
  const std::string text = "\"quoted\"\n\xe2\x82\xac" + std::string(5000, 'x');
  {
    MetricsLog log(path, kRun);
    log.step(metrics(1));
    for (int times = 0; times < 2; times++) log.sample(1, text);
    log.step(metrics(2));
    log.sample(2, "");
  }
  MetricsLog log(path, kRun, 2);
  EXPECT_EQ(log.earlier().last_loss, 1.25);
  EXPECT_EQ(log.earlier().sampled_at, 2);
  EXPECT_EQ(log.earlier().evaluated_at, -1);
  log.sample(2, "");
  const auto found = json_lines(path);
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[1], (Json{{"step", 1}, {"sample", text}, {"run", kRun}}));
  EXPECT_EQ(found[3].at("sample"), "");
}

TEST_F(MetricsLogTest, AFreshRunStartsAnew) {
  const fs::path path = path_ / "m";
  MetricsLog(path, kRun).step(metrics(7));
  MetricsLog(path, kRun).step(metrics(1));
  ASSERT_EQ(json_lines(path).size(), 1u);
  EXPECT_EQ(json_lines(path)[0].at("step"), 1);
}

TEST_F(MetricsLogTest, AResumedRunRepeatsNoStep) {
  const fs::path path = path_ / "m";
  {
    MetricsLog log(path, kRun);
    for (int step = 1; step <= 5; ++step) {
      log.step(metrics(step));
      if (step % 2 == 0) log.evaluation(step, 1);
    }
  }
  std::ofstream(path, std::ios::app) << R"({"step":6,"lo)";  // killed in a line
  {
    MetricsLog log(path, kRun, 4);
    EXPECT_EQ(log.earlier().first_loss, 2.5);
    EXPECT_EQ(log.earlier().last_loss, 2.5 / 4);
    EXPECT_EQ(log.earlier().evaluated_at, 4);
    log.step(metrics(5));
  }
  std::vector<std::pair<int, bool>> found;
  for (const Json& line : json_lines(path)) found.emplace_back(line.at("step"), line.contains("eval_loss"));
  EXPECT_EQ(found, (std::vector<std::pair<int, bool>>{
                       {1, false}, {2, false}, {2, true}, {3, false}, {4, false}, {4, true}, {5, false}}));
}

TEST_F(MetricsLogTest, ResumingDropsAnUnfinishedLineOfAKeptStep) {
  path_.write("m", "{\"step\":1}\n{\"step\":2");
  MetricsLog(path_ / "m", kRun, 2).step(metrics(3));
  EXPECT_EQ(json_lines(path_ / "m").size(), 2u);
}

TEST_F(MetricsLogTest, ResumingWithoutAFileStartsOne) {
  MetricsLog(path_ / "m", kRun, 9).step(metrics(10));
  EXPECT_EQ(json_lines(path_ / "m").size(), 1u);
}

TEST_F(MetricsLogTest, WhatIsNotALogIsRefused) {
  path_.write("m", "{\"step\":1}\n{\"stop\":2}\n");
  EXPECT_TRUE(says(refusal_of([&] { MetricsLog(path_ / "m", kRun, 2); }), "line 2"));
  EXPECT_EQ(read_file(path_ / "m"), "{\"step\":1}\n{\"stop\":2}\n") << "and left as it was";
  EXPECT_THROW(MetricsLog(path_ / "absent" / "m", kRun), Error);
}

TEST_F(MetricsLogTest, AFullDiskIsSaid) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  fs::create_symlink("/dev/full", path_ / "m");
  refusal_of([&] { MetricsLog(path_ / "m", kRun).step(metrics(1)); }, kExitFault);
}

TEST_F(MetricsLogTest, RunRecord) {
  const fs::path path = path_ / "run.json";
  const Json options = {{"lr", 0.5}, {"model", "caf\xe9"}}, plan = {{"total", 7}};
  write_json(path, {{"options", options}, {"plan", plan}, {"device", nullptr}, {"measured", nullptr}, {"result", nullptr}});
  const Json json = Json::parse(read_file(path));
  EXPECT_EQ(json.at("options").at("lr"), 0.5);
  EXPECT_EQ(json.at("options").at("model"), "caf\xef\xbf\xbd");
  EXPECT_EQ(json.at("plan").at("total"), 7);
  EXPECT_TRUE(json.at("result").is_null());
  EXPECT_EQ(json.size(), 5u);
  EXPECT_EQ(std::distance(fs::directory_iterator(path_.path()), fs::directory_iterator()), 1) << "no temporary file stays";
}

}  // namespace
}  // namespace tll
