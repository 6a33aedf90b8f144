// Collectives through shared memory: what they bring, and what happens when a rank fails, is killed or is stopped.
#include "src/ranks/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/allocations.h"
#include "tests/collectives_model.h"
#include "tests/refusal.h"

namespace tll {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Body = std::function<void(SharedMemoryCollectives&)>;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Every rank is a thread of this process.
void run_threads(int size, int64_t window, const Body& body) {
  const auto block = SharedBlock::anonymous(size, window);
  std::vector<std::thread> threads;
  for (int r = 0; r < size; r++)
    threads.emplace_back([&, r] {
      SharedMemoryCollectives ranks(block, r);
      body(ranks);
    });
  for (std::thread& thread : threads) thread.join();
}

// Rank 0 is this process, the others are its children. A child ends with the code that its body returns, or with that of its
// Error.
class Children {
 public:
  Children(int size, int64_t window, const RankPatience& patience, const std::function<int(SharedMemoryCollectives&)>& body)
      : block_(SharedBlock::anonymous(size, window)) {
    for (int r = 1; r < size; r++) {
      const pid_t pid = fork();
      if (pid == 0) {
        int code = 99;
        try {
          SharedMemoryCollectives ranks(block_, r, patience);
          code = body(ranks);
        } catch (const Error& error) {
          code = 200 + error.exit_code;
        }
        _exit(code);
      }
      block_->of(r).set(ProcessIdentity::of_child(pid));
      pids_.push_back(pid);
    }
  }
  ~Children() {
    for (const pid_t pid : pids_) {
      if (pid == 0) continue;
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  const std::shared_ptr<SharedBlock>& block() const { return block_; }
  pid_t pid(int rank) const { return pids_[static_cast<size_t>(rank) - 1]; }
  int exit_code(int rank) {
    int status = 0;
    EXPECT_EQ(waitpid(pid(rank), &status, 0), pid(rank));
    pids_[static_cast<size_t>(rank) - 1] = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  std::shared_ptr<SharedBlock> block_;
  std::vector<pid_t> pids_;
};

// (ranks, bytes of a window)
struct SharedMemory : testing::TestWithParam<std::tuple<int, int64_t>> {};

TEST_P(SharedMemory, ThreadsBringWhatTheModelSays) {
  const auto [size, window] = GetParam();
  std::vector<std::string> wrong(static_cast<size_t>(size));
  run_threads(size, window, [&, w = window](SharedMemoryCollectives& ranks) {
    wrong[static_cast<size_t>(ranks.rank())] = wrong_collectives(ranks, Device{}, 1000, 5 * w / 2, 7);
  });
  for (const std::string& text : wrong) EXPECT_EQ(text, "");
}

TEST_P(SharedMemory, ProcessesBringWhatTheModelSays) {
  const auto [size, window] = GetParam();
  const auto body = [w = window](SharedMemoryCollectives& ranks) {
    const std::string wrong = wrong_collectives(ranks, Device{}, 300, 5 * w / 2, 8);
    if (!wrong.empty()) std::fprintf(stderr, "%s\n", wrong.c_str());
    return wrong.empty() ? 0 : 1;
  };
  Children children(size, window, {}, body);
  {
    SharedMemoryCollectives ranks(children.block(), 0);
    EXPECT_EQ(ranks.size(), size);
    EXPECT_TRUE(ranks.is_first());
    EXPECT_EQ(body(ranks), 0);
  }
  for (int r = 1; r < size; r++) EXPECT_EQ(children.exit_code(r), 0);
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedMemory,
                         testing::Combine(testing::Values(1, 2, 3, 4), testing::Values(int64_t{256}, int64_t{64} << 10)));

TEST(SharedMemoryRun, NoRankPassesABarrierEarly) {
  std::atomic<int> arrived = 0, early = 0;
  run_threads(3, 64, [&](SharedMemoryCollectives& ranks) {
    for (int i = 1; i <= 200; i++) {
      if (i % 50 == ranks.rank()) std::this_thread::sleep_for(2ms);  // the others go to sleep
      arrived++;
      ranks.barrier();
      if (arrived < 3 * i) early++;
      ranks.barrier();
    }
  });
  EXPECT_EQ(early, 0);
}

TEST(SharedMemoryRun, NothingIsAllocatedByACall) {
  if (!allocations_are_counted()) GTEST_SKIP() << "allocations are not counted in this build";
  std::atomic<int64_t> during = 0;
  std::atomic<int> ready = 0;
  run_threads(2, 1 << 10, [&](SharedMemoryCollectives& ranks) {
    std::vector<char> data(10000), to(20000);
    const std::vector<int64_t> bounds = {0, 3000, 10000};
    const Device device;
    ready++;
    while (ready < 2) std::this_thread::yield();
    ranks.barrier();
    const int64_t before = allocations;
    for (int i = 0; i < 50; i++) {
      if (ranks.rank() == 0 && i == 20) std::this_thread::sleep_for(250ms);  // the other looks at its peers
      ranks.all_gather(device, data.data(), bounds);
      ranks.exchange(device, to.data(), data.data(), bounds);
      ranks.broadcast(device, data.data(), 10000, i % 2);
      ranks.all_gather_host(data.data(), 5000);
    }
    during += allocations - before;
    ranks.barrier();
  });
  EXPECT_EQ(during, 0);
}

TEST(SharedMemoryRun, AnotherCallOnAnotherRankIsABrokenInvariant) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto differ = [] {
    run_threads(2, 1 << 10, [](SharedMemoryCollectives& ranks) {
      char data[64] = {};
      if (ranks.rank() == 0)
        ranks.barrier();
      else
        ranks.broadcast_host(data, 64, 0);
    });
  };
  EXPECT_DEATH(differ(), "is at another collective");
  Device gpu;
  gpu.kind = DeviceKind::cuda;
  EXPECT_DEATH(run_threads(1, 64, [&](SharedMemoryCollectives& ranks) { ranks.broadcast(gpu, nullptr, 64, 0); }),
               "carries nothing of a GPU");
}

// ---- ranks that fail

TEST(SharedMemoryFailure, AKilledRankIsNamed) {
  // Rank 2 goes no further than the first barrier. Rank 1 sees its end as rank 0 does, though it is not its child.
  Children children(3, 1 << 10, {}, [](SharedMemoryCollectives& ranks) {
    ranks.barrier();
    if (ranks.rank() == 2) pause();
    const std::string message = refusal_of([&] { ranks.barrier(); }, kExitFault);
    return message.find("rank 2 (process ") == 0 && message.find(" ended (killed by signal 9); ") != message.npos ? 50 : 51;
  });
  SharedMemoryCollectives ranks(children.block(), 0);
  ranks.barrier();
  const auto start = Clock::now();
  kill(children.pid(2), SIGKILL);
  const std::string message = refusal_of([&] { ranks.barrier(); }, kExitFault);
  EXPECT_LT(seconds_since(start), 2);
  EXPECT_EQ(message,
            fmt::format("rank 2 (process {}) ended (killed by signal 9); the last checkpoint stands, go on with --resume",
                        children.pid(2)));
  EXPECT_EQ(children.exit_code(1), 50);
}

// After the first barrier rank 1 is gone, which nobody needs any more.
TEST(SharedMemoryFailure, ARankThatHasArrivedMayEnd) {
  Children children(3, 1 << 10, {}, [](SharedMemoryCollectives& ranks) {
    if (ranks.rank() == 2) std::this_thread::sleep_for(700ms);
    ranks.barrier();
    return 0;
  });
  children.block()->of(1).arrived = 1;  // it has come to the barrier, and is killed while it waits there
  kill(children.pid(1), SIGKILL);
  SharedMemoryCollectives ranks(children.block(), 0);
  children.block()->of(1).operation[1] = 4;
  EXPECT_NO_THROW(ranks.barrier());
}

TEST(SharedMemoryFailure, AnExitCodeIsNamed) {
  Children children(2, 1 << 10, {}, [](SharedMemoryCollectives& ranks) {
    ranks.barrier();
    return 3;
  });
  SharedMemoryCollectives ranks(children.block(), 0);
  ranks.barrier();
  EXPECT_TRUE(says(refusal_of([&] { ranks.barrier(); }, kExitFault), " ended (exit code 3); "));
}

TEST(SharedMemoryFailure, AStoppedRankIsNamed) {
  const RankPatience patience{.beat = 20ms, .silence = 800ms};
  Children children(2, 1 << 10, patience, [](SharedMemoryCollectives& ranks) {
    ranks.barrier();
    pause();
    return 0;
  });
  SharedMemoryCollectives ranks(children.block(), 0, patience);
  ranks.barrier();
  kill(children.pid(1), SIGSTOP);
  const auto start = Clock::now();
  const std::string message = refusal_of([&] { ranks.barrier(); }, kExitFault);
  EXPECT_EQ(message, fmt::format("rank 1 (process {}) has not answered for 0.8 seconds; the last checkpoint stands, go on with "
                                 "--resume",
                                 children.pid(1)));
  EXPECT_GT(seconds_since(start), 0.7);
  EXPECT_LT(seconds_since(start), 4);
}

TEST(SharedMemoryFailure, ARankThatWorksIsWaitedFor) {
  const RankPatience patience{.beat = 20ms, .silence = 300ms, .start = 300ms};
  Children children(2, 1 << 10, patience, [](SharedMemoryCollectives& ranks) {
    ranks.barrier();
    std::this_thread::sleep_for(1200ms);
    ranks.barrier();
    return 0;
  });
  SharedMemoryCollectives ranks(children.block(), 0, patience);
  ranks.barrier();
  EXPECT_NO_THROW(ranks.barrier());
  EXPECT_EQ(children.exit_code(1), 0);
}

// As after Ctrl-Z and `fg`: that this process was stopped does not count against the others.
TEST(SharedMemoryFailure, TimeWhenAllAreStoppedDoesNotCount) {
  const RankPatience patience{.beat = 10s, .silence = 2000ms};  // nothing is heard all the time, of which 1 s counts
  const pid_t run = fork();
  if (run == 0) {
    setpgid(0, 0);
    Children children(2, 1 << 10, patience, [](SharedMemoryCollectives& ranks) {
      ranks.barrier();
      std::this_thread::sleep_for(2500ms);
      ranks.barrier();
      return 0;
    });
    SharedMemoryCollectives ranks(children.block(), 0, patience);
    try {
      ranks.barrier();
      ranks.barrier();
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      _exit(1);
    }
    _exit(0);
  }
  std::this_thread::sleep_for(500ms);
  ASSERT_EQ(kill(-run, SIGSTOP), 0);
  std::this_thread::sleep_for(1500ms);
  kill(-run, SIGCONT);
  int status = -1;
  waitpid(run, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(SharedMemoryFailure, ARankThatLeavesTellsTheOthers) {
  std::atomic<int> told = 0, spoke = 0;
  const std::string long_text = std::string(510, 'x') + "é is cut";
  const auto start = Clock::now();
  run_threads(3, 64, [&](SharedMemoryCollectives& ranks) {
    ranks.barrier();
    if (ranks.rank() == 2) {
      std::this_thread::sleep_for(20ms);
      spoke += ranks.leave(kExitBadFile, "data.jsonl: line 3 is no JSON " + long_text);
      return;
    }
    if (ranks.rank() == 1) std::this_thread::sleep_for(50ms);  // arrives when rank 2 has left; rank 0 waits by then
    const std::string message = refusal_of([&] { ranks.barrier(); }, kExitBadFile);
    told += message.find("rank 2: data.jsonl: line 3 is no JSON xxx") == 0;
    spoke += ranks.leave(kExitBadFile, message);
    EXPECT_TRUE(says(refusal_of([&] { ranks.barrier(); }, kExitBadFile), "rank 2: "));
  });
  EXPECT_EQ(told, 2);
  EXPECT_EQ(spoke, 1);
  EXPECT_LT(seconds_since(start), 2);
}

TEST(SharedMemoryFailure, OneOfManySpeaks) {
  for (int i = 0; i < 50; i++) {
    std::atomic<int> spoke = 0;
    run_threads(4, 64, [&](SharedMemoryCollectives& ranks) { spoke += ranks.leave(kExitFault, "all at once"); });
    ASSERT_EQ(spoke, 1);
  }
}

TEST(SharedMemoryFailure, AMessageIsCutBetweenCharacters) {
  run_threads(1, 64, [](SharedMemoryCollectives& ranks) {
    EXPECT_TRUE(ranks.leave(kExitFault, std::string(511, 'x') + "é"));
    EXPECT_EQ(refusal_of([&] { ranks.barrier(); }, kExitFault), "rank 0: " + std::string(511, 'x'));
  });
}

// A rank that was killed as it was about to say why it failed.
TEST(SharedMemoryFailure, ARankThatIsKilledWhileItLeaves) {
  Children children(2, 64, {}, [](SharedMemoryCollectives& ranks) {
    ranks.barrier();
    pause();
    return 0;
  });
  SharedMemoryCollectives ranks(children.block(), 0);
  ranks.barrier();
  children.block()->all().failure = 2 * (1 + 1);
  EXPECT_FALSE(ranks.leave(kExitFault, "too early")) << "rank 1 lives, and is writing";
  kill(children.pid(1), SIGKILL);
  const std::string message = refusal_of([&] { ranks.barrier(); }, kExitFault);
  EXPECT_TRUE(says(message, "rank 1 (process "));
  EXPECT_TRUE(ranks.leave(kExitFault, message));
}

// ---- a file in /dev/shm

struct NamedBlock : testing::Test {
  const std::string run = fmt::format("test-{}", getpid());
  const std::string path = SharedBlock::path_of(run);
  void SetUp() override {
    if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "there is no /dev/shm";
  }
  void TearDown() override { unlink(path.c_str()); }
  bool exists() const { return access(path.c_str(), F_OK) == 0; }
};

TEST_F(NamedBlock, RanksFindEachOther) {
  std::vector<std::string> wrong(3, "did not run");
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; r++)
    threads.emplace_back([&, r] {
      std::this_thread::sleep_for(r * 30ms);
      const auto block = SharedBlock::named(run, 2 - r, 3, 1 << 10, 10s);  // rank 0 comes last
      SharedMemoryCollectives ranks(block, 2 - r);
      ranks.barrier();
      block->remove_file();
      wrong[static_cast<size_t>(r)] = wrong_collectives(ranks, Device{}, 100, 5000, 9);
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : wrong) EXPECT_EQ(text, "");
  EXPECT_FALSE(exists());
}

TEST_F(NamedBlock, AFileThatAKilledRunLeftIsReplaced) {
  const pid_t killed = fork();
  if (killed == 0) {
    const auto block = SharedBlock::named(run, 0, 2, 1 << 10, 1s);
    kill(getpid(), SIGKILL);
  }
  waitpid(killed, nullptr, 0);
  ASSERT_TRUE(exists());
  std::string wrong = "did not run";
  std::thread other([&] {  // it finds the old file first
    const auto block = SharedBlock::named(run, 1, 2, 1 << 10, 10s);
    SharedMemoryCollectives ranks(block, 1);
    wrong = wrong_collectives(ranks, Device{}, 20, 3000, 10);
  });
  std::this_thread::sleep_for(100ms);
  {
    const auto block = SharedBlock::named(run, 0, 2, 1 << 10, 10s);
    SharedMemoryCollectives ranks(block, 0);
    EXPECT_EQ(wrong_collectives(ranks, Device{}, 20, 3000, 10), "");
    other.join();
  }
  EXPECT_EQ(wrong, "");
  EXPECT_FALSE(exists());
}

TEST_F(NamedBlock, OtherFilesOfThatNameAreReplaced) {
  const int file = open(path.c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_EQ(write(file, "no block", 8), 8);
  close(file);
  EXPECT_TRUE(says(refusal_of([&] { SharedBlock::named(run, 1, 2, 1 << 10, 100ms); }, kExitFault), "rank 0 has not come"));
  EXPECT_NO_THROW(SharedBlock::named(run, 0, 2, 1 << 10, 100ms));
  EXPECT_FALSE(exists());
}

TEST_F(NamedBlock, WhatDoesNotFitTogetherIsRefused) {
  const auto first = SharedBlock::named(run, 0, 2, 1 << 10, 1s);
  EXPECT_TRUE(says(refusal_of([&] { SharedBlock::named(run, 0, 2, 1 << 10, 1s); }, kExitUsage),
                   fmt::format("another run with the same MASTER_PORT is starting on this machine (process {})", getpid())));
  EXPECT_TRUE(says(refusal_of([&] { SharedBlock::named(run, 1, 3, 1 << 10, 1s); }, kExitUsage),
                   "one of 2 ranks, and this one as one of 3"));
  const auto second = SharedBlock::named(run, 1, 2, 1 << 10, 1s);
  EXPECT_TRUE(
      says(refusal_of([&] { SharedBlock::named(run, 1, 2, 1 << 10, 1s); }, kExitUsage), "are rank 1: give each its own RANK"));
  EXPECT_TRUE(exists()) << "a rank too many must not hide the file from the others";
}

TEST_F(NamedBlock, ARankThatDoesNotComeIsNamed) {
  const auto block = SharedBlock::named(run, 0, 3, 1 << 10, 1s);
  SharedMemoryCollectives ranks(block, 0, {.start = 300ms});
  EXPECT_TRUE(says(refusal_of([&] { ranks.barrier(); }, kExitFault), "rank 1 has not come within"));
}

}  // namespace
}  // namespace tll
