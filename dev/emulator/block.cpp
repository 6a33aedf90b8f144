#include "dev/emulator/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "dev/emulator/symbols.h"

namespace emulator {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

thread_local constinit Worker* running = nullptr;
// blockDim and gridDim, which kernels see as constants.
constinit thread_local dim3 block_size __asm__("emulator_block_size");
constinit thread_local dim3 grid_size __asm__("emulator_grid_size");

Worker& this_worker() {
  thread_local Worker worker;
  return worker;
}

Worker::Worker() : threads(kMaxThreads) {
  // An inaccessible guard page below every stack stops one that grows too deep.
  stacks = reinterpret_cast<uintptr_t>(map_memory(kStackBytes * kMaxThreads));
  for (size_t i = 0; i < kMaxThreads; i++) mprotect(reinterpret_cast<void*>(stacks + i * kStackBytes), 4096, PROT_NONE);
  dynamic_memory = static_cast<uint8_t*>(map_memory(kMaxDynamicBytes));
  dynamic.create(reinterpret_cast<uintptr_t>(dynamic_memory), kMaxDynamicBytes, true);
  const Span span = thread_local_block();
  statics.create(span.base, span.bytes, true);
  for (const dim3* p : {&block_size, &grid_size})
    std::memset(statics.state + (reinterpret_cast<uintptr_t>(p) - span.base), kAddressable | kWritten, sizeof(dim3));
  for (size_t i = 0; i < kMaxThreads; i++) {
    threads[i].id = static_cast<uint16_t>(i);
    threads[i].stack = stacks + i * kStackBytes;
  }
  runnable.reserve(kMaxThreads);
}
Worker::~Worker() {
  munmap(reinterpret_cast<void*>(stacks), kStackBytes * kMaxThreads);
  munmap(dynamic_memory, kMaxDynamicBytes);
  dynamic.destroy();
  statics.destroy();
}

uint64_t Worker::random() {  // xorshift64*
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * 0x2545f4914f6cdd1dull >> 32;
}

// ---- fibers -------------------------------------------------------------------------------------------------------------------
void Worker::enter(Thread& thread) {
  current = &thread;
  stack = thread.stack;
  warp = &warps[thread.id / 32];
  update_clock();
  switches++;
}

namespace {
void thread_main(transfer_t from) {
  *static_cast<fcontext_t*>(from.data) = from.fctx;
  Worker& worker = *running;
  worker.launch->run(worker.launch->kernel, worker.launch->arguments.get());
  worker.thread_exits();
}
// Runs `to`, and returns when something switches back to `from`.
void switch_context(fcontext_t to, fcontext_t* from) {
  const transfer_t t = jump_fcontext(to, from);
  *static_cast<fcontext_t*>(t.data) = t.fctx;
}
}  // namespace

void Worker::yield() {
  Thread* self = current;
  if (runnable.empty()) {
    switch_context(main, &self->context);
    return;
  }
  const size_t pick = random() % runnable.size();
  Thread& next = threads[runnable[pick]];
  runnable[pick] = runnable.back();
  runnable.pop_back();
  if (&next == self) {
    update_clock();
    return;
  }
  enter(next);
  switch_context(next.context, &self->context);
}

void Worker::thread_exits() {
  if (const Warpgroup& group = warpgroups[current->id / Warpgroup::kThreads]; !group.pending.empty())
    fail({.fault = Fault::wgmma, .text = "returns while a wgmma is in flight", .site = group.pending.front().site});
  current->wait = Wait::exited;
  exited++;
  warp->exited |= 1u << lane();
  for (const WarpGroup& g : warp->groups)
    if (g.mask >> lane() & 1u) missing_lane(g, lane());
  yield();
  std::abort();  // nobody resumes a thread that has exited
}

void Worker::fail(Failure f) {
  if (!f.thread) f.thread = current;
  failure = std::make_unique<Failure>(std::move(f));
  if (held) held->clear(std::memory_order_release);
  held = nullptr;
  switch_context(main, &nowhere);
  std::abort();  // nor one that failed
}

// ---- a block ------------------------------------------------------------------------------------------------------------------
void Worker::prepare_shared() {
  // Shared memory starts as a NaN whose payload depends on the block, so leftovers look different in every block.
  const size_t clear = std::max(dynamic_bytes, launch->dynamic_bytes);
  std::memset(dynamic.state, 0, clear);
  dynamic_bytes = launch->dynamic_bytes;
  std::memset(dynamic.state, kAddressable, dynamic_bytes);
  const uint32_t poison = 0xffa00000u | (stamp & 0xffffu);
  for (size_t i = 0; i + 4 <= dynamic_bytes; i += 4) std::memcpy(dynamic_memory + i, &poison, 4);
  for (const StaticShared& s : touched) std::memset(statics.state + s.offset, 0, s.bytes);
  touched.clear();
}

void Worker::prepare(Launch& l, uint32_t number) {
  launch = &l;
  stamp = l.first_stamp + number;
  first_stamp = l.first_stamp;
  ordered_below = l.ordered_below;
  copies_elsewhere = std::any_of(l.unordered.begin(), l.unordered.end(), [](const Ran& ran) { return !ran.uses.empty(); });
  block_index = l.block_index(stamp);
  races = options().races;
  concurrent = l.concurrent;
  random_state = (l.seed ^ (l.order[number] * 0x9e3779b97f4a7c15ull)) | 1;
  for (int i = 0; i < 4; i++) random();
  thread_count = l.block.x * l.block.y * l.block.z;
  exited = 0;
  barrier_waiting = barrier_votes = 0;
  barrier_first = nullptr;
  failure.reset();
  acquired.clear();
  runnable.clear();
  for (uint32_t i = 0; i < thread_count; i++) {
    Thread& t = threads[i];
    t.index = {i % l.block.x, i / l.block.x % l.block.y, i / (l.block.x * l.block.y)};
    t.wait = Wait::none;
    t.fence.clock = 0;
    t.groups = 0;
    t.copies.clear();
    t.proxy_fence = t.proxy_ordered = 0;
    t.context = make_fcontext(reinterpret_cast<void*>(t.stack + kStackBytes), kStackBytes, thread_main);
    runnable.push_back(t.id);
  }
  for (uint32_t i = 0; i < (thread_count + 31) / 32; i++) {
    Warp& w = warps[i];
    const uint32_t lanes = std::min(32u, thread_count - 32 * i);
    w.present = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
    w.exited = 0;
    w.clock = w.all_lanes_clock = w.block_clock = 1;
    w.groups.clear();
    w.known.clear();
  }
  for (Warpgroup& group : warpgroups) {
    group.arrived = group.groups = 0;
    group.fenced = false;
    group.pending.clear();
  }
  prepare_shared();
}

void Worker::run_block(Launch& l, uint32_t number) {
  prepare(l, number);
  running = this;
  block_size = l.block;
  grid_size = l.grid;
  while (!failure && exited < thread_count) {
    if (runnable.empty()) {
      diagnose();
      break;
    }
    const size_t pick = random() % runnable.size();
    Thread& next = threads[runnable[pick]];
    runnable[pick] = runnable.back();
    runnable.pop_back();
    enter(next);
    switch_context(next.context, &main);
  }
  running = nullptr;
}

// ---- the block's barrier ------------------------------------------------------------------------------------------------------
int block_barrier(Vote vote, bool predicate) {
  Worker& w = *running;
  Thread& self = *w.current;
  const void* site = __builtin_return_address(0);
  if (w.barrier_waiting == 0) {
    w.barrier_first = &self;
  } else if (w.barrier_first->site != site && !same_source(w.barrier_first->site, site)) {
    w.fail({.fault = Fault::barrier,
            .text = "waits at another barrier than thread " + std::to_string(w.barrier_first->id),
            .thread = &self,
            .site = site,
            .other_site = w.barrier_first->site});
  }
  self.wait = Wait::block_barrier;
  self.site = site;
  w.barrier_votes += predicate;
  if (++w.barrier_waiting == w.thread_count) {
    w.barrier_result[0] = static_cast<int>(w.barrier_votes);
    w.barrier_result[1] = w.barrier_votes == w.thread_count;
    w.barrier_result[2] = w.barrier_votes != 0;
    w.barrier_waiting = w.barrier_votes = 0;
    for (uint32_t i = 0; i < (w.thread_count + 31) / 32; i++) {
      Warp& warp = w.warps[i];
      warp.block_clock = warp.all_lanes_clock = ++warp.clock;
    }
    for (uint32_t i = 0; i < w.thread_count; i++) {
      w.threads[i].wait = Wait::none;
      w.make_runnable(w.threads[i]);
    }
  }
  w.yield();
  return w.barrier_result[static_cast<int>(vote)];
}

// ---- built-in variables and fences --------------------------------------------------------------------------------------------
uint3 thread_index() { return running->current->index; }
uint3 block_index() { return running->block_index; }
int arch() { return options().arch; }
void* dynamic_shared() { return running->dynamic_memory; }
void thread_fence() {
  Worker& w = *running;
  Fence& fence = w.current->fence;
  fence.clock = w.warp->clock++;  // later accesses of the thread come after the fence
  w.update_clock();
  fence.all_lanes_clock = w.warp->all_lanes_clock;
  fence.block_clocks.clear();
  for (uint32_t i = 0; i < (w.thread_count + 31) / 32; i++) fence.block_clocks.push_back(w.warps[i].block_clock);
}
void trap() { running->fail({.fault = Fault::trap, .text = "stopped itself", .site = __builtin_return_address(0)}); }

uint3 Launch::block_index(uint32_t stamp) const {
  const uint32_t i = order[stamp - first_stamp];
  return {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
}

}  // namespace emulator
