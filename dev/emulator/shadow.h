// Shadow memory: for every byte of shared and device memory, whether it may be accessed, whether it was written, and who accessed
// it last in this launch. It finds uninitialised reads, addresses outside tensors and data races exactly, in whatever order the
// threads happened to run.
//
// Happens-before. Every warp has a clock that its barriers advance. An access by thread t at clock c happens before thread u's
// current one if
//   t = u; or
//   both are in one warp, and after c its last barrier of all lanes passed, or one of some lanes that joins t to u; or
//   both are in one block, and its last barrier passed after c; or
//   u's block has seen an atomic of t's block that followed a fence.
// Two accesses to a byte race if one of them is a write and neither happens before the other.
//
// A cell holds the last writer and the readers since. Of the readers it keeps the lanes of the latest warp, whether a second warp
// read between the same two block barriers, and whether a second block read. That is enough to decide for any later writer
// whether it races.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulator {

enum State : uint8_t {
  kAddressable = 1,
  kWritten = 2,
  kInFlight = 4,  // the destination of a pending asynchronous copy
};

struct Cell {
  uint32_t write_stamp, write_who, write_pc;           // stamp: which block; who: thread | clock << 10; pc: offset in the program
  uint32_t read_stamp, read_who, read_lanes, read_pc;  // lanes of read_who's warp
  uint32_t flags;
};
static_assert(sizeof(Cell) == 32);
enum CellFlag : uint32_t {
  kSplit = 1,          // the bytes of a word have cells of their own
  kTwoWarps = 2,       // thread flags >> 16 of another warp read as well
  kTwoBlocks = 4,      // another block read as well
  kAtomicWrite = 8,    // the write was atomic
  kReadOnlyPath = 16,  // read through __ldg
  kWarpAtomics = 32,   // other threads of the writer's warp changed it too, all by unordered atomics
  kBlockAtomics = 64,  // so did threads of other warps
};

// An address range and its shadow, in memory that is committed on first touch.
struct Region {
  uintptr_t base = 0;
  size_t bytes = 0;
  uint8_t* state = nullptr;  // a State for every byte
  Cell* words = nullptr;     // a cell for every 4 bytes
  Cell* singles = nullptr;   // a cell for every byte, used for split words
  bool shared = false;
  void create(uintptr_t base, size_t bytes, bool shared);
  void destroy();
  bool contains(uintptr_t a) const { return a - base < bytes; }
};

void* map_memory(size_t bytes);  // zeros, committed on first touch; aborts with a message if the system refuses

}  // namespace emulator
