// Every planted bug is found under every seed, and the same kernel without it passes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "dev/emulator/tests/planted.h"
#include "emulator/emulator.h"

namespace {

using emulator::Fault;
using planted::Case;
using planted::kValues;

// Without a barrier, whoever reads first reads what nobody has written yet, and whoever comes second races.
const std::map<std::string, std::vector<Fault>> kExpected = {
    {"missing_barrier", {Fault::race, Fault::uninitialised}},
    {"refill", {Fault::race}},
    {"past_the_end", {Fault::out_of_bounds}},
    {"shared_index", {Fault::out_of_bounds}},
    {"dynamic_shared_end", {Fault::out_of_bounds}},
    {"one_row_two_blocks", {Fault::race}},
    {"other_block_reads", {Fault::race}},
    {"divergent_barrier", {Fault::barrier}},
    {"early_exit", {Fault::barrier}},
    {"uninitialised_shared", {Fault::uninitialised}},
    {"uninitialised_device", {Fault::uninitialised}},
    {"misaligned_vector", {Fault::misaligned}},
    {"misaligned_pointer", {Fault::misaligned}},
    {"last_block", {Fault::race, Fault::uninitialised}},
    {"read_only_path", {Fault::race}},
    {"shift", {Fault::arithmetic}},
    {"int_overflow", {Fault::arithmetic}},
    {"host_pointer", {Fault::out_of_bounds}},
    {"too_much_shared", {Fault::launch}},
    {"no_opt_in", {Fault::launch}},
    {"unordered_copy", {Fault::host}},
    {"missing_warp_barrier", {Fault::race, Fault::uninitialised}},
    {"half_warp_barrier", {Fault::race, Fault::uninitialised}},
    {"shuffle_is_no_barrier", {Fault::race, Fault::uninitialised}},
    {"shuffle_lane", {Fault::collective}},
    {"shuffle_mask", {Fault::collective}},
    {"own_lane_missing", {Fault::collective}},
    {"active_mask", {Fault::collective}},
    {"exited_lane", {Fault::collective}},
    {"copy_without_wait", {Fault::copy_in_flight}},
    {"copy_without_barrier", {Fault::race, Fault::uninitialised}},
    {"pipeline", {Fault::copy_in_flight}},
    {"copy_source_misaligned", {Fault::misaligned}},
    {"ldmatrix_without_barrier", {Fault::race, Fault::uninitialised}},
    {"ldmatrix_pitch", {Fault::misaligned}},
};

struct Outcome {
  std::vector<emulator::Report> reports;
  cudaError_t error = cudaSuccess;
  int wrong = 0;  // values of result, of a numeric case
};
Outcome run(const Case& c, bool bug) {
  static planted::Memory m;
  std::vector<float> host(kValues);
  for (int i = 0; i < kValues; i++) host[static_cast<size_t>(i)] = static_cast<float>(i % 7);
  std::memset(m.result, 0, sizeof(m.result));
  EXPECT_EQ(cudaMalloc(&m.in, kValues * sizeof(float)), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&m.out, kValues * sizeof(float)), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&m.counter, sizeof(int)), cudaSuccess);
  cudaMemcpy(m.in, host.data(), kValues * sizeof(float), cudaMemcpyHostToDevice);
  cudaMemset(m.counter, 0, sizeof(int));
  emulator::take_reports();
  c.run(bug, m);
  Outcome outcome;
  outcome.error = cudaDeviceSynchronize();
  outcome.reports = emulator::take_reports();
  for (int i = 0; c.numeric && i < 256; i++) outcome.wrong += m.result[i] != static_cast<float>(i);
  cudaFree(m.in);
  cudaFree(m.out);
  cudaFree(m.counter);
  cudaGetLastError();
  return outcome;
}

struct Faults : testing::Test {
  const emulator::Options before = emulator::options();
  Faults() { emulator::options().print = false; }
  ~Faults() override { emulator::options() = before; }
};

TEST_F(Faults, EveryPlantedBugHasAnExpectation) {
  for (int i = 0; i < planted::kCaseCount; i++)
    EXPECT_EQ(kExpected.count(planted::kCases[i].name), planted::kCases[i].numeric ? 0u : 1u) << planted::kCases[i].name;
}

