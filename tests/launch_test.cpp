// The ranks of a run: processes that are started here, or that a launcher started, and how they end.
#include "src/ranks/launch.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "src/base/process.h"
#include "tests/collectives_model.h"
#include "tests/refusal.h"

namespace tll {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Variables = std::map<std::string, std::string>;
using Body = std::function<int(Ranks&)>;

EnvironmentLookup lookup_in(const Variables& variables) {
  return [variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

// A program in a process of its own, whose main() does what that of train_llama_lora does.
class Program {
 public:
  Program(const RankStart& start, const Body& body) {
    TLL_CHECK(pipe(out_) == 0 && pipe(error_) == 0, "no pipe");
    pid_ = fork();
    if (pid_ != 0) {
      close(out_[1]);
      close(error_[1]);
      return;
    }
    dup2(out_[1], STDOUT_FILENO);
    dup2(error_[1], STDERR_FILENO);
    for (const int end : {out_[0], out_[1], error_[0], error_[1]}) close(end);
    int code = 98;
    {
      std::optional<Ranks> ranks;
      try {
        ranks.emplace(start);
        code = body(*ranks);
        ranks->finish(code);
      } catch (const Error& error) {
        if (ranks) ranks->leave(error.exit_code, error.what());
        code = report(error.exit_code, error.what());
      }
    }
    std::fflush(nullptr);
    _exit(code);
  }
  ~Program() {
    for (const int end : {out_[0], error_[0]}) close(end);
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  std::string standard_output() const { return all_of(out_[0]); }
  std::string errors() const { return all_of(error_[0]); }  // ends when every process of the program has
  int exit_code() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  static std::string all_of(int end) {
    std::string text;
    char bytes[4096];
    for (ssize_t n; (n = read(end, bytes, sizeof bytes)) > 0;) text.append(bytes, static_cast<size_t>(n));
    return text;
  }

  int out_[2], error_[2];
  pid_t pid_;
};

RankStart start_of(int wanted, const Variables& variables = {}) {
  return {.wanted = wanted, .environment = lookup_in(variables)};
}
Variables torchrun(int rank, int size, int port) {
  return {{"RANK", std::to_string(rank)},       {"WORLD_SIZE", std::to_string(size)},
          {"LOCAL_RANK", std::to_string(rank)}, {"LOCAL_WORLD_SIZE", std::to_string(size)},
          {"MASTER_ADDR", "localhost"},         {"MASTER_PORT", std::to_string(port)}};
}
int port_of_this_test() { return 20000 + getpid() % 40000; }

// Each rank says where it stands in a shared page.
std::string places_of(Ranks& ranks) {
  std::vector<RankPlace> all(1);
  std::vector<int32_t> numbers(static_cast<size_t>(ranks.place().size) * 3);
  const size_t own = static_cast<size_t>(ranks.place().rank) * 3;
  numbers[own] = ranks.collectives()->rank();
  numbers[own + 1] = ranks.place().local_rank;
  numbers[own + 2] = ranks.place().local_size;
  ranks.collectives()->all_gather_host(numbers.data(), 3 * sizeof(int32_t));
  std::string text;
  for (size_t i = 0; i < numbers.size(); i++) text += (i % 3 ? "/" : " ") + std::to_string(numbers[i]);
  return text;
}

TEST(Launch, OneRankHasNoCarrier) {
  for (const int wanted : {0, 1}) {
    Ranks ranks(start_of(wanted));
    EXPECT_EQ(ranks.collectives(), nullptr);
    EXPECT_EQ(ranks.place().size, 1);
    EXPECT_EQ(ranks.sharing_cores(), 1);
    EXPECT_NO_THROW(ranks.finish(3));
  }
  Ranks alone(start_of(0, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
  EXPECT_EQ(alone.collectives(), nullptr);
}

TEST(Launch, RanksThatAreStartedHere) {
  Program program(start_of(3), [](Ranks& ranks) {
    std::printf("places%s, %d share cores, %s\n", places_of(ranks).c_str(), ranks.sharing_cores(),
                ranks.collectives()->name().c_str());
    std::fprintf(stderr, "note of rank %d\n", ranks.place().rank);
    const std::string wrong = wrong_collectives(*ranks.collectives(), Device{}, 100, 5000, 3);
    if (!wrong.empty()) fail(kExitCannotTrain, "{}", wrong);
    return 0;
  });
  EXPECT_EQ(program.errors(), "note of rank 0\n");
  EXPECT_EQ(program.standard_output(), "places 0/0/3 1/1/3 2/2/3, 3 share cores, shared memory\n");
  EXPECT_EQ(program.exit_code(), 0);
}

// A launcher that started one process leaves the number to --ranks.
TEST(Launch, WantedWhereALauncherStartedOne) {
  Program program(start_of(2, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}), [](Ranks& ranks) {
    std::printf("%s", places_of(ranks).c_str());
    return 0;
  });
  EXPECT_EQ(program.standard_output(), " 0/0/2 1/1/2");
  EXPECT_EQ(program.exit_code(), 0);
}

TEST(Launch, ATrainJobOfOneNode) {
  Program program(start_of(0, {{"PET_NNODES", "1"}, {"PET_NPROC_PER_NODE", "2"}}), [](Ranks& ranks) {
    std::printf("%s", places_of(ranks).c_str());
    return 0;
  });
  EXPECT_EQ(program.standard_output(), " 0/0/2 1/1/2");
  EXPECT_EQ(program.exit_code(), 0);
}

TEST(Launch, WhatWasPrintedBeforeIsPrintedOnce) {
  const auto body = [](Ranks& ranks) {
    ranks.collectives()->barrier();
    return 0;
  };
  Program program(start_of(1), [&](Ranks&) {
    std::printf("before");  // in the buffer of stdout when the ranks are started
    Ranks ranks(start_of(3));
    const int code = body(ranks);
    ranks.finish(code);
    std::fflush(nullptr);
    if (ranks.place().rank > 0) _exit(code);
    return code;
  });
  EXPECT_EQ(program.standard_output(), "before");
  EXPECT_EQ(program.exit_code(), 0);
}

TEST(Launch, AnExitCodeThatAllHave) {
  Program program(start_of(3), [](Ranks&) { return static_cast<int>(kExitInterrupted); });
  EXPECT_EQ(program.errors(), "");
  EXPECT_EQ(program.exit_code(), kExitInterrupted);
}

// ---- errors

TEST(Launch, AnErrorOfOneRankIsPrintedOnce) {
  Program program(start_of(3), [](Ranks& ranks) {
    ranks.collectives()->barrier();
    if (ranks.place().rank == 1) fail(kExitBadFile, "line 7 is broken");
    ranks.collectives()->barrier();
    return 0;
  });
  EXPECT_EQ(program.errors(), "error: rank 1: line 7 is broken\n");
  EXPECT_EQ(program.exit_code(), kExitBadFile);
}

TEST(Launch, AnErrorOfTheFirstRank) {
  const auto start = Clock::now();
  Program program(start_of(3), [](Ranks& ranks) {
    if (ranks.place().rank == 0) fail(kExitDoesNotFit, "too large");
    ranks.collectives()->barrier();
    return 0;
  });
  EXPECT_EQ(program.errors(), "error: too large\n");
  EXPECT_EQ(program.exit_code(), kExitDoesNotFit);
  EXPECT_LT(Clock::now() - start, 5s);
}

TEST(Launch, AnErrorThatAllHaveIsPrintedOnce) {
  Program program(start_of(4), [](Ranks&) -> int { fail(kExitUsage, "--seq-len 7"); });
  const std::string errors = program.errors();
  EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  EXPECT_TRUE(says(errors, "--seq-len 7\n"));
  EXPECT_EQ(program.exit_code(), kExitUsage);
}

TEST(Launch, AnErrorAfterTheLastCollective) {
  Program program(start_of(2), [](Ranks& ranks) {
    ranks.collectives()->barrier();
    if (ranks.place().rank == 1) fail(kExitCannotTrain, "too late");
    return 0;
  });
  EXPECT_EQ(program.errors(), "error: rank 1: too late\n");
  EXPECT_EQ(program.exit_code(), kExitCannotTrain);
}

TEST(Launch, AKilledRank) {
  Program program(start_of(3), [](Ranks& ranks) {
    ranks.collectives()->barrier();
    if (ranks.place().rank == 2) kill(getpid(), SIGKILL);
    ranks.collectives()->barrier();
    return 0;
  });
  const std::string errors = program.errors();
  EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;  // of rank 0 or rank 1
  EXPECT_TRUE(says(errors, "rank 2 (process "));
  EXPECT_TRUE(says(errors, " ended (killed by signal 9); the last checkpoint stands, go on with --resume\n"));
  EXPECT_EQ(program.exit_code(), kExitFault);
}

TEST(Launch, ARankThatIsKilledAfterTheLastCollective) {
  Program program(start_of(2), [](Ranks& ranks) {
    ranks.collectives()->barrier();
    if (ranks.place().rank == 1) kill(getpid(), SIGUSR1);
    return 0;
  });
  const std::string errors = program.errors();
  EXPECT_TRUE(says(errors, "error: rank 1 (process ")) << errors;
  EXPECT_TRUE(says(errors, "ended (killed by signal 10) after its last step"));
  EXPECT_EQ(program.exit_code(), kExitFault);
}

TEST(Launch, ARankThatDoesNotEndIsKilled) {
  RankStart start = start_of(2);
  start.for_the_end = 300ms;
  Program program(start, [](Ranks& ranks) {
    ranks.collectives()->barrier();
    while (ranks.place().rank == 1) pause();
    return 0;
  });
  EXPECT_TRUE(says(program.errors(), "did not end within"));  // which rank 1 would keep open
  EXPECT_EQ(program.exit_code(), kExitFault);
}

TEST(Launch, ABrokenInvariantIsSeen) {
  Program program(start_of(2), [](Ranks& ranks) {
    TLL_CHECK(ranks.place().rank == 0, "rank {}", ranks.place().rank);
    ranks.collectives()->barrier();
    return 0;
  });
  const std::string errors = program.errors();
  EXPECT_TRUE(says(errors, "broken invariant: ranks.place().rank == 0 (rank 1)"));
  EXPECT_TRUE(says(errors, "error: rank 1 (process "));
  EXPECT_EQ(program.exit_code(), kExitFault);
}

// kill -9 of the program leaves no process behind.
TEST(Launch, ChildrenEndWithTheirParent) {
  Program program(start_of(3), [](Ranks& ranks) {
    ranks.collectives()->barrier();
    std::printf("r");
    std::fflush(stdout);
    for (;;) pause();
    return 0;
  });
  std::this_thread::sleep_for(300ms);
  kill(program.pid(), SIGKILL);
  EXPECT_EQ(program.exit_code(), -SIGKILL);
  EXPECT_EQ(program.errors(), "");  // ends when the last of them has
}

// ---- launchers

TEST(Launch, RanksOfALauncherOnOneMachine) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "there is no /dev/shm";
  const auto body = [](Ranks& ranks) {
    std::printf("%d:%s", ranks.place().rank, places_of(ranks).c_str());
    std::fprintf(stderr, "note %d\n", ranks.place().rank);
    const std::string wrong = wrong_collectives(*ranks.collectives(), Device{}, 50, 5000, 4);
    if (!wrong.empty()) fail(kExitCannotTrain, "{}", wrong);
    return 0;
  };
  const int port = port_of_this_test();
  Program second(start_of(2, torchrun(1, 2, port)), body);
  std::this_thread::sleep_for(50ms);
  Program first(start_of(0, torchrun(0, 2, port)), body);
  EXPECT_EQ(first.standard_output(), "0: 0/0/2 1/1/2");
  EXPECT_EQ(first.errors(), "note 0\n");
  EXPECT_EQ(second.standard_output(), "");
  EXPECT_EQ(second.errors(), "");
  EXPECT_EQ(first.exit_code(), 0);
  EXPECT_EQ(second.exit_code(), 0);
}

TEST(Launch, AnErrorAmongALaunchersRanks) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "there is no /dev/shm";
  const auto body = [](Ranks& ranks) {
    if (ranks.place().rank == 1) fail(kExitBadFile, "line 7 is broken");
    ranks.collectives()->barrier();
    return 0;
  };
  const int port = port_of_this_test();
  Program first(start_of(0, torchrun(0, 2, port)), body), second(start_of(0, torchrun(1, 2, port)), body);
  EXPECT_EQ(first.errors() + second.errors(), "error: rank 1: line 7 is broken\n");
  EXPECT_EQ(first.exit_code(), kExitBadFile);
  EXPECT_EQ(second.exit_code(), kExitBadFile);
}

TEST(Launch, ARankOfALauncherThatDoesNotCome) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "there is no /dev/shm";
  const auto alone = [&](int rank) {
    RankStart start = start_of(0, torchrun(rank, 2, port_of_this_test()));
    start.patience.start = 300ms;
    return start;
  };
  EXPECT_TRUE(says(refusal_of([&] { Ranks ranks(alone(0)); }, kExitFault), "rank 1 has not come within"));
  Program second(alone(1), [](Ranks&) { return 0; });
  EXPECT_TRUE(says(second.errors(), "error: rank 1: rank 0 has not come within"));
  EXPECT_EQ(second.exit_code(), kExitFault);
}

TEST(Launch, WhatCannotBeStarted) {
  const auto refused = [](const RankStart& start) { return refusal_of([&] { Ranks ranks(start); }, kExitUsage); };
  EXPECT_TRUE(
      says(refused(start_of(3, torchrun(0, 2, 29500))), "--ranks 3, but RANK and WORLD_SIZE started 2 ranks: leave --ranks out"));
  Variables several = torchrun(0, 4, 29500);
  several["LOCAL_WORLD_SIZE"] = "2";
  several["TORCHELASTIC_RUN_ID"] = "none";
  EXPECT_TRUE(says(refused(start_of(0, several)),
                   "torchrun started 4 ranks on several machines (2 of them here): start them with mpirun"));
  const Variables mpirun = {{"OMPI_COMM_WORLD_RANK", "0"},
                            {"OMPI_COMM_WORLD_SIZE", "4"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  EXPECT_TRUE(says(refused(start_of(0, mpirun)),
                   "Open MPI started 4 ranks on several machines (2 of them here): start them with mpirun"));
  EXPECT_TRUE(says(refused(start_of(0, {{"RANK", "1"}})), "RANK=1, but not WORLD_SIZE"));
}

// Where the program has MPI, it carries between mpirun's ranks.
TEST(Launch, MpiCarriesWhereItIsThere) {
  RankStart start = start_of(0, {{"OMPI_COMM_WORLD_RANK", "0"},
                                 {"OMPI_COMM_WORLD_SIZE", "2"},
                                 {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                                 {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  start.open_mpi = []() -> std::unique_ptr<Collectives> { fail(kExitFault, "MPI was asked"); };
  EXPECT_EQ(refusal_of([&] { Ranks ranks(start); }, kExitFault), "MPI was asked");
}

}  // namespace
}  // namespace tll
