// Checks of one access: is it in bounds, is what it reads written, and does it race with another access?
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/symbols.h"

namespace emulator {

void* map_memory(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    std::fprintf(stderr, "emulator: the system refuses %zu MiB of address space\n", bytes >> 20);
    std::abort();
  }
  return p;
}
void Region::create(uintptr_t base_, size_t bytes_, bool shared_) {
  base = base_;
  bytes = bytes_;
  shared = shared_;
  state = static_cast<uint8_t*>(map_memory(bytes + 64));
  words = static_cast<Cell*>(map_memory((bytes / 4 + 4) * sizeof(Cell)));
  singles = static_cast<Cell*>(map_memory((bytes + 16) * sizeof(Cell)));
}
void Region::destroy() {
  munmap(state, bytes + 64);
  munmap(words, (bytes / 4 + 4) * sizeof(Cell));
  munmap(singles, (bytes + 16) * sizeof(Cell));
}

namespace {

// ---- happens-before -----------------------------------------------------------------------------------------------------------
inline bool same_block_ordered(const Worker& w, uint32_t who) {
  const uint32_t thread = who & 1023u, clock = who >> 10;
  if (thread == w.current->id) return true;
  const Warp& other = w.warps[thread / 32];
  if (&other != w.warp) return clock < other.block_clock;
  return clock < other.all_lanes_clock || (!other.known.empty() && other.known[32 * (w.current->id % 32u) + thread % 32] > clock);
}
bool other_block_ordered(const Worker& w, uint32_t stamp, uint32_t who) {
  return std::any_of(w.acquired.begin(), w.acquired.end(), [&](const Worker::Acquired& a) {
    return a.stamp == stamp && (who >> 10) <= (*a.released)[who & 1023u] && same_block_ordered(w, a.who);
  });
}

// The launch that this stamp's block belongs to, if it is of another stream and unordered with this one; else null.
[[gnu::noinline]] const Ran* unordered_launch(const Worker& w, uint32_t stamp) {
  for (const Ran& ran : w.launch->unordered)
    if (ran.kernel && stamp - ran.first_stamp < ran.blocks) return &ran;
  return nullptr;
}

struct Earlier {  // the access that the current one races with
  uint32_t stamp, thread, pc;
  const char* did;
  bool block_known = true, thread_known = true;
};
constexpr const char* kLdg = "__ldg";
[[noreturn, gnu::noinline]] void race(Worker& w, uintptr_t a, Access access, const void* site, Earlier e) {
  const char* verb = access == Access::write ? "writes " : access == Access::atomic ? "changes " : "reads ";
  std::string after;
  if (e.did == kLdg) {
    verb = access == Access::constant ? "reads " : "writes ";
    after = access == Access::constant ? " through __ldg, though the same launch writes it"
                                       : ", though the same launch reads it through __ldg";
  } else if (!e.thread_known) {
    after = fmt::format(", which other threads {} with no barrier between", e.did);
  } else if (e.stamp == w.stamp) {
    after = fmt::format(", which thread {} {} with no barrier between", index_text(w.threads[e.thread].index), e.did);
  } else if (const Ran* ran = e.block_known ? unordered_launch(w, e.stamp) : nullptr) {
    after = fmt::format(", which {} {} in another stream, and nothing orders the two launches", launch_name(ran->kernel), e.did);
  } else {
    const std::string block = e.block_known ? "block " + index_text(w.launch->block_index(e.stamp)) : "another block";
    after = fmt::format(", which {} {} in the same launch", block, e.did);
  }
  fail_at(w, Fault::race, reinterpret_cast<const void*>(a), verb, after, site,
          reinterpret_cast<const void*>(program_base() + e.pc));
}

// Of several unordered atomics the cell holds the latest. Flags keep what is known of the others, until a barrier.
inline uint32_t earlier_atomics(const Worker& w, const Cell& c) {
  if (c.write_stamp != w.stamp || !(c.flags & kAtomicWrite)) return 0;
  const Warp& warp = w.warps[(c.write_who & 1023u) / 32];
  const uint32_t clock = c.write_who >> 10;
  uint32_t flags = clock < warp.block_clock ? 0 : c.flags & (kWarpAtomics | kBlockAtomics);
  if (clock < warp.all_lanes_clock) flags &= ~static_cast<uint32_t>(kWarpAtomics);
  return flags;
}
// The flags after one more atomic, by the current thread.
inline uint32_t with_atomic(const Worker& w, const Cell& c) {
  uint32_t flags = earlier_atomics(w, c);
  const bool same_warp = &w.warps[(c.write_who & 1023u) / 32] == w.warp;
  if (flags && !same_warp) flags = kBlockAtomics;
  if (c.write_stamp == w.stamp && (c.flags & kAtomicWrite) && !same_block_ordered(w, c.write_who))
    flags |= same_warp ? kWarpAtomics : kBlockAtomics;
  return flags;
}

template <bool kShared>
inline bool of_this_launch(const Worker& w, uint32_t stamp) {
  if (kShared) return stamp == w.stamp;
  return stamp >= w.ordered_below && (stamp >= w.first_stamp || unordered_launch(w, stamp));
}

// Checks one access against one cell and records it there.
template <Access kAccess, bool kShared>
inline void touch(Worker& w, Cell& c, uintptr_t a, const void* site, uint32_t pc) {
  // Fast path: this thread has read it before, and since then nobody wrote and no barrier passed.
  if (kAccess == Access::read && c.read_stamp == w.stamp && c.read_who == w.who) return;
  if (of_this_launch<kShared>(w, c.write_stamp)) {
    const bool both_atomic = kAccess == Access::atomic && (c.flags & kAtomicWrite);
    const bool ordered = both_atomic || (c.write_stamp == w.stamp ? same_block_ordered(w, c.write_who)
                                                                  : other_block_ordered(w, c.write_stamp, c.write_who));
    if (!ordered || kAccess == Access::constant)
      race(w, a, kAccess, site, {c.write_stamp, c.write_who & 1023u, c.write_pc, ordered ? kLdg : "wrote"});
    if (kAccess != Access::atomic && earlier_atomics(w, c))
      race(w, a, kAccess, site, {c.write_stamp, 0, c.write_pc, "changed", true, false});
  }
  const uint32_t lane_bit = 1u << (w.current->id % 32u);
  const bool read_before = of_this_launch<kShared>(w, c.read_stamp);
  if constexpr (kAccess == Access::read || kAccess == Access::constant) {
    if (!read_before) {
      c.flags &= ~(kTwoWarps | kTwoBlocks | kReadOnlyPath);
      c.read_lanes = lane_bit;
    } else if (c.read_stamp != w.stamp) {
      c.flags = (c.flags & ~static_cast<uint32_t>(kTwoWarps)) | kTwoBlocks;
      c.read_lanes = lane_bit;
    } else {
      const uint32_t clock = c.read_who >> 10;
      const Warp& reader = w.warps[(c.read_who & 1023u) / 32];
      if (clock < reader.block_clock) {
        c.flags &= ~static_cast<uint32_t>(kTwoWarps);
        c.read_lanes = lane_bit;
      } else if (&reader == w.warp) {
        c.read_lanes = clock < reader.all_lanes_clock ? lane_bit : c.read_lanes | lane_bit;
      } else {
        c.flags = (c.flags & 0xffffu) | kTwoWarps | static_cast<uint32_t>(w.current->id) << 16;
        if (kAccess == Access::constant) c.flags |= kReadOnlyPath;
        return;
      }
    }
    if (kAccess == Access::constant) c.flags |= kReadOnlyPath;
    c.read_stamp = w.stamp;
    c.read_who = w.who;
    c.read_pc = pc;
  } else {
    if (read_before) {
      const uint32_t reader = c.read_who & 1023u;
      if (c.read_stamp != w.stamp) {
        if (!other_block_ordered(w, c.read_stamp, c.read_who))
          race(w, a, kAccess, site, {c.read_stamp, reader, c.read_pc, "read"});
      } else {
        if (c.flags & kTwoBlocks) race(w, a, kAccess, site, {0, 0, c.read_pc, "read", false});
        const Warp& warp = w.warps[reader / 32];
        if (&warp == w.warp) {
          for (uint32_t lanes = c.read_lanes & ~lane_bit; lanes; lanes &= lanes - 1) {
            const uint32_t other = reader / 32 * 32 + static_cast<uint32_t>(__builtin_ctz(lanes));
            if (!same_block_ordered(w, other | (c.read_who & ~1023u)))
              race(w, a, kAccess, site, {c.read_stamp, other, c.read_pc, "read"});
          }
        } else if (!same_block_ordered(w, c.read_who)) {
          race(w, a, kAccess, site, {c.read_stamp, reader, c.read_pc, "read"});
        }
        if ((c.flags & kTwoWarps) && (c.read_who >> 10) >= warp.block_clock)
          race(w, a, kAccess, site, {c.read_stamp, c.flags >> 16, c.read_pc, "read"});
      }
      if (c.flags & kReadOnlyPath) race(w, a, kAccess, site, {c.read_stamp, reader, c.read_pc, kLdg});
    }
    const uint32_t atomics = kAccess == Access::atomic ? kAtomicWrite | with_atomic(w, c) : 0u;
    c.write_stamp = w.stamp;
    c.write_who = w.who;
    c.write_pc = pc;
    c.read_stamp = 0;
    c.flags = (c.flags & kSplit) | atomics;
  }
}

template <Access kAccess, bool kShared>
[[gnu::always_inline]] inline void touch_range(Worker& w, Region& r, size_t offset, size_t size, const void* site) {
  const uint32_t pc = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(site) - program_base());
  const size_t end = offset + size;
  while (offset < end) {
    const size_t word = offset / 4, stop = std::min(end, word * 4 + 4);
    Cell& c = r.words[word];
    if (stop - offset == 4 && !(c.flags & kSplit)) {
      touch<kAccess, kShared>(w, c, r.base + offset, site, pc);
    } else {
      Cell* singles = r.singles + word * 4;
      if (!(c.flags & kSplit)) {
        for (int i = 0; i < 4; i++) singles[i] = c;
        c.flags |= kSplit;
      }
      for (size_t i = offset; i < stop; i++) touch<kAccess, kShared>(w, r.singles[i], r.base + i, site, pc);
      if (stop - offset == 4 && kAccess == Access::write) {  // the four are equal again
        c = singles[0];
        c.flags &= ~static_cast<uint32_t>(kSplit);
      }
    }
    offset = stop;
  }
}