TEST_F(Faults, AreFoundUnderEverySeed) {
  for (int arch : {750, 800, 900})
    for (uint64_t seed = 1; seed <= 5; seed++)
      for (int workers : {1, 2})
        for (int i = 0; i < planted::kCaseCount; i++) {
          const Case& c = planted::kCases[i];
          if (arch < c.first_arch) continue;
          SCOPED_TRACE(std::string(c.name) + " sm_" + std::to_string(arch / 10) + " seed " + std::to_string(seed) + " workers " +
                       std::to_string(workers));
          emulator::options().arch = arch;
          emulator::options().seed = seed;
          emulator::options().workers = workers;
          const Outcome bad = run(c, true);
          if (c.numeric) {
            EXPECT_TRUE(bad.reports.empty());
            EXPECT_GT(bad.wrong, 0);
          } else {
            ASSERT_EQ(bad.reports.size(), 1u);
            const std::vector<Fault>& expected = kExpected.at(c.name);
            EXPECT_TRUE(std::count(expected.begin(), expected.end(), bad.reports[0].fault)) << bad.reports[0].message;
          }
          const Outcome good = run(c, false);
          EXPECT_TRUE(good.reports.empty()) << good.reports[0].message;
          EXPECT_EQ(good.error, cudaSuccess);
          EXPECT_EQ(good.wrong, 0);
        }
}

const Case& find(const std::string& name) {
  for (int i = 0; i < planted::kCaseCount; i++)
    if (name == planted::kCases[i].name) return planted::kCases[i];
  ADD_FAILURE() << name;
  return planted::kCases[0];
}

// A report says which kernel, block, thread and array, and both lines.
TEST_F(Faults, ReportsNameThePlaces) {
  const auto barrier = run(find("refill"), true).reports;
  ASSERT_EQ(barrier.size(), 1u);
  EXPECT_EQ(barrier[0].kernel, "planted::refill_kernel<true>");
  EXPECT_EQ(barrier[0].tensor, "s");
  EXPECT_TRUE(barrier[0].place.file.ends_with("planted_block.cu")) << barrier[0].message;
  EXPECT_GT(barrier[0].place.line, 0);
  EXPECT_GT(barrier[0].other.line, 0);
  EXPECT_NE(barrier[0].place.line, barrier[0].other.line);

  const auto end = run(find("past_the_end"), true).reports;
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0].block.x, 32u);
  EXPECT_EQ(end[0].thread.x, 0u);
  EXPECT_TRUE(end[0].tensor.starts_with("allocation ")) << end[0].message;

  const auto index = run(find("shared_index"), true).reports;
  ASSERT_EQ(index.size(), 1u);
  EXPECT_TRUE(index[0].place.file.ends_with("planted_block.cu"));
  EXPECT_GT(index[0].place.line, 0);
}

// Named tensors: a step from one into its neighbour's gap is found though the allocation goes on.
TEST_F(Faults, GapsBetweenNamedTensorsAreOutOfBounds) {
  planted::Memory m{};
  char* arena = nullptr;
  ASSERT_EQ(cudaMalloc(&arena, 4 * kValues * sizeof(float)), cudaSuccess);
  m.in = reinterpret_cast<float*>(arena);
  m.out = m.in + kValues + 64;
  emulator::name_tensor(m.in, kValues * sizeof(float), "input");
  emulator::name_tensor(m.out, kValues * sizeof(float), "output");
  const std::vector<float> host(kValues, 1.0f);
  ASSERT_EQ(cudaMemcpy(m.in, host.data(), kValues * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
  for (bool bug : {true, false}) {
    find("past_the_end").run(bug, m);
    cudaDeviceSynchronize();
    const auto reports = emulator::take_reports();
    ASSERT_EQ(reports.size(), bug ? 1u : 0u);
    if (bug) {
      EXPECT_EQ(reports[0].fault, Fault::out_of_bounds);
      EXPECT_TRUE(reports[0].tensor == "input" || reports[0].tensor == "output") << reports[0].message;
    }
  }
  EXPECT_TRUE(emulator::is_written(m.out, kValues * sizeof(float)));
  // The host may not use the gap either.
  EXPECT_NE(cudaMemset(m.in + kValues, 0, 4), cudaSuccess);
  EXPECT_EQ(emulator::take_reports().size(), 1u);
  cudaFree(arena);
}

}  // namespace
