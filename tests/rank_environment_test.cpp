// Where a process stands among ranks, from what each launcher sets, and what is refused.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "src/ranks/environment.h"
#include "tests/refusal.h"

namespace tll {
namespace {

using Variables = std::map<std::string, std::string>;

std::optional<RankPlace> place_of(const Variables& variables) {
  return place_from_environment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}
std::string refused(const Variables& variables) {
  return refusal_of([&] { place_of(variables); }, kExitUsage);
}
// "rank/size local_rank/local_size", or "none".
std::string numbers(const std::optional<RankPlace>& place) {
  if (!place) return "none";
  return fmt::format("{}/{} {}/{}", place->rank, place->size, place->local_rank, place->local_size);
}
Variables with(Variables variables, const Variables& more, const std::string& without = "") {
  for (const auto& [name, value] : more) variables[name] = value;
  variables.erase(without);
  return variables;
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node0"},
                             {"MASTER_PORT", "1234"},
                             {"TORCHELASTIC_RUN_ID", "none"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};
const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "3"},
                            {"OMPI_COMM_WORLD_SIZE", "4"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                            {"PMIX_RANK", "3"},
                            {"PMIX_NAMESPACE", "prterun-host/77@1"}};
const Variables kSlurm = {{"SLURM_JOB_ID", "400"}, {"SLURM_STEP_ID", "0"},        {"SLURM_PROCID", "6"},
                          {"SLURM_NTASKS", "7"},   {"SLURM_LOCALID", "0"},        {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                          {"SLURM_NODEID", "3"},   {"SLURM_STEP_NUM_TASKS", "7"}, {"MASTER_ADDR", "node-a"}};
const Variables kTrainJob = {{"PET_NNODES", "3"},
                             {"PET_NPROC_PER_NODE", "4"},
                             {"PET_NODE_RANK", "2"},
                             {"PET_MASTER_ADDR", "job-node-0-0.job"},
                             {"PET_MASTER_PORT", "29400"}};

TEST(RankEnvironment, NothingWithoutALauncher) {
  EXPECT_EQ(numbers(place_of({})), "none");
  EXPECT_EQ(numbers(place_of({{"HOME", "/root"}, {"LOCAL_RANK", "-1"}, {"RANK", ""}, {"WORLD_SIZE", "-1"}})), "none");
  EXPECT_EQ(numbers(place_of({{"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}})), "none");
}

TEST(RankEnvironment, Torchrun) {
  const auto place = place_of(kTorchrun);
  EXPECT_EQ(numbers(place), "5/8 1/4");
  EXPECT_EQ(place->master_address, "node0");
  EXPECT_EQ(place->master_port, 1234);
  EXPECT_EQ(place->launcher, "torchrun");
  EXPECT_EQ(place->to_start, 1);
  EXPECT_FALSE(place->has_mpi);
  EXPECT_FALSE(place->on_one_machine());
  // A restart is another run, and so is one with another port.
  EXPECT_NE(place->run, place_of(with(kTorchrun, {{"TORCHELASTIC_RESTART_COUNT", "3"}}))->run);
  EXPECT_NE(place->run, place_of(with(kTorchrun, {{"MASTER_PORT", "1235"}}))->run);
  EXPECT_EQ(place->run, place_of(with(kTorchrun, {{"RANK", "4"}, {"LOCAL_RANK", "0"}}))->run);
}

TEST(RankEnvironment, OneRankIsOneRank) {
  EXPECT_EQ(numbers(place_of({{"WORLD_SIZE", "1"}})), "0/1 0/1");
  EXPECT_EQ(numbers(place_of({{"WORLD_SIZE", "1"}, {"RANK", "0"}, {"LOCAL_RANK", "0"}})), "0/1 0/1");
}

TEST(RankEnvironment, LocalRanksThatFollow) {
  const Variables by_hand = {{"RANK", "1"}, {"WORLD_SIZE", "3"}};
  for (const char* here : {"localhost", "127.0.0.1", "::1"})
    EXPECT_EQ(numbers(place_of(with(by_hand, {{"MASTER_ADDR", here}}))), "1/3 1/3") << here;
  EXPECT_EQ(numbers(place_of(with(by_hand, {{"LOCAL_WORLD_SIZE", "3"}}))), "1/3 1/3");
  EXPECT_EQ(numbers(place_of(with(by_hand, {{"MASTER_ADDR", "pod-0"}}))), "1/3 0/1");  // one for each machine
  EXPECT_EQ(numbers(place_of(with(by_hand, {{"MASTER_ADDR", "pod-0"}, {"LOCAL_WORLD_SIZE", "1"}}))), "1/3 0/1");
  EXPECT_EQ(place_of(with(by_hand, {{"MASTER_ADDR", "localhost"}}))->launcher, "RANK and WORLD_SIZE");
  EXPECT_EQ(place_of(with(by_hand, {{"MASTER_ADDR", "localhost"}}))->master_port, 29500);

  EXPECT_TRUE(says(refused(by_hand), "WORLD_SIZE=3, but not LOCAL_RANK and LOCAL_WORLD_SIZE"));
  EXPECT_TRUE(says(refused(by_hand), "MASTER_ADDR=localhost"));
  EXPECT_TRUE(
      says(refused(with(by_hand, {{"MASTER_ADDR", "pod-0"}, {"LOCAL_RANK", "0"}})), "LOCAL_RANK, but not LOCAL_WORLD_SIZE"));
  EXPECT_TRUE(says(refused(with(by_hand, {{"MASTER_ADDR", "pod-0"}, {"LOCAL_WORLD_SIZE", "2"}})),
                   "LOCAL_WORLD_SIZE, but not LOCAL_RANK"));
}

TEST(RankEnvironment, MpiLaunchers) {
  const auto open_mpi = place_of(kOpenMpi);
  EXPECT_EQ(numbers(open_mpi), "3/4 1/2");
  EXPECT_EQ(open_mpi->launcher, "Open MPI");
  EXPECT_TRUE(open_mpi->has_mpi);
  EXPECT_EQ(open_mpi->run.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_."), std::string::npos) << open_mpi->run;

  const auto pmi = place_of({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}});
  EXPECT_EQ(numbers(pmi), "1/2 1/2");
  EXPECT_FALSE(pmi->has_mpi);
  EXPECT_EQ(numbers(place_of({{"MV2_COMM_WORLD_RANK", "1"},
                              {"MV2_COMM_WORLD_SIZE", "2"},
                              {"MV2_COMM_WORLD_LOCAL_RANK", "1"},
                              {"MV2_COMM_WORLD_LOCAL_SIZE", "2"}})),
            "1/2 1/2");
}

TEST(RankEnvironment, TheFirstWholeRowCounts) {
  // torchrun started by mpirun on each machine: its ranks are not mpirun's.
  const auto inside = place_of(with(kOpenMpi, kTorchrun));
  EXPECT_EQ(numbers(inside), "5/8 1/4");
  EXPECT_FALSE(inside->has_mpi);
  // The same ranks under both names.
  EXPECT_TRUE(
      place_of(with(kOpenMpi, {{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}}))->has_mpi);
  // A RANK that means something else.
  EXPECT_EQ(numbers(place_of(with(kOpenMpi, {{"RANK", "8"}}))), "3/4 1/2");
  EXPECT_EQ(place_of(with(kSlurm, kOpenMpi))->launcher, "Open MPI");
  EXPECT_EQ(numbers(place_of(with(kTrainJob, kTorchrun))), "5/8 1/4");
}

TEST(RankEnvironment, Slurm) {
  EXPECT_EQ(numbers(place_of(kSlurm)), "6/7 0/1");
  EXPECT_EQ(place_of(kSlurm)->launcher, "Slurm");
  EXPECT_EQ(place_of(kSlurm)->run, "400.0");
  EXPECT_EQ(place_of(kSlurm)->master_address, "node-a");
  EXPECT_EQ(numbers(place_of(with(kSlurm, {{"SLURM_NODEID", "2"}, {"SLURM_PROCID", "5"}, {"SLURM_LOCALID", "1"}}))), "5/7 1/2");
  EXPECT_EQ(numbers(place_of(with(kSlurm, {{"SLURM_NTASKS_PER_NODE", "3"}}, "SLURM_STEP_TASKS_PER_NODE"))), "6/7 0/3");
  EXPECT_EQ(numbers(place_of({{"SLURM_STEP_ID", "3"},
                              {"SLURM_PROCID", "1"},
                              {"SLURM_NTASKS", "2"},
                              {"SLURM_LOCALID", "1"},
                              {"SLURM_STEP_TASKS_PER_NODE", "2"}})),
            "1/2 1/2");
  // PMI-2 says no local ranks; Slurm does.
  const auto pmi = place_of(with(kSlurm, {{"PMI_RANK", "6"}, {"PMI_SIZE", "7"}}));
  EXPECT_EQ(numbers(pmi), "6/7 0/1");
  EXPECT_EQ(pmi->launcher, "Slurm");
  // With PMIx, MPI finds rank 0 by itself.
  EXPECT_TRUE(place_of(with(kSlurm, {{"PMIX_RANK", "6"}}, "MASTER_ADDR"))->has_mpi);

  EXPECT_TRUE(says(refused(with(kSlurm, {}, "MASTER_ADDR")), "MASTER_ADDR is not set"));
  EXPECT_TRUE(says(refused(with(kSlurm, {}, "SLURM_PROCID")), "not SLURM_PROCID"));
  EXPECT_TRUE(says(refused(with(kSlurm, {}, "SLURM_STEP_TASKS_PER_NODE")), "--ntasks-per-node"));
  for (const char* list : {"2(3)", "2(x3", "x", "2(x3),", "0(x3),1", "2(x)", "2;1"})
    EXPECT_TRUE(says(refused(with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", list}})), "as in 2(x3),1")) << list;
}

TEST(RankEnvironment, AShellOfSlurmIsNoRank) {
  const Variables batch = {{"SLURM_JOB_ID", "400"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"},
                           {"SLURM_LOCALID", "0"},  {"SLURM_NNODES", "2"}, {"SLURM_TASKS_PER_NODE", "2(x2)"}};
  EXPECT_EQ(numbers(place_of(batch)), "none");
  EXPECT_EQ(numbers(place_of(with(batch, {{"SLURM_STEP_ID", "4294967290"}}))), "none");                        // salloc's
  EXPECT_EQ(numbers(place_of(with(batch, {{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}))), "none");  // srun --pty bash
}

TEST(RankEnvironment, TrainJob) {
  const auto place = place_of(kTrainJob);
  EXPECT_EQ(numbers(place), "8/12 0/4");
  EXPECT_EQ(place->to_start, 4);
  EXPECT_EQ(place->master_address, "job-node-0-0.job");
  EXPECT_EQ(place->master_port, 29400);
  EXPECT_EQ(place->launcher, "Kubeflow TrainJob");
  const auto one_each = place_of(with(kTrainJob, {{"PET_NPROC_PER_NODE", "1"}}));
  EXPECT_EQ(numbers(one_each), "2/3 0/1");
  EXPECT_EQ(one_each->master_address, "job-node-0-0.job");
  EXPECT_EQ(one_each->master_port, 29400);
  EXPECT_EQ(numbers(place_of({{"PET_NNODES", "1"}, {"PET_NPROC_PER_NODE", "2"}})), "0/2 0/2");
  EXPECT_EQ(numbers(place_of({{"PET_NNODES", "1"}, {"PET_NPROC_PER_NODE", "auto"}})), "none");

  EXPECT_TRUE(says(refused(with(kTrainJob, {{"PET_NPROC_PER_NODE", "gpu"}})), "PET_NPROC_PER_NODE=gpu: set numProcPerNode"));
  EXPECT_TRUE(says(refused(with(kTrainJob, {}, "PET_NPROC_PER_NODE")), "PET_NPROC_PER_NODE is not set"));
  EXPECT_TRUE(says(refused(with(kTrainJob, {}, "PET_NODE_RANK")), "not PET_NODE_RANK"));
  EXPECT_TRUE(says(refused(with(kTrainJob, {}, "PET_MASTER_ADDR")), "PET_MASTER_ADDR is not set"));
  EXPECT_TRUE(says(refused(with(kTrainJob, {{"PET_NODE_RANK", "3"}})), "PET_NODE_RANK=3 and PET_NNODES=3"));
  EXPECT_TRUE(says(refused(with(kTrainJob, {{"PET_NNODES", "1:4"}})), "PET_NNODES=1:4"));
}

TEST(RankEnvironment, WhatIsNotWholeIsRefused) {
  EXPECT_TRUE(says(refused({{"RANK", "1"}}), "RANK=1, but not WORLD_SIZE"));
  EXPECT_TRUE(says(refused({{"WORLD_SIZE", "4"}}), "WORLD_SIZE=4, but not RANK"));
  EXPECT_TRUE(says(refused({{"OMPI_COMM_WORLD_SIZE", "4"}}), "not OMPI_COMM_WORLD_RANK"));
  EXPECT_TRUE(
      says(refused(with(kTorchrun, {{"RANK", "8"}})), "RANK=8 and WORLD_SIZE=8: ranks are counted from 0, so the last one is 7"));
  EXPECT_TRUE(says(refused(with(kTorchrun, {{"LOCAL_RANK", "4"}})), "LOCAL_RANK=4 and LOCAL_WORLD_SIZE=4"));
  EXPECT_TRUE(says(refused(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "9"}})), "fewer ranks in all"));
  EXPECT_TRUE(says(refused(with(kTorchrun, {}, "MASTER_ADDR")), "8 ranks on several machines (4 of them here), but MASTER_ADDR"));
  for (const char* wrong : {"two", "1.5", "0x1", "3 ", "-2", "99999999999", "+1"})
    EXPECT_TRUE(says(refused(with(kTorchrun, {{"RANK", wrong}})), fmt::format("RANK={}: expected a whole number", wrong)));
  EXPECT_TRUE(says(refused(with(kTorchrun, {{"WORLD_SIZE", "0"}})), "WORLD_SIZE=0: expected"));
  for (const char* wrong : {"0", "65536", "http"})
    EXPECT_TRUE(says(refused(with(kTorchrun, {{"MASTER_PORT", wrong}})), "MASTER_PORT")) << wrong;
}

}  // namespace
}  // namespace tll