// Blocks of a launch run concurrently and share the shadow cells of device memory.
std::atomic_flag locks[1024];
struct RecordLock {  // Worker::fail unlocks it too, because it skips destructors
  RecordLock(Worker& w, size_t offset) : worker(w) {
    w.held = &locks[offset / 64 % 1024];
    while (w.held->test_and_set(std::memory_order_acquire)) {
    }
  }
  ~RecordLock() {
    worker.held->clear(std::memory_order_release);
    worker.held = nullptr;
  }
  Worker& worker;
};

template <Access kAccess>
[[gnu::always_inline]] inline void touch_all(Worker& w, Region& r, size_t offset, size_t size, const void* site) {
  if (r.shared) return touch_range<kAccess, true>(w, r, offset, size, site);
  if (!w.concurrent) return touch_range<kAccess, false>(w, r, offset, size, site);
  while (size > 0) {
    const size_t part = std::min(size, 64 - offset % 64);
    const RecordLock lock(w, offset);
    touch_range<kAccess, false>(w, r, offset, part, site);
    offset += part;
    size -= part;
  }
}

// ---- bounds and initialisation ------------------------------------------------------------------------------------------------
// The first access of a block to a __shared__ array makes its bytes addressable.
bool wake_static(Worker& w, uintptr_t a) {
  const auto& symbols = thread_local_symbols();
  const size_t offset = a - w.statics.base;
  auto it =
      std::upper_bound(symbols.begin(), symbols.end(), offset, [](size_t x, const ThreadLocalSymbol& s) { return x < s.offset; });
  if (it == symbols.begin() || offset >= (--it)->offset + it->bytes) return false;
  if (w.statics.state[it->offset] & kAddressable) return false;  // the access reaches beyond its end
  std::memset(w.statics.state + it->offset, kAddressable, it->bytes);
  const uint32_t poison = 0xffa00000u | (w.stamp & 0xffffu);
  auto* bytes = reinterpret_cast<uint8_t*>(w.statics.base + it->offset);
  for (size_t i = 0; i + 4 <= it->bytes; i += 4) std::memcpy(bytes + i, &poison, 4);
  w.touched.push_back({it->offset, it->bytes});
  size_t total = w.launch->dynamic_bytes;
  for (const StaticShared& s : w.touched) total += s.bytes;
  const size_t statics = total - w.launch->dynamic_bytes, granted = std::max<size_t>(48 * 1024, w.launch->opt_in + statics);
  if (statics > 48 * 1024 || total > static_cast<size_t>(shared_limit(arch())) || total > granted)
    w.fail({.fault = Fault::launch,
            .text = fmt::format("uses {} bytes of static and {} of dynamic shared memory: more than 48 KiB without "
                                "cudaFuncSetAttribute, or more than sm_{}'s {}",
                                statics, w.launch->dynamic_bytes, arch() / 10, shared_limit(arch()))});
  return true;
}

