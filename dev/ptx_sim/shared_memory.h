// A block's shared memory. It remembers who accessed what since the last barrier, and says which accesses are faults.
#pragma once

#include <cstdint>
#include <vector>

#include "dev/ptx_sim/instruction.h"

namespace ptx {

// Whoever accesses: a lane of a warp, between two barriers of the block (epoch) and of the warp (sync).
struct Accessor {
  int warp, lane;  // lane -1: all lanes of the warp
  uint32_t epoch, sync;
  uint32_t fences;  // fence.proxy.async of the lane so far
};
// Of bytes that the generic proxy wrote: by whom, and when.
struct Written {
  int warp, lane;
  uint32_t epoch, fences;
};

class SharedMemory {
 public:
  // Every access must be of a multiple of `cell` bytes and aligned to it.
  // async: the asynchronous proxy reads, too.
  SharedMemory(size_t bytes, size_t cell, bool async)
      : bytes_(bytes, 0xff), cell_(cell), cells_(bytes / cell + 1), async_(async ? cells_.size() : 0) {}
  size_t size() const { return bytes_.size(); }
  uint8_t* at(uint64_t address) { return bytes_.data() + address; }

  // What is wrong with an access; null: nothing.
  const char* read(const Accessor& who, uint64_t address, size_t bytes);
  const char* write(const Accessor& who, uint64_t address, size_t bytes) { return write_as(State::written, who, address, bytes); }
  // An asynchronous copy writes at some time between the two.
  const char* copy_begins(const Accessor& who, uint64_t address, size_t bytes) {
    return write_as(State::copying, who, address, bytes);
  }
  void copy_ends(const Accessor& who, uint64_t address, size_t bytes);
  // A wgmma reads at some time between the two. fenced(Written) says whether a proxy fence lies between such a write and the
  // wgmma.
  template <class F>
  const char* multiply_begins(const Accessor& who, uint64_t address, size_t bytes, const F& fenced) {
    const char* problem = read(who, address, bytes);
    for (uint64_t c = address / cell_; c < (address + bytes) / cell_; c++) {
      const Cell& cell = cells_[c];
      async_[c].readers++;
      if (cell.state != State::written || problem) continue;
      if (!fenced(Written{cell.writing_warp, cell.writing_lane, cell.write_epoch, async_[c].fences}))
        problem = "shared memory is read by a wgmma with no fence.proxy.async since it was written";
    }
    return problem;
  }
  void multiply_ends(const Accessor& who, uint64_t address, size_t bytes);

 private:
  enum class State : uint8_t { unwritten, written, copying };
  struct Cell {
    uint32_t write_epoch = 0, write_sync = 0;
    uint32_t read_epoch = 0, read_sync = 0;
    Lanes reading_warps = 0;  // in read_epoch
    Lanes reading_lanes = 0;  // of reading_warp, in read_sync
    uint8_t writing_warp = 0, writing_lane = 0, reading_warp = 0;
    State state = State::unwritten;
  };
  struct AsyncCell {
    uint32_t fences = 0;   // of the lane that wrote, before it wrote
    uint32_t readers = 0;  // wgmma in flight, in each warp
  };
  const char* write_as(State state, const Accessor& who, uint64_t address, size_t bytes);
  const char* write_cell(Cell& cell, const Accessor& who) const;
  void mark_written(Cell& cell, const Accessor& who, State state);
  static void mark_read(Cell& cell, const Accessor& who);
  template <class F>
  void for_cells(uint64_t address, size_t bytes, const F& f) {
    for (uint64_t c = address / cell_; c < (address + bytes) / cell_; c++) f(cells_[c]);
  }

  std::vector<uint8_t> bytes_;  // NaN until it is written
  size_t cell_;
  std::vector<Cell> cells_;
  std::vector<AsyncCell> async_;  // of the same cells; empty: nothing is asynchronous but copies
};

}  // namespace ptx
