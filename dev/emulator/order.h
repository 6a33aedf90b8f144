// Happens-before between operations (launches, copies, fills). Every operation has a vector clock; a history keeps those that
// ran. Two operations race if they touch the same memory, one of them writes, and neither happens before the other. As with
// blocks, the order in which they happened to run does not matter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

// Device or host memory that a copy or fill touches.
struct MemoryUse {
  const void* p;
  size_t bytes;
  bool write;
  bool overlaps(const void* q, size_t n) const {
    const auto a = reinterpret_cast<uintptr_t>(p), b = reinterpret_cast<uintptr_t>(q);
    return a < b + n && b < a + bytes;
  }
};

// A vector clock. An operation has a slot (of its stream, or of its chain of graph nodes) and a number in that slot. The clock
// holds for each slot the number up to which operations happen before.
struct Clock {
  std::vector<uint64_t> upto;
  uint64_t of(size_t slot) const { return slot < upto.size() ? upto[slot] : 0; }
  void set(size_t slot, uint64_t number);
  void join(const Clock& other);
};

struct Ran {  // an operation that has run
  size_t slot = 0;
  uint64_t number = 0;
  const void* kernel = nullptr;  // of a launch; its blocks have the stamps from first_stamp on
  uint32_t first_stamp = 0, blocks = 0;
  std::vector<MemoryUse> uses{};  // of a copy or fill
  const void* site = nullptr;     // the call in the program
};

class History {
 public:
  std::vector<Ran> unordered(size_t slot, const Clock& clock) const;  // with an operation of this slot and clock
  void add(Ran ran);
  void forget(const Clock& known);  // drops what happens before everything that may still run

 private:
  std::vector<std::vector<Ran>> by_slot_;
};

// An operation that is about to run, as the checks of its accesses need it.
struct Position {
  size_t slot = 0;
  uint64_t number = 0;
  Clock clock;
};

// Reports a race between a copy or fill that is about to run and operations that ran and are unordered with it.
void check_order(const std::vector<MemoryUse>& uses, const std::vector<Ran>& unordered, const void* site);

}  // namespace emulator