[[noreturn, gnu::noinline]] void bad_state(Worker& w, const Region& r, size_t offset, size_t size, bool write, const void* site) {
  for (size_t i = offset; i < offset + size; i++) {
    const uint8_t s = i < r.bytes ? r.state[i] : 0;
    Fault fault = Fault::out_of_bounds;
    const char* what = ", which is outside every tensor";
    if (s & kInFlight) {
      fault = Fault::copy_in_flight;
      what = ", which an asynchronous copy still has to deliver";
    } else if (s & kAddressable) {
      if (write || s & kWritten) continue;
      fault = Fault::uninitialised;
      what = ", which nobody has written";
    }
    fail_at(w, fault, reinterpret_cast<const void*>(r.base + i), fmt::format("{} {} bytes at ", write ? "writes" : "reads", size),
            what, site);
  }
  std::abort();
}

template <size_t kBytes>
inline uint64_t load(const uint8_t* p) {
  uint64_t v = 0;
  std::memcpy(&v, p, kBytes);
  return v;
}
template <size_t kBytes, bool kWrite>
inline bool state_good(uint8_t* s) {
  constexpr uint64_t kOnes = 0x0101010101010101ull >> (64 - 8 * kBytes);
  if (kWrite) {
    if ((load<kBytes>(s) & kOnes * 5) != kOnes) return false;
    const uint64_t written = kOnes * 3;
    std::memcpy(s, &written, kBytes);
    return true;
  }
  return load<kBytes>(s) == kOnes * 3;
}
template <bool kWrite>
[[gnu::always_inline]] inline bool state_good(uint8_t* s, size_t size) {
  switch (size) {
    case 1:
      return state_good<1, kWrite>(s);
    case 2:
      return state_good<2, kWrite>(s);
    case 4:
      return state_good<4, kWrite>(s);
    case 8:
      return state_good<8, kWrite>(s);
    case 16:
      return state_good<8, kWrite>(s) && state_good<8, kWrite>(s + 8);
    default:
      for (size_t i = 0; i < size; i++)
        if (!state_good<1, kWrite>(s + i)) return false;
      return true;
  }
}

