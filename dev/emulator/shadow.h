// What is known of every byte of shared and device memory: may it be touched, was it written, and who touched it last in this
// launch. From that follow, exactly and whatever the order in which threads happened to run: reads of memory that nobody wrote,
// addresses outside of tensors, and races.
//
// Order. Every warp has a clock that its barriers advance. An access by thread t at clock c comes before thread u's now if t = u;
// or they share a warp and its last barrier of all lanes, or one of some lanes that joins t to u, came later than c; or the
// block's last barrier came later than c; or, from another block, if u's block has seen an atomic of t's block that followed a
// fence. Two accesses of a byte, one of them a write, not so ordered: a race.
//
// One record holds the last writer and the readers since. Of readers it keeps the latest warp's lanes, whether a second warp
// read between the same two block barriers, and whether a second block did: enough to tell of any later writer whether it races.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulator {

enum State : uint8_t {
  kAddressable = 1,
  kWritten = 2,
  kInFlight = 4,  // an asynchronous copy is to be written here
};

struct Cell {
  uint32_t write_stamp, write_who, write_pc;           // stamp: which block; who: thread | clock << 10; pc: offset in the program
  uint32_t read_stamp, read_who, read_lanes, read_pc;  // lanes of read_who's warp
  uint32_t flags;
};
static_assert(sizeof(Cell) == 32);
enum CellFlag : uint32_t {
  kSplit = 1,          // a word's bytes have records of their own
  kTwoWarps = 2,       // thread flags >> 16 of another warp read as well
  kTwoBlocks = 4,      // another block read as well
  kAtomicWrite = 8,    // the write was atomic
  kReadOnlyPath = 16,  // read as constant for the launch
  kWarpAtomics = 32,   // other threads of the writer's warp changed it as well, all of them by atomics that nothing orders
  kBlockAtomics = 64,  // and threads of other warps
};

// A range of addresses and its records, in memory that is committed as it is touched.
struct Region {
  uintptr_t base = 0;
  size_t bytes = 0;
  uint8_t* state = nullptr;  // a State for every byte
  Cell* words = nullptr;     // a record for every 4 bytes
  Cell* singles = nullptr;   // a record for every byte, of words that are split
  bool shared = false;
  void create(uintptr_t base, size_t bytes, bool shared);
  void destroy();
  bool contains(uintptr_t a) const { return a - base < bytes; }
};

void* map_memory(size_t bytes);  // zeros, committed as touched; aborts with a message where the system refuses

}  // namespace emulator
