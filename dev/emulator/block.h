// How a block runs: its threads are fibers of one OS thread, which switch at barriers and warp collectives.
#pragma once

#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <memory>
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
  uint32_t first_stamp = 0;     // the i-th block to run has stamp first_stamp + i
  std::vector<uint32_t> order;  // linear block indices, in the order of running
  std::atomic<uint32_t> next{0};
  std::atomic<bool> failed{false};
  bool concurrent = false;     // more than one worker
  std::vector<Ran> unordered;  // earlier operations of other streams that do not happen before this launch
  uint32_t ordered_below = 0;  // blocks with smaller stamps happen before this launch
  uint3 block_index(uint32_t stamp) const;
};
void run_launch(Launch& launch);  // reports its first fault

enum class Wait : uint8_t { none, block_barrier, warp_barrier, shuffle, ballot, add, mma, ldmatrix, warpgroup, exited };

struct PendingCopy {
  uint8_t* to;
  const uint8_t* from;
  uint16_t size, bytes;
  uint32_t group;
  const void* site;
};

// What a thread's latest __threadfence publishes: its own accesses up to a clock, and those that barriers order before it.
struct Fence {
  uint32_t clock = 0;  // 0: none
  uint32_t all_lanes_clock = 0;
  std::vector<uint32_t> block_clocks;  // of each warp
};
// What an atomic after a fence releases to those that see it: the accesses of each thread of the block up to a clock.
using Released = std::shared_ptr<const std::vector<uint32_t>>;

struct Thread {
  fcontext_t context = nullptr;
  uintptr_t stack = 0;  // its lowest address
  uint3 index{};
  uint16_t id = 0;
  Wait wait = Wait::none;
  const void* site = nullptr;  // the call that it waits in
  uint32_t mask = 0;
  void* payload = nullptr;  // arguments and results of the collective
  Fence fence;
  uint32_t groups = 0;  // cp.async groups committed
  std::vector<PendingCopy> copies;
  uint32_t proxy_fence = 0, proxy_ordered = 0;  // clocks of its latest fence.proxy.async, of the latest that a barrier followed
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
  std::vector<uint32_t> known;  // [lane][other]: accesses of `other` before this clock happen before `lane`
};

// A wgmma whose results nobody has waited for.
struct PendingWgmma {
  struct Chunk {  // of an operand in shared memory, as it was at the issue
    const uint8_t* at;
    uint8_t bytes[16];
  };
  uint32_t group, columns;
  const void* site;
  std::vector<float*> d;      // each thread's accumulators
  std::vector<float> result;  // thread by thread
  std::vector<Chunk> chunks;
};
struct Warpgroup {
  static constexpr uint32_t kThreads = 128;
  uint32_t arrived = 0;  // threads that wait at the call
  const void* site = nullptr;
  bool fenced = false;  // wgmma.fence since the last commit_group or wait_group
  uint32_t groups = 0;  // committed
  std::vector<PendingWgmma> pending;
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
// Where dynamic shared memory begins in a block's window of shared addresses: aligned to the 16 bytes that it is declared with.
constexpr uint32_t kSharedWindow = 1024 + 16;

struct StaticShared {  // a __shared__ array that this block touched
  size_t offset, bytes;
};

// One per OS thread that runs blocks.
struct Worker {
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // What accesses are checked against, most used first.
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
  Warpgroup warpgroups[kMaxThreads / Warpgroup::kThreads];
  std::vector<uint16_t> runnable;
  uint32_t thread_count = 0, exited = 0;
  uint64_t random_state = 1;
  uintptr_t stacks = 0;
  uint8_t* dynamic_memory = nullptr;
  size_t dynamic_bytes = 0;  // of the current block; bytes behind it are not addressable
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
  std::atomic_flag* held = nullptr;  // the lock of shadow cells that it holds

