// A block of threads at work, and what the handlers of instructions see of it.
#pragma once

#include <bit>
#include <set>
#include <type_traits>

#include "dev/ptx_sim/device_memory.h"
#include "dev/ptx_sim/shared_memory.h"

namespace ptx {

// ---- values -------------------------------------------------------------------------------------------------------------------
// A register holds a value's bits, and zeros above them.
template <class T>
using Cell = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
template <class T>
T value_of(Cell<T> bits) {
  if constexpr (std::is_floating_point_v<T>)
    return std::bit_cast<T>(bits);
  else
    return static_cast<T>(bits);
}
template <class T>
Cell<T> bits_of(T value) {
  if constexpr (std::is_floating_point_v<T>)
    return std::bit_cast<Cell<T>>(value);
  else
    return static_cast<Cell<T>>(static_cast<std::make_unsigned_t<T>>(value));
}

template <class F>
void for_lanes(Lanes mask, const F& f) {
  if (mask == kAllLanes)
    for (int lane = 0; lane < kWarp; lane++) f(lane);
  else
    for (; mask; mask &= mask - 1) f(std::countr_zero(mask));
}

// ---- a block
// --------------------------------------------------------------------------------------------------------------------
struct Copy {  // cp.async
  uint64_t to, from;
  uint32_t size, bytes, group;
};

// wgmma.mma_async
struct Multiply {
  uint32_t at;  // the instruction
  const WarpgroupMultiply* what;
  std::array<uint64_t, 2> descriptor;
  bool add;  // to D
  uint32_t group;
};
// A register that a wgmma of the kernel accesses, in one warp.
struct WatchedRegister {
  uint32_t results = 0, inputs = 0;       // wgmma in flight that have it as D, and as A
  uint32_t touched = 0, multiplied = 0;   // after how many wgmma.fence another instruction accessed it, and a wgmma; 0: never
  int columns = 0;                        // of that wgmma, whose D it was; 0: it was A
  std::array<uint32_t, kWarp> held = {};  // what D is while it is in flight
};
struct WarpgroupStep {  // one of a warpgroup's wgmma instructions: all its warps execute the same
  uint32_t at;
  std::array<uint64_t, 2> descriptor;
  bool add;
  bool operator==(const WarpgroupStep&) const = default;
};

struct Warp {
  int id = 0;
  std::vector<uint32_t> narrow;
  std::vector<uint64_t> wide;
  std::vector<Lanes> predicates;
  std::array<uint32_t, kWarp> pc;
  Lanes live, at_barrier, blocked;  // blocked: wait for other lanes of the warp
  uint32_t sync;                    // barriers of the warp so far
  uint32_t barrier;                 // at which instruction at_barrier wait
  std::array<std::vector<Copy>, kWarp> copies;
  std::array<uint32_t, kWarp> group;                      // the group of copies that is open
  std::array<std::vector<uint32_t>, kWarp> proxy_fences;  // of each lane: the epochs of its fence.proxy.async
  std::vector<Multiply> multiplies;                       // in flight
  std::vector<WatchedRegister> watched;
  uint32_t multiply_group;  // that is open
  uint32_t fences;          // wgmma.fence so far
  size_t steps;             // of its warpgroup since the block's latest barrier
};

struct Block {
  Kernel& kernel;
  Extent index;  // of the block
  const std::vector<uint8_t>& arguments;
  SharedMemory shared;
  std::vector<uint64_t>& executed;
  uint64_t random;  // state of the generator; 0: everything in order
  uint32_t epoch = 1;
  std::vector<Warp>* warps = nullptr;
  std::vector<std::vector<WarpgroupStep>> steps = {};  // of each warpgroup, since the latest barrier
  Warp* warp = nullptr;
  uint32_t at = 0;                                 // the instruction that runs
  Range range = {};                                // of the latest access
  bool range_read = false, range_written = false;  // it is in the sets below
  std::set<uint64_t> constant = {}, written = {};  // begin of ranges that were read as constant, and written

  void run(std::vector<Warp>& warps);

  [[noreturn]] void fault(const std::string& what, int lane = -1) const;
  void report(const std::string& what) const;

  template <class T>
  Cell<T>* row(const Operand& o) {
    constexpr bool kWide = sizeof(T) == 8;
    if (o.file != (kWide ? File::wide : File::narrow)) fault("an operand's width");
    if constexpr (kWide)
      return warp->wide.data() + size_t{o.index} * kWarp;
    else
      return warp->narrow.data() + size_t{o.index} * kWarp;
  }
  Lanes& predicate(const Operand& o) {
    if (o.file != File::predicate) fault("an operand that is no predicate");
    return warp->predicates[o.index];
  }
  Lanes condition(const Operand& o) { return o.negated ? ~predicate(o) : predicate(o); }
  void set(const Operand& o, Lanes mask, Lanes values) {
    Lanes& p = predicate(o);
    p = (p & ~mask) | (values & mask);
  }
  // A register of any width.
  uint64_t get(const Operand& o, int lane) {
    if (o.file == File::predicate) return condition(o) >> lane & 1;
    return o.file == File::wide ? warp->wide[size_t{o.index} * kWarp + static_cast<size_t>(lane)]
                                : warp->narrow[size_t{o.index} * kWarp + static_cast<size_t>(lane)];
  }
  void put(const Operand& o, int lane, uint64_t bits) {
    if (o.file == File::wide)
      warp->wide[size_t{o.index} * kWarp + static_cast<size_t>(lane)] = bits;
    else if (o.file == File::narrow)
      warp->narrow[size_t{o.index} * kWarp + static_cast<size_t>(lane)] =
          static_cast<uint32_t>(bits & (~uint64_t{0} >> (64 - o.bits)));
    else
      set(o, Lanes{1} << lane, bits & 1 ? kAllLanes : 0);
  }
  uint64_t address(const Address& a, int lane) { return get(a.base, lane) + static_cast<uint64_t>(a.offset); }
  Accessor accessor(int lane) const {
    const size_t fences = lane < 0 ? 0 : warp->proxy_fences[static_cast<size_t>(lane)].size();
    return {warp->id, lane, epoch, warp->sync, static_cast<uint32_t>(fences)};
  }

 private:
  void run(Warp& w);
  void check_warpgroups();
  bool step_together(const Instruction& i, Lanes& mask, uint32_t& pc);
  uint64_t by_chance();
};

}  // namespace ptx
