// Every planted bug is found under every seed, and the code without the bug passes. TLL_SEEDS=10 tries more seeds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "dev/emulator/tests/planted.h"
#include "emulator/emulator.h"

namespace planted {
std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
}  // namespace planted

namespace {

using emulator::Fault;
using planted::Case;
using planted::kValues;

struct Outcome {
  std::vector<emulator::Report> reports;
  cudaError_t error = cudaSuccess;
  int wrong = 0;  // values of result, of a case without faults
};
Outcome run(const Case& c, bool bug) {
  static planted::Memory m;
  std::vector<float> host(kValues);
  for (int i = 0; i < kValues; i++) host[static_cast<size_t>(i)] = static_cast<float>(i % 7);
  std::memset(m.result, 0, sizeof(m.result));
  // As in the program's arena: one allocation, tensors with gaps between them.
  constexpr size_t kBytes = kValues * sizeof(float), kGap = 256;
  char* arena = nullptr;
  EXPECT_EQ(cudaMalloc(&arena, 2 * kBytes + 3 * kGap), cudaSuccess);
  m.in = reinterpret_cast<float*>(arena);
  m.out = reinterpret_cast<float*>(arena + kBytes + kGap);
  m.counter = reinterpret_cast<int*>(arena + 2 * (kBytes + kGap));
  emulator::name_tensor(m.in, kBytes, "input");
  emulator::name_tensor(m.out, kBytes, "output");
  emulator::name_tensor(m.counter, 64 * sizeof(int), "counter");
  EXPECT_EQ(cudaHostAlloc(&m.pinned, kBytes, cudaHostAllocDefault), cudaSuccess);
  std::memset(m.pinned, 0, kBytes);
  cudaMemcpy(m.in, host.data(), kBytes, cudaMemcpyHostToDevice);
  cudaMemset(m.counter, 0, 64 * sizeof(int));
  emulator::take_reports();
  c.run(bug, m);
  if (c.faults.empty()) {
    EXPECT_EQ(cudaMemcpy(m.result, m.out, 256 * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
  }
  Outcome outcome;
  outcome.error = cudaDeviceSynchronize();
  outcome.reports = emulator::take_reports();
  for (int i = 0; c.faults.empty() && i < 256; i++) outcome.wrong += m.result[i] != static_cast<float>(i);
  cudaFree(arena);
  cudaFreeHost(m.pinned);
  cudaGetLastError();
  return outcome;
}

struct PlantedBugs : testing::Test {
  const emulator::Options before = emulator::options();
  PlantedBugs() {
    emulator::options().print = false;
    emulator::options().registers["planted::touch_kernel<true>"] = 68;
  }
  ~PlantedBugs() override { emulator::options() = before; }
};

// The report of a kernel's fault names the kernel, a source line and, where memory is at fault, a tensor.
void expect_complete(const emulator::Report& r) {
  if (r.fault == Fault::host || r.fault == Fault::launch) return;
  EXPECT_TRUE(r.kernel.starts_with("planted::")) << r.message;
  EXPECT_NE(r.place.file.find("planted_"), std::string::npos) << r.message;
  EXPECT_GT(r.place.line, 0) << r.message;
  const bool memory = r.fault == Fault::race || r.fault == Fault::uninitialised || r.fault == Fault::copy_in_flight;
  EXPECT_TRUE(!memory || !r.tensor.empty()) << r.message;
  EXPECT_TRUE(r.fault != Fault::race || r.other.line > 0) << r.message;
}

TEST_F(PlantedBugs, AreFoundUnderEverySeed) {
  const char* seeds = std::getenv("TLL_SEEDS");
  const char* only = std::getenv("TLL_CASE");
  for (int arch : {750, 800, 860, 900})
    for (uint64_t seed = 1; seed <= (seeds ? std::strtoull(seeds, nullptr, 10) : 2); seed++)
      for (int workers : {1, 2, 4})
        for (const Case& c : planted::cases()) {
          if (arch < c.first_arch || arch > c.last_arch || (only && std::string(only) != c.name)) continue;
          SCOPED_TRACE(std::string(c.name) + " sm_" + std::to_string(arch / 10) + " seed " + std::to_string(seed) + " workers " +
                       std::to_string(workers));
          emulator::options().arch = arch;
          emulator::options().seed = seed;
          emulator::options().workers = workers;
          const Outcome bad = run(c, true);
          if (c.faults.empty()) {
            EXPECT_TRUE(bad.reports.empty());
            EXPECT_GT(bad.wrong, 0);
          } else {
            EXPECT_GE(bad.reports.size(), 1u);
            for (const emulator::Report& r : bad.reports) {
              EXPECT_TRUE(std::count(c.faults.begin(), c.faults.end(), r.fault)) << r.message;
              expect_complete(r);
              if (only && seed == 1) std::printf("%s\n", r.message.c_str());
            }
          }
          const Outcome good = run(c, false);
          EXPECT_TRUE(good.reports.empty()) << good.reports[0].message;
          EXPECT_EQ(good.error, cudaSuccess);
          EXPECT_EQ(good.wrong, 0);
        }
}

// For people: one report of each.
TEST_F(PlantedBugs, DISABLED_Print) {
  for (const Case& c : planted::cases()) {
    emulator::options().arch = std::max(750, c.first_arch);
    for (const emulator::Report& r : run(c, true).reports) std::printf("%-24s %s\n", c.name, r.message.c_str());
  }
}

const Case& find(const std::string& name) {
  for (const Case& c : planted::cases())
    if (name == c.name) return c;
  ADD_FAILURE() << name;
  return planted::cases().front();
}

// A report names kernel, block, thread and array, and both lines.
TEST_F(PlantedBugs, ReportsNameThePlaces) {
  const auto barrier = run(find("refill"), true).reports;
  ASSERT_EQ(barrier.size(), 1u);
  EXPECT_EQ(barrier[0].kernel, "planted::refill_kernel<true>");
  EXPECT_EQ(barrier[0].tensor, "s");
  EXPECT_TRUE(barrier[0].place.file.ends_with("planted_block.cu")) << barrier[0].message;
  EXPECT_NE(barrier[0].place.line, barrier[0].other.line);

  const auto end = run(find("past_the_end"), true).reports;
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0].block.x, 32u);
  EXPECT_EQ(end[0].thread.x, 0u);
  EXPECT_TRUE(end[0].tensor == "input" || end[0].tensor == "output") << end[0].message;

  const auto index = run(find("shared_index"), true).reports;
  ASSERT_EQ(index.size(), 1u);
  EXPECT_TRUE(index[0].place.file.ends_with("planted_block.cu"));
  EXPECT_GT(index[0].place.line, 0);
}

// Register counts are read from the output of nvcc and of dev/check_spills.sh.
TEST_F(PlantedBugs, RegistersAreReadFromReports) {
  const std::string file = testing::TempDir() + "registers.txt";
  std::ofstream(file)
      << "ptxas info    : Compiling entry function 'void tll::(anonymous namespace)::one_kernel<(int)4>(float*)' for "
         "'sm_80'\nptxas info    : Used 77 registers, used 1 barriers\n"
         "ptxas info    : Compiling entry function 'tll::two(float*)' for 'sm_90'\n"
         "ptxas info    : Used 78 registers\n"
         "sm_80    128 registers     0 bytes spilled     0 stack  three<float, 64>\n"
         "sm_75    255 registers     8 bytes spilled     0 stack  four   SPILLS\n"
         "4 kernels, 1 spill\n";
  emulator::options().arch = 800;
  emulator::options().registers.clear();
  EXPECT_EQ(emulator::read_registers(file), 2u);
  const std::map<std::string, int> expected{{"one_kernel<(int)4>", 77}, {"three<float,64>", 128}};
  EXPECT_EQ(emulator::options().registers, expected);
  EXPECT_EQ(emulator::read_registers(file + ".missing"), 0u);
}

// The host may not use the gap between two tensors either.
TEST_F(PlantedBugs, GapsBetweenNamedTensorsAreOutOfBounds) {
  char* arena = nullptr;
  ASSERT_EQ(cudaMalloc(&arena, 1024), cudaSuccess);
  emulator::name_tensor(arena, 100, "first");
  emulator::name_tensor(arena + 256, 100, "second");
  EXPECT_EQ(cudaMemset(arena, 0, 100), cudaSuccess);
  EXPECT_TRUE(emulator::is_written(arena, 100));
  EXPECT_TRUE(emulator::take_reports().empty());
  EXPECT_NE(cudaMemset(arena + 100, 0, 4), cudaSuccess);
  EXPECT_EQ(emulator::take_reports().size(), 1u);
  EXPECT_NE(cudaMemset(arena, 0, 260), cudaSuccess);
  EXPECT_EQ(emulator::take_reports().size(), 1u);
  cudaFree(arena);
}

}  // namespace
