// How a block runs: its threads are fibers of one thread of the operating system, which switch at barriers and warp collectives.
#pragma once

#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dev/emulator/order.h"
#include "dev/emulator/shadow.h"
#include "emulator/device.h"
#include "emulator/emulator.h"
#include "emulator/runtime.h"

namespace emulator {

using boost::context::detail::fcontext_t;

struct Launch {
  const void* kernel = nullptr;
  RunThread run = nullptr;
  std::shared_ptr<const void> arguments;
  size_t argument_bytes = 0;
  dim3 grid, block;
  size_t dynamic_bytes = 0, opt_in = 0;  // opt_in: cudaFuncAttributeMaxDynamicSharedMemorySize
  uint64_t seed = 0;
  uint32_t first_stamp = 0;     // block number i in the order of running has stamp first_stamp + i
  std::vector<uint32_t> order;  // of linear block indices
  std::atomic<uint32_t> next{0};
  std::atomic<bool> failed{false};
  bool concurrent = false;     // more than one worker
  std::vector<Ran> unordered;  // what ran before in other streams, with nothing to order it and this launch
  uint32_t ordered_below = 0;  // stamps of blocks that certainly came before
  uint3 block_index(uint32_t stamp) const;
};
void run_launch(Launch& launch);  // reports its first fault

enum class Wait : uint8_t { none, block_barrier, warp_barrier, shuffle, ballot, reduce, mma, ldmatrix, exited };
const char* wait_name(Wait wait);

struct PendingCopy {
  uint8_t* to;
  const uint8_t* from;
  uint16_t size, bytes;
  uint32_t group;
  const void* site;
};

// What a thread's latest __threadfence orders: its own accesses up to a clock, and those that came before it by barriers.
struct Fence {
  uint32_t clock = 0;  // 0: none
  uint32_t all_lanes_clock = 0;
  std::vector<uint32_t> block_clocks;  // of each warp
};
// What an atomic after a fence hands to those that see it: each thread's accesses up to a clock.
using Released = std::shared_ptr<const std::vector<uint32_t>>;

struct Thread {
  fcontext_t context = nullptr;
  uintptr_t stack = 0;  // its lowest address
  uint3 index{};
  uint16_t id = 0;
  Wait wait = Wait::none;
  const void* site = nullptr;  // of the call that waits
  uint32_t mask = 0;
  void* payload = nullptr;  // arguments and results of the collective
  Fence fence;
  uint32_t groups = 0;  // asynchronous copies: groups committed
  std::vector<PendingCopy> copies;
};

struct WarpGroup {  // lanes that wait at the same collective
  Wait wait;
  const void* site;
  uint32_t mask, arrived;
};
struct Warp {
  uint32_t present = 0, exited = 0;
  uint32_t clock = 1, all_lanes_clock = 1, block_clock = 1;  // now; at the last barrier of all lanes; at that of the block
  std::vector<WarpGroup> groups;
  std::vector<uint32_t> known;  // [lane][other]: the other lane's clock up to which its accesses come before this lane's
};

// What stops a block.
struct Failure {
  Fault fault{};
  std::string text{};
  const Thread* thread = nullptr;  // null: the current one
  const void* site = nullptr;
  const void* other_site = nullptr;
  std::string tensor{};
};

constexpr size_t kStackBytes = 64 * 1024;
constexpr size_t kMaxThreads = 1024;
constexpr size_t kMaxDynamicBytes = 228 * 1024;

struct StaticShared {  // a __shared__ array that this block touched
  size_t offset, bytes;
};

// One per thread of the operating system that runs blocks.
struct Worker {
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // What an access is checked against, most used first.
  uintptr_t stack = 0;  // of the current thread
  uint32_t stamp = 0, first_stamp = 0, ordered_below = 0;
  uint32_t who = 0;  // current thread | its warp's clock << 10
  bool races = true, concurrent = false, copies_elsewhere = false;
  Warp* warp = nullptr;
  Thread* current = nullptr;
  uint64_t accesses = 0, switches = 0;
  Region dynamic, statics;

