// What comes before what: a clock for every operation of a stream, and a history of those that ran, to tell two that touch the
// same memory with nothing to order them. As blocks do, they race whichever of them happened to run first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

// Memory that a copy or a fill touches, of the device or of the host.
struct MemoryUse {
  const void* p;
  size_t bytes;
  bool write;
  bool overlaps(const void* q, size_t n) const {
    const auto a = reinterpret_cast<uintptr_t>(p), b = reinterpret_cast<uintptr_t>(q);
    return a < b + n && b < a + bytes;
  }
};

// Operations have slots (a stream's, or that of a chain of a graph's nodes) and numbers in them. A clock holds, for each slot,
// the number up to which its operations come before.
struct Clock {
  std::vector<uint64_t> upto;
  uint64_t of(size_t slot) const { return slot < upto.size() ? upto[slot] : 0; }
  void set(size_t slot, uint64_t number);
  void join(const Clock& other);
};

struct Ran {  // an operation that has run
  size_t slot = 0;
  uint64_t number = 0;
  const void* kernel = nullptr;  // of a launch, whose blocks have these stamps
  uint32_t first_stamp = 0, blocks = 0;
  std::vector<MemoryUse> uses{};  // of anything else
  const void* site = nullptr;     // where the program called for it
};

class History {
 public:
  std::vector<Ran> unordered(size_t slot, const Clock& clock) const;  // with an operation of that slot and clock
  void add(Ran ran);
  void forget(const Clock& known);  // what comes before everything that may still run

 private:
  std::vector<std::vector<Ran>> by_slot_;
};

// What an operation that is about to run is, for those who check its accesses.
struct Position {
  size_t slot = 0;
  uint64_t number = 0;
  Clock clock;
};

// Checks a copy or fill that is about to run against what ran and is not ordered with it; reports a race.
void check_order(const std::vector<MemoryUse>& uses, const std::vector<Ran>& unordered, const void* site);

}  // namespace emulator
