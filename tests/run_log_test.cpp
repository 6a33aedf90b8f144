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

class Directory : public testing::Test {
 protected:
  const TemporaryDirectory path_;
};
using MetricsLogTest = Directory;
using MemoryProbe = Directory;

StepMetrics metrics(int64_t step) { return {step, 2.5 / static_cast<double>(step), 0.1, 2e-4, 300, 100, 0.25}; }

TEST_F(MetricsLogTest, ALineAStep) {
  const fs::path path = path_ / "metrics.jsonl";
  MetricsLog log(path);
  log.step(metrics(1));
  log.step(metrics(2));
  log.evaluation(2, std::log(8.0));
  const auto found = json_lines(path);  // while the log is still open: every line is on its way
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0], Json::parse(R"({"step":1,"loss":2.5,"grad_norm":0.1,"lr":0.0002,"tokens":300,"target_tokens":100,
                                      "seconds":0.25,"tokens_per_second":1200})"));
  EXPECT_EQ(found[1].at("loss"), 1.25);
  EXPECT_EQ(found[2].at("step"), 2);
  EXPECT_NEAR(found[2].at("eval_perplexity").get<double>(), 8, 1e-12);
  EXPECT_EQ(found[2].size(), 3u);
}

TEST_F(MetricsLogTest, NumbersAreExactAndAlwaysJson) {
  MetricsLog log(path_ / "m");
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
  MetricsLog log(path_ / "m");
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

TEST_F(MetricsLogTest, AFreshRunStartsAnew) {
  const fs::path path = path_ / "m";
  MetricsLog(path).step(metrics(7));
  MetricsLog(path).step(metrics(1));
  ASSERT_EQ(json_lines(path).size(), 1u);
  EXPECT_EQ(json_lines(path)[0].at("step"), 1);
}

TEST_F(MetricsLogTest, AResumedRunRepeatsNoStep) {
  const fs::path path = path_ / "m";
  {
    MetricsLog log(path);
    for (int step = 1; step <= 5; ++step) {
      log.step(metrics(step));
      if (step % 2 == 0) log.evaluation(step, 1);
    }
  }
  std::ofstream(path, std::ios::app) << R"({"step":6,"lo)";  // killed in a line
  {
    MetricsLog log(path, 4);
    log.step(metrics(5));
  }
  std::vector<std::pair<int, bool>> found;
  for (const Json& line : json_lines(path)) found.emplace_back(line.at("step"), line.contains("eval_loss"));
  EXPECT_EQ(found, (std::vector<std::pair<int, bool>>{
                       {1, false}, {2, false}, {2, true}, {3, false}, {4, false}, {4, true}, {5, false}}));
}

TEST_F(MetricsLogTest, ResumingDropsAnUnfinishedLineOfAKeptStep) {
  path_.write("m", "{\"step\":1}\n{\"step\":2");
  MetricsLog(path_ / "m", 2).step(metrics(3));
  EXPECT_EQ(json_lines(path_ / "m").size(), 2u);
}

TEST_F(MetricsLogTest, ResumingWithoutAFileStartsOne) {
  MetricsLog(path_ / "m", 9).step(metrics(10));
  EXPECT_EQ(json_lines(path_ / "m").size(), 1u);
}

TEST_F(MetricsLogTest, WhatIsNotALogIsRefused) {
  path_.write("m", "{\"step\":1}\n{\"stop\":2}\n");
  EXPECT_TRUE(says(refusal_of([&] { MetricsLog(path_ / "m", 2); }), "line 2"));
  EXPECT_EQ(read_file(path_ / "m"), "{\"step\":1}\n{\"stop\":2}\n") << "and left as it was";
  EXPECT_THROW(MetricsLog(path_ / "absent" / "m"), Error);
}

TEST_F(MetricsLogTest, AFullDiskIsSaid) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  fs::create_symlink("/dev/full", path_ / "m");
  refusal_of([&] { MetricsLog(path_ / "m").step(metrics(1)); }, kExitFault);
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

TEST_F(MemoryProbe, ThisProcess) {
  const ProcessMemory before = process_memory();
  EXPECT_GT(before.resident, 1 << 20);
  EXPECT_GE(before.peak, before.resident - (1 << 20));  // the two are read at slightly different times
  const std::string held(64 << 20, 'x');
  const ProcessMemory after = process_memory();
  EXPECT_GE(after.resident - before.resident, 60 << 20) << held[5];
  EXPECT_GE(after.peak, after.resident - (1 << 20));
}

TEST_F(MemoryProbe, ThisMachine) {
  const MachineMemory memory = machine_memory();
  EXPECT_GT(memory.available, 64 << 20);
  EXPECT_LE(memory.available, memory.total);
  EXPECT_GE(processor().threads, 1);
}

TEST_F(MemoryProbe, ControlGroups) {
  path_.write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
  EXPECT_EQ(machine_memory(path_).total, 16LL << 30);
  EXPECT_EQ(machine_memory(path_).available, 8LL << 30);
  // Version 2: the group itself has no limit, the one above it has.
  path_.write("proc/self/cgroup", "0::/outer/inner\n");
  path_.write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  path_.write("sys/fs/cgroup/outer/memory.max", "4294967296\n");
  path_.write("sys/fs/cgroup/outer/memory.current", "3221225472\n");
  path_.write("sys/fs/cgroup/outer/memory.stat", "anon 1\nactive_file 5\ninactive_file 1073741824\n");
  EXPECT_EQ(machine_memory(path_).total, 4LL << 30);
  EXPECT_EQ(machine_memory(path_).available, 2LL << 30) << "1 GiB is free and 1 GiB of cache can be";
  // Version 1 in a container: the path is the host's, the limit is at the mount.
  path_.write("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/docker/abc\n");
  path_.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
  path_.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n");
  EXPECT_EQ(machine_memory(path_).total, 2LL << 30);
  EXPECT_EQ(machine_memory(path_).available, 1LL << 30);
  path_.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(machine_memory(path_).total, 16LL << 30) << "that number means no limit";
}

TEST_F(MemoryProbe, ProcessorAndQuota) {
  std::string info;
  for (int cpu = 0; cpu < 1024; ++cpu) {  // two threads a core
    info += fmt::format(
        "processor\t: {}\nmodel name\t: A CPU @ 2 GHz\nphysical id\t: {}\ncore id\t\t: {}\nflags\t\t: fpu avx2 avx512f "
        "avx512_bf16 amx_tile\n\n",
        cpu, cpu / 64, cpu / 2);
  }
  path_.write("proc/cpuinfo", info);
  const Processor found = processor(path_);
  EXPECT_EQ(found.model, "A CPU @ 2 GHz");
  EXPECT_EQ(found.features, "avx2 avx512f avx512_bf16 amx_tile");
  EXPECT_EQ(found.threads, processor().threads) << "as many as this process may use";
  path_.write("proc/self/cgroup", "0::/\n");
  path_.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  EXPECT_EQ(processor(path_).threads, std::min(2, found.threads));
  path_.write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(processor(path_).threads, found.threads);
  path_.write("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd sve2 bf16\nCPU implementer\t: 0x41\n");
  EXPECT_EQ(processor(path_).features, "asimd sve2 bf16") << "as on arm64";
  EXPECT_EQ(processor(path_).model, "unnamed processor");
}

}  // namespace
}  // namespace tll