  void run_block(Launch& launch, uint32_t number);  // sets failure
  void enter(Thread& thread);                       // makes it current
  void yield();                                     // the current thread waits; another one runs
  void make_runnable(const Thread& thread) { runnable.push_back(thread.id); }
  void thread_exits();
  [[noreturn]] void fail(Failure failure);
  uint64_t random();
  uint32_t lane() const { return current->id % 32u; }

  // Suspends the current thread until all lanes of the mask that exist have reached the same call. The last one completes it.
  void collective(Wait wait, const void* site, uint32_t mask, void* payload);
  void complete_groups(Warp& warp);
  [[noreturn]] void missing_lane(const WarpGroup& group, uint32_t lane);
  void diagnose();  // deadlock: says why
  void update_clock() { who = current->id | warp->clock << 10; }

 private:
  void prepare(Launch& launch, uint32_t number);
  void prepare_shared();
  void complete(Warp& warp, const WarpGroup& group);
};

// The worker whose block this OS thread runs; null in host code.
extern thread_local constinit Worker* running;
Worker& this_worker();

// Complete a collective of these lanes. Each lane's payload is at threads[…].payload.
using Finish = void(Worker& worker, Warp& warp, uint32_t lanes);
Finish finish_shuffle, finish_ballot, finish_add, finish_mma, finish_ldmatrix, finish_warp_barrier;

// One element of the result of mma or wgmma.
float mma_dot(const float* a, const float* b, float c, int inner, Operand type, MmaSum mode, int arch);

inline Thread& lane_thread(Worker& worker, const Warp& warp, uint32_t lane) {
  return worker.threads[static_cast<size_t>(&warp - worker.warps) * 32 + lane];
}

// Makes another thread the current one during a check.
struct ActAs {
  ActAs(Worker& w, Thread& thread) : worker(w), before(w.current) { become(thread); }
  ~ActAs() { become(*before); }
  ActAs(const ActAs&) = delete;
  ActAs& operator=(const ActAs&) = delete;
  void become(Thread& thread) const {
    worker.current = &thread;
    worker.warp = &worker.warps[thread.id / 32];
    worker.update_clock();
  }
  Worker& worker;
  Thread* before;
};

// ---- memory -------------------------------------------------------------------------------------------------------------------
enum class Access { read, write, atomic, constant };
// Checks an access of the current thread. Does not return if it is at fault.
void check_access(Worker& worker, const void* p, size_t size, Access access, const void* site);
template <Access kAccess, size_t kSize>
void check_sized(Worker& worker, const void* p, const void* site);
void check_aligned(Worker& worker, const void* p, size_t alignment, const char* what, const void* site);
void set_in_flight(Worker& worker, const void* p, size_t size, bool in_flight);
struct Address {
  std::string place, tensor;  // "byte 4 of x", "x"
};
Address describe_address(Worker& worker, uintptr_t a);
// A fault at an address. The text is that of `before`, the address, and `after`.
[[noreturn]] void fail_at(Worker& worker, Fault fault, const void* p, const std::string& before, const std::string& after,
                          const void* site, const void* other_site = nullptr);

// Device memory (memory.cpp).
extern Region device_memory;
Address describe_device_address(uintptr_t a);
// Empty if all bytes are addressable and, with needs_value, written; else what is wrong.
std::string check_device_range(const void* p, size_t bytes, bool needs_value);
bool in_device_memory(const void* p);
void acquire_release(Worker& worker, const void* p);
void forget_releases();

void add_report(Report report);
std::string index_text(uint3 i);            // "(0,1,2)"
std::string line_text(const Place& place);  // "kernel.cu:12"; "?" if it is unknown
Place place_of(const void* site);
constexpr size_t kSharedWithoutOptIn = 48 * 1024;
int registers_of(const void* kernel);  // from Options::registers; 0: unknown
int shared_limit(int arch);            // bytes of shared memory that a block may use
void count(uint64_t blocks, uint64_t switches, uint64_t accesses);

}  // namespace emulator
