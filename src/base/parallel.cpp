#include "src/base/parallel.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "src/base/check.h"

namespace tll {
namespace {

using Clock = std::chrono::steady_clock;

// Between two ops of a step the caller needs a few microseconds. A futex costs a few on both sides, and more on a virtual
// machine.
constexpr auto kSpin = std::chrono::microseconds(50);

// Where a thread sleeps. sleep_until(woken) returns when woken() is true; whoever made it true calls wake().
class Bed {
 public:
  template <class Woken>
  void sleep_until(const Woken& woken) {
    const auto start = Clock::now();
    for (int i = 0; !woken(); i++) {
      pause_core();
      if (i % 16 != 15 || Clock::now() - start < kSpin) continue;
      asleep_.store(1);
      while (!woken() && asleep_.load() == 1) futex(FUTEX_WAIT_PRIVATE, 1);
      asleep_.store(0);
    }
  }
  // The store before and this load are ordered, as are sleep_until()'s store and its last look: one of the two sees the other.
  void wake() {
    if (asleep_.load() == 1 && asleep_.exchange(0) == 1) futex(FUTEX_WAKE_PRIVATE, 1);
  }

 private:
  // Not std::atomic's wait(): in libstdc++ 12 it may miss a notify_one() where two of them share a bucket of its table.
  void futex(int operation, uint32_t value) { syscall(SYS_futex, &asleep_, operation, value, nullptr, nullptr, 0); }

  std::atomic<uint32_t> asleep_{0};
  static_assert(sizeof(asleep_) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);
};

constexpr int kPieceBits = 24;
static_assert(kMostPieces == (int64_t{1} << kPieceBits) - 1);

// The pieces of one thread: the number of the loop, and how many of its pieces nobody has begun. A line of cache each.
struct alignas(64) Lane {
  std::atomic<uint64_t> left{0};
  Bed bed;
};

// A loop is described by atomics, since a late thread may read them while the next loop is being set up. What it read is used
// only if its compare-and-exchange of a lane that had a piece left succeeds: then the loop was not done, and its description in
// place.
class Pool {
 public:
  int threads() const { return threads_; }

  void set_threads(int threads) {
    const std::lock_guard lock(loop_);
    threads = std::clamp(threads, 1, kMostCpuThreads);
    try {
      for (; started_ < threads; started_++) std::thread([this, worker = started_] { serve(worker); }).detach();
    } catch (const std::system_error& error) {
      fail(kExitFault, "thread {} of {} could not be started: {}; give fewer with --threads", started_ + 1, threads,
           error.what());
    }
    threads_ = threads;
  }

  void run(int64_t pieces, int workers, PieceFunction function, const void* body) {
    const int lanes = static_cast<int>(std::min<int64_t>(pieces, std::min(workers, threads_)));
    std::unique_lock lock(loop_, std::defer_lock);
    if (lanes <= 1 || inside_ || !lock.try_lock()) {
      for (int64_t piece = 0; piece < pieces; piece++) function(body, piece, 0);
      return;
    }
    inside_ = true;
    pieces_.store(pieces, std::memory_order_relaxed);
    lanes_count_.store(lanes, std::memory_order_relaxed);
    function_.store(function, std::memory_order_relaxed);
    body_.store(body, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    loop_number_++;
    for (int lane = 0; lane < lanes; lane++)
      lanes_[lane].left.store(loop_number_ << kPieceBits |
                              static_cast<uint64_t>(first_of(lane + 1, lanes, pieces) - first_of(lane, lanes, pieces)));
    for (int lane = 1; lane < lanes; lane++) lanes_[lane].bed.wake();
    take_pieces(0, loop_number_);
    caller_.sleep_until([&] { return done_.load() == pieces; });
    inside_ = false;
  }

 private:
  static int64_t first_of(int lane, int lanes, int64_t pieces) { return pieces * lane / lanes; }

  // Runs pieces of the loop until none is left that nobody has begun: those of its own lane first.
  void take_pieces(int worker, uint64_t loop) {
    for (int offset = 0, lanes = 1; offset < lanes; offset++) {
      for (;;) {
        lanes = lanes_count_.load(std::memory_order_relaxed);
        const int lane = (worker + offset) % lanes;
        uint64_t state = lanes_[lane].left.load(std::memory_order_acquire);
        const int64_t left = static_cast<int64_t>(state) & kMostPieces;
        if (state >> kPieceBits != loop || left == 0) break;
        const int64_t pieces = pieces_.load(std::memory_order_relaxed);
        const PieceFunction function = function_.load(std::memory_order_relaxed);
        const void* body = body_.load(std::memory_order_relaxed);
        if (!lanes_[lane].left.compare_exchange_strong(state, state - 1)) continue;
        function(body, first_of(lane + 1, lanes, pieces) - left, worker);
        if (done_.fetch_add(1) + 1 == pieces) caller_.wake();
      }
    }
  }

  // A thread's life. It is never joined: what it sleeps on lives as long as the process.
  void serve(int worker) {
    inside_ = true;
    for (uint64_t seen = 0;;) {
      const std::atomic<uint64_t>& left = lanes_[worker].left;
      lanes_[worker].bed.sleep_until([&] { return left.load() >> kPieceBits != seen; });
      seen = left.load() >> kPieceBits;
      take_pieces(worker, seen);
    }
  }

  static thread_local bool inside_;  // this thread runs a loop
  std::mutex loop_;                  // held while one runs
  int threads_ = 1, started_ = 1;
  uint64_t loop_number_ = 0;
  std::unique_ptr<Lane[]> lanes_ = std::make_unique<Lane[]>(kMostCpuThreads);
  std::atomic<int64_t> pieces_{0};
  std::atomic<int> lanes_count_{1};
  std::atomic<PieceFunction> function_{nullptr};
  std::atomic<const void*> body_{nullptr};
  alignas(64) std::atomic<int64_t> done_{0};
  Bed caller_;
};
thread_local bool Pool::inside_ = false;

Pool& pool() {
  static Pool& only = *new Pool;  // its threads outlive every static object
  return only;
}

}  // namespace

void set_cpu_threads(int threads) { pool().set_threads(threads); }
int cpu_threads() { return pool().threads(); }

void run_pieces(int64_t pieces, int workers, PieceFunction function, const void* body) {
  TLL_CHECK(pieces >= 0 && pieces <= kMostPieces && workers >= 1, "{} pieces, {} workers", pieces, workers);
  pool().run(pieces, workers, function, body);
}

}  // namespace tll
