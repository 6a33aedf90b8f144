// The emulator finds faults. Every access of a kernel is a call (dev/emulator/hooks.cpp). The linker (--wrap) leads these calls
// through here first, where bytes are counted. They continue as tail calls, because the emulator takes the source line of an
// access from its return address.
#include <algorithm>
#include <atomic>
#include <map>

#include "dev/ladder/target.h"
#include "emulator/emulator.h"

namespace {

std::map<uintptr_t, size_t> tensors;  // first byte → size
std::atomic<int64_t> total;

void count(const void* p, size_t bytes) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  const auto next = tensors.upper_bound(a);
  if (next == tensors.begin()) return;
  const auto [first, size] = *std::prev(next);
  if (a - first < size) total.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
}

}  // namespace

extern "C" {

#define COUNTED(hook, bytes)           \
  void __real___tsan_##hook(void* p);  \
  void __wrap___tsan_##hook(void* p) { \
    count(p, bytes);                   \
    __real___tsan_##hook(p);           \
  }
COUNTED(read1, 1)
COUNTED(read2, 2)
COUNTED(read4, 4)
COUNTED(read8, 8)
COUNTED(read16, 16)
COUNTED(write1, 1)
COUNTED(write2, 2)
COUNTED(write4, 4)
COUNTED(write8, 8)
COUNTED(write16, 16)
COUNTED(unaligned_read2, 2)
COUNTED(unaligned_read4, 4)
COUNTED(unaligned_read8, 8)
COUNTED(unaligned_read16, 16)
COUNTED(unaligned_write2, 2)
COUNTED(unaligned_write4, 4)
COUNTED(unaligned_write8, 8)
COUNTED(unaligned_write16, 16)

#define COUNTED_RANGE(hook)                                \
  void __real___tsan_##hook(void* p, unsigned long size);  \
  void __wrap___tsan_##hook(void* p, unsigned long size) { \
    count(p, size);                                        \
    __real___tsan_##hook(p, size);                         \
  }
COUNTED_RANGE(read_range)
COUNTED_RANGE(write_range)

// emulator::cp_async(void*, const void*, int, int)
void __real__ZN8emulator8cp_asyncEPvPKvii(void* shared, const void* global, int size, int bytes);
void __wrap__ZN8emulator8cp_asyncEPvPKvii(void* shared, const void* global, int size, int bytes) {
  if (bytes > 0) count(global, static_cast<size_t>(bytes));
  __real__ZN8emulator8cp_asyncEPvPKvii(shared, global, size, bytes);
}

}  // extern "C"

namespace tll::ladder::target {

int choose(int variant, uint64_t seed, int least_arch) {
  constexpr int kArchs[kVariants] = {750, 800, 900};
  emulator::options().arch = std::max(kArchs[variant], least_arch);
  emulator::options().seed = seed;
  emulator::options().mma = emulator::MmaSum::hardware;
  return emulator::options().arch;
}
bool measures_time() { return false; }
void name(const void* p, size_t bytes, const char* tensor) {
  emulator::name_tensor(p, bytes, tensor);
  tensors[reinterpret_cast<uintptr_t>(p)] = bytes;
}
void forget(const void* p) { tensors.erase(reinterpret_cast<uintptr_t>(p)); }
std::vector<std::string> faults() {
  std::vector<std::string> lines;
  for (const emulator::Report& report : emulator::take_reports()) lines.push_back(report.message);
  return lines;
}
int64_t bytes_asked_for() { return total.exchange(0); }

}  // namespace tll::ladder::target