  Launch* launch = nullptr;
  uint3 block_index{};
  std::vector<Thread> threads;
  Warp warps[kMaxThreads / 32];
  std::vector<uint16_t> runnable;
  uint32_t thread_count = 0, exited = 0;
  uint64_t random_state = 1;
  uintptr_t stacks = 0;
  uint8_t* dynamic_memory = nullptr;
  size_t dynamic_bytes = 0;  // of the current block; what lies behind is not addressable
  std::vector<StaticShared> touched;
  struct Acquired {
    uint32_t stamp;
    Released released;
    uint32_t who;  // the thread that saw the atomic, and its clock
  };
  std::vector<Acquired> acquired;  // from other blocks
  fcontext_t main = nullptr, nowhere = nullptr;

  uint32_t barrier_waiting = 0, barrier_votes = 0;
  int barrier_result[3] = {};
  const Thread* barrier_first = nullptr;
  std::unique_ptr<Failure> failure;
  std::atomic_flag* held = nullptr;  // the lock of records that it holds

  void run_block(Launch& launch, uint32_t number);  // sets failure
  void enter(Thread& thread);                       // makes it current
  void yield();                                     // the current thread waits: another one runs
  void make_runnable(const Thread& thread) { runnable.push_back(thread.id); }
  void thread_exits();
  [[noreturn]] void fail(Failure failure);
  uint64_t random();
  uint32_t lane() const { return current->id % 32u; }

  // Parks the current thread until all lanes of the mask that have not exited are at the same call; the last one to arrive
  // calls complete(worker, warp, lanes).
  using Complete = void (*)(Worker&, Warp&, uint32_t lanes);
  void collective(Wait wait, const void* site, uint32_t mask, void* payload);
  void complete_groups(Warp& warp);
  [[noreturn]] void missing_lane(const WarpGroup& group, uint32_t lane);
  void diagnose();  // nobody can run: says why
  void update_clock() { who = current->id | warp->clock << 10; }

 private:
  void prepare(Launch& launch, uint32_t number);
  void prepare_shared();
  void complete(Warp& warp, const WarpGroup& group);
};

// The worker whose block this thread of the operating system runs, or null: host code.
extern thread_local constinit Worker* running;
Worker& this_worker();

// Ends of collectives; each lane's payload is at threads[…].payload.
void finish_shuffle(Worker& worker, Warp& warp, uint32_t lanes);
void finish_ballot(Worker& worker, Warp& warp, uint32_t lanes);
void finish_reduce(Worker& worker, Warp& warp, uint32_t lanes);
void finish_mma(Worker& worker, Warp& warp, uint32_t lanes);
void finish_ldmatrix(Worker& worker, Warp& warp, uint32_t lanes);
void finish_warp_barrier(Worker& worker, Warp& warp, uint32_t lanes);

inline Thread& lane_thread(Worker& worker, const Warp& warp, uint32_t lane) {
  return worker.threads[static_cast<size_t>(&warp - worker.warps) * 32 + lane];
}

// ---- memory -------------------------------------------------------------------------------------------------------------------
enum class Access { read, write, atomic, constant };
// Checks an access of the current thread; does not return if it is at fault.
void check_access(Worker& worker, const void* p, size_t size, Access access, const void* site);
template <Access kAccess, size_t kSize>
void check_sized(Worker& worker, const void* p, const void* site);
void check_aligned(Worker& worker, const void* p, size_t alignment, const char* what, const void* site);
void set_in_flight(Worker& worker, const void* p, size_t size, bool in_flight);
std::string describe_address(Worker& worker, uintptr_t a, std::string* tensor);

// Device memory (memory.cpp).
extern Region device_memory;
std::string describe_device_address(uintptr_t a, std::string* tensor);
// Null: device memory that may be read (written: was written by somebody) or written; else what is wrong.
std::string check_device_range(const void* p, size_t bytes, bool needs_value);
bool in_device_memory(const void* p);
void acquire_release(Worker& worker, const void* p);
void forget_releases();

void add_report(Report report);
constexpr size_t kSharedWithoutOptIn = 48 * 1024;
int registers_of(const void* kernel);  // as Options::registers tells; 0: unknown
int shared_limit(int arch);            // bytes of shared memory that a block may have
void count(uint64_t blocks, uint64_t switches, uint64_t accesses);

}  // namespace emulator
