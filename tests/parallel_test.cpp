// The threads of CPU ops: every piece is run once, by whom it does not matter, and nobody waits for a thread that has not begun.
#include "src/base/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

namespace tll {
namespace {

using namespace std::chrono_literals;

struct Parallel : testing::TestWithParam<int> {
  void SetUp() override { set_cpu_threads(GetParam()); }
  void TearDown() override { set_cpu_threads(1); }
};

TEST_P(Parallel, EveryPieceIsRunOnce) {
  EXPECT_EQ(cpu_threads(), GetParam());
  for (const int64_t pieces : {0, 1, 2, 3, 7, 64, 1000}) {
    for (const int workers : {1, 2, 100}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(pieces));
      std::atomic<bool> in_range = true;
      parallel_pieces(pieces, workers, [&](int64_t piece, int worker) {
        runs[static_cast<size_t>(piece)]++;
        if (worker < 0 || worker >= std::min(workers, cpu_threads())) in_range = false;
      });
      for (const auto& run : runs) EXPECT_EQ(run, 1) << pieces << " pieces, " << workers << " workers";
      EXPECT_TRUE(in_range);
    }
  }
}

// Loops in a row, some after the threads have gone to sleep. A piece of an earlier loop that ran late would be counted twice.
TEST_P(Parallel, ManyLoopsInARow) {
  for (int loop = 0; loop < 5000; loop++) {
    std::atomic<int64_t> sum = 0;
    const int64_t pieces = 1 + loop % 37;
    parallel_pieces(pieces, 100, [&](int64_t piece, int) { sum += piece + loop; });
    ASSERT_EQ(sum, pieces * (pieces - 1) / 2 + pieces * loop) << loop;
    if (loop % 1000 == 999) std::this_thread::sleep_for(2ms);
  }
}

// A thread that the machine does not run: it holds up its own piece, and none of those that come after it in its part.
TEST_P(Parallel, OthersTakeWhatALateThreadHasNotBegun) {
  if (GetParam() < 2) GTEST_SKIP() << "takes two threads";
  constexpr int kPieces = 64;
  std::atomic<int> done = 0;
  std::atomic<bool> alone = false;
  parallel_pieces(kPieces, 2, [&](int64_t piece, int) {
    if (piece == 0) {
      const auto end = std::chrono::steady_clock::now() + 10s;
      while (done < kPieces - 1 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
      alone = done == kPieces - 1;
    }
    done++;
  });
  EXPECT_TRUE(alone) << done << " pieces";
}

TEST_P(Parallel, RangesCoverAllOnce) {
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{1000}, kMostPieces + 12345}) {
    for (const int64_t cost : {int64_t{1}, int64_t{5000}, int64_t{1} << 40}) {
      if (n > 1000 && cost > 5000) continue;
      std::atomic<int64_t> count = 0, sum = 0;
      parallel_ranges(n, cost, [&](int64_t begin, int64_t end) {
        EXPECT_LT(begin, end);
        count += end - begin;
        sum += (begin + end - 1) * (end - begin) / 2;
      });
      EXPECT_EQ(count, n);
      EXPECT_EQ(sum, n * (n - 1) / 2);
    }
  }
}

TEST_P(Parallel, ALoopInsideAPieceIsItsCallers) {
  std::atomic<int> inner = 0;
  std::atomic<bool> same_thread = true;
  parallel_pieces(8, 100, [&](int64_t, int) {
    const auto self = std::this_thread::get_id();
    parallel_pieces(5, 100, [&](int64_t, int worker) {
      inner++;
      if (worker != 0 || std::this_thread::get_id() != self) same_thread = false;
    });
  });
  EXPECT_EQ(inner, 40);
  EXPECT_TRUE(same_thread);
}

TEST_P(Parallel, TwoCallersAtOnce) {
  std::atomic<int64_t> sum = 0;
  const auto work = [&] {
    for (int i = 0; i < 500; i++) parallel_pieces(10, 100, [&](int64_t piece, int) { sum += piece; });
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(sum, 2 * 500 * 45);
}

// A child process has the caller's thread alone.
TEST_P(Parallel, AChildProcessRunsItsLoops) {
  parallel_pieces(8, 100, [](int64_t, int) {});
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int> sum = 0;
    parallel_pieces(100, 100, [&](int64_t, int) { sum++; });
    _exit(sum == 100 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

INSTANTIATE_TEST_SUITE_P(Threads, Parallel, testing::Values(1, 2, 4, 7));

}  // namespace
}  // namespace tll