[[gnu::noinline]] void other_memory(Worker& w, uintptr_t a, size_t size, bool write, const void* site) {
  const uintptr_t arguments = reinterpret_cast<uintptr_t>(w.launch->arguments.get());
  if (!write && a - arguments < w.launch->argument_bytes) return;  // the kernel's parameters
  if (!write && is_constant(a)) return;                            // a table of constants
  fail_at(w, Fault::out_of_bounds, reinterpret_cast<const void*>(a),
          fmt::format("{} {} bytes at ", write ? "writes" : "reads", size), "", site);
}

[[gnu::noinline]] void copied_elsewhere(Worker& w, uintptr_t a, size_t size, Access access, const void* site) {
  const bool write = access == Access::write || access == Access::atomic;
  for (const Ran& ran : w.launch->unordered)
    for (const MemoryUse& use : ran.uses)
      if ((write || use.write) && use.overlaps(reinterpret_cast<const void*>(a), size))
        fail_at(
            w, Fault::race, reinterpret_cast<const void*>(a), write ? "writes " : "reads ",
            fmt::format(", which a copy or fill {} in another stream, and nothing orders the two", use.write ? "wrote" : "read"),
            site, ran.site);
}

template <Access kAccess>
[[gnu::always_inline]] inline void check(Worker& w, uintptr_t a, size_t size, const void* site) {
  constexpr bool kWrite = kAccess == Access::write;  // an atomic also reads, so its target must have been written
  if (a - w.stack < kStackBytes) return;
  Region* r = w.dynamic.contains(a)       ? &w.dynamic
              : device_memory.contains(a) ? &device_memory
              : w.statics.contains(a)     ? &w.statics
                                          : nullptr;
  if (!r) return other_memory(w, a, size, kAccess == Access::write || kAccess == Access::atomic, site);
  w.accesses++;
  const size_t offset = a - r->base;
  if (!state_good<kWrite>(r->state + offset, size) &&
      !(r == &w.statics && wake_static(w, a) && state_good<kWrite>(r->state + offset, size)))
    bad_state(w, *r, offset, size, kWrite, site);
  if (w.copies_elsewhere && r == &device_memory) copied_elsewhere(w, a, size, kAccess, site);
  if (w.races) touch_all<kAccess>(w, *r, offset, size, site);
}

}  // namespace

template <Access kAccess, size_t kSize>
void check_sized(Worker& w, const void* p, const void* site) {
  check<kAccess>(w, reinterpret_cast<uintptr_t>(p), kSize, site);
}
#define EMULATOR_SIZED(n)                                                             \
  template void check_sized<Access::read, n>(Worker&, const void*, const void* site); \
  template void check_sized<Access::write, n>(Worker&, const void*, const void* site);
EMULATOR_SIZED(1)
EMULATOR_SIZED(2)
EMULATOR_SIZED(4)
EMULATOR_SIZED(8)
EMULATOR_SIZED(16)

void check_access(Worker& w, const void* p, size_t size, Access access, const void* site) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  switch (access) {
    case Access::read:
      return check<Access::read>(w, a, size, site);
    case Access::write:
      return check<Access::write>(w, a, size, site);
    case Access::atomic:
      return check<Access::atomic>(w, a, size, site);
    case Access::constant:
      return check<Access::constant>(w, a, size, site);
  }
}

}  // namespace emulator
