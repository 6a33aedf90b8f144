// Device memory: one address range, allocations with gaps between them, and the tensors that a program names in them.
#include "dev/emulator/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "dev/emulator/block.h"
#include "dev/emulator/symbols.h"

namespace emulator {

Region device_memory;

namespace {

constexpr size_t kAddressSpace = size_t{4} << 30;
constexpr size_t kGap = 256, kAlignment = 256;

struct Tensor {
  size_t bytes;
  std::string name;
};
struct Allocation {
  size_t bytes = 0;
  uint64_t number = 0;
  std::map<uintptr_t, Tensor> tensors;
};
struct DeviceHeap {
  std::mutex mutex;
  std::map<uintptr_t, Allocation> allocations;
  size_t used = 0;
  uint64_t allocated = 0;
  std::map<uintptr_t, std::map<uint32_t, Released>> releases;  // per atomic's address: what each block has released
  DeviceHeap() { device_memory.create(reinterpret_cast<uintptr_t>(map_memory(kAddressSpace)), kAddressSpace, false); }

  Allocation* holding(uintptr_t a, uintptr_t* base) {
    auto it = allocations.upper_bound(a);
    if (it == allocations.begin() || a >= (--it)->first + it->second.bytes) return nullptr;
    *base = it->first;
    return &it->second;
  }
};
DeviceHeap& heap() {
  static DeviceHeap instance;
  return instance;
}
uint8_t* state_of(uintptr_t a) { return device_memory.state + (a - device_memory.base); }

}  // namespace

bool in_device_memory(const void* p) { return device_memory.contains(reinterpret_cast<uintptr_t>(p)); }

Address describe_device_address(uintptr_t a) {
  DeviceHeap& h = heap();
  const std::lock_guard lock(h.mutex);
  uintptr_t base = 0;
  if (const Allocation* allocation = h.holding(a, &base)) {
    auto it = allocation->tensors.upper_bound(a);
    if (it != allocation->tensors.begin()) {
      --it;
      const auto& [bytes, name] = it->second;
      const size_t offset = a - it->first;
      return {
          offset < bytes ? fmt::format("byte {} of {}", offset, name) : fmt::format("byte {} behind {}", offset - bytes, name),
          name};
    }
    const std::string name = fmt::format("allocation {}", allocation->number);
    return {fmt::format("byte {} of {} ({} bytes)", a - base, name, allocation->bytes), name};
  }
  auto it = h.allocations.upper_bound(a);
  if (it != h.allocations.begin()) {
    const auto& [begin, allocation] = *--it;
    const size_t behind = a - begin - allocation.bytes;
    const std::string name =
        allocation.tensors.empty() ? fmt::format("allocation {}", allocation.number) : allocation.tensors.rbegin()->second.name;
    if (behind < 4 * kGap) return {fmt::format("byte {} behind {}", behind, name), name};
  }
  return {"device memory that is not allocated", ""};
}

std::string check_device_range(const void* p, size_t bytes, bool needs_value) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  for (size_t i = 0; i < bytes; i++) {
    const uint8_t s = device_memory.contains(a + i) ? *state_of(a + i) : 0;
    if ((s & kAddressable) && (!needs_value || (s & kWritten))) continue;
    return describe_device_address(a + i).place +
           (s & kAddressable ? ", which nobody has written" : ", which is outside every tensor");
  }
  return "";
}

// An atomic acquires what other blocks released by atomics on the same address after a fence, and releases what its own block has
// fenced.
void acquire_release(Worker& w, const void* p) {
  DeviceHeap& h = heap();
  const std::lock_guard lock(h.mutex);
  std::map<uint32_t, Released>& blocks = h.releases[reinterpret_cast<uintptr_t>(p)];
  for (const auto& [stamp, released] : blocks)
    if (stamp != w.stamp) w.acquired.push_back({stamp, released, w.who});
  const Thread& self = *w.current;
  if (self.fence.clock == 0) return;
  // Per thread: accesses that happen before this atomic by a barrier and that a fence of that thread or of this one covers.
  auto released = std::make_shared<std::vector<uint32_t>>(w.thread_count);
  const uint32_t own_warp = self.id / 32u;
  for (uint32_t t = 0; t < w.thread_count; t++) {
    const Warp& warp = w.warps[t / 32];
    const bool same = t / 32 == own_warp;
    const uint32_t ordered = t == self.id ? UINT32_MAX : (same ? warp.all_lanes_clock : warp.block_clock) - 1;
    const uint32_t fenced = (same ? self.fence.all_lanes_clock : self.fence.block_clocks[t / 32]) - 1;
    (*released)[t] = std::min(ordered, std::max(fenced, w.threads[t].fence.clock));
  }
  blocks[w.stamp] = std::move(released);
}
void forget_releases() { heap().releases.clear(); }

// ---- tensors ------------------------------------------------------------------------------------------------------------------
void name_tensor(const void* p, size_t bytes, const std::string& name) {
  DeviceHeap& h = heap();
  const std::lock_guard lock(h.mutex);
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  uintptr_t base = 0;
  Allocation* allocation = h.holding(a, &base);
  if (!allocation || a + bytes > base + allocation->bytes) {
    add_report({.fault = Fault::host,
                .message = "name_tensor: " + name + " is not within an allocation of device memory",
                .tensor = name});
    return;
  }
  if (allocation->tensors.empty())
    for (size_t i = 0; i < allocation->bytes; i++) *state_of(base + i) &= static_cast<uint8_t>(~kAddressable);
  allocation->tensors[a] = {bytes, name};
  for (size_t i = 0; i < bytes; i++) *state_of(a + i) |= kAddressable;
}
void forget_tensors(const void* p) {
  DeviceHeap& h = heap();
  const std::lock_guard lock(h.mutex);
  uintptr_t base = 0;
  Allocation* allocation = h.holding(reinterpret_cast<uintptr_t>(p), &base);
  if (!allocation) return;
  allocation->tensors.clear();
  for (size_t i = 0; i < allocation->bytes; i++) *state_of(base + i) |= kAddressable;
}
void begin_tensor(cudaStream_t stream, const void* p, size_t bytes, const std::string& name) {
  enqueue_work(stream, [=] {
    name_tensor(p, bytes, name);
    set_unwritten(p, bytes);
    return cudaSuccess;
  });
}
void end_tensor(cudaStream_t stream, const void* p, size_t bytes) {
  enqueue_work(stream, [=] {
    DeviceHeap& h = heap();
    const std::lock_guard lock(h.mutex);
    const uintptr_t a = reinterpret_cast<uintptr_t>(p);
    uintptr_t base = 0;
    if (Allocation* allocation = h.holding(a, &base)) allocation->tensors.erase(a);
    for (size_t i = 0; i < bytes; i++) *state_of(a + i) &= static_cast<uint8_t>(~kAddressable);
    return cudaSuccess;
  });
}
bool is_written(const void* p, size_t bytes) { return check_device_range(p, bytes, true).empty(); }

// ---- allocation ---------------------------------------------------------------------------------------------------------------
void* allocate_device(size_t bytes) {
  DeviceHeap& h = heap();
  const std::lock_guard lock(h.mutex);
  if (bytes == 0 || bytes > options().device_bytes || h.used > options().device_bytes - bytes) return nullptr;
  uintptr_t at = device_memory.base + kAlignment;  // first fit
  for (const auto& [base, allocation] : h.allocations) {
    if (base >= at + bytes + kGap) break;
    at = (base + allocation.bytes + kGap + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (at + bytes + kGap > device_memory.base + device_memory.bytes) return nullptr;
  Allocation& allocation = h.allocations[at];
  allocation.bytes = bytes;
  allocation.number = ++h.allocated;
  h.used += bytes;
  std::memset(state_of(at), kAddressable, bytes);
  return reinterpret_cast<void*>(at);
}
bool free_device(void* p) {
  DeviceHeap& h = heap();
  const std::lock_guard lock(h.mutex);
  const auto it = h.allocations.find(reinterpret_cast<uintptr_t>(p));
  if (it == h.allocations.end()) return false;
  std::memset(state_of(it->first), 0, it->second.bytes);
  const uintptr_t page = (it->first + 4095) / 4096 * 4096, end = (it->first + it->second.bytes) / 4096 * 4096;
  if (end > page) {
    const size_t offset = page - device_memory.base, bytes = end - page;
    madvise(reinterpret_cast<void*>(page), bytes, MADV_DONTNEED);
    madvise(device_memory.words + offset / 4, bytes / 4 * sizeof(Cell), MADV_DONTNEED);
    madvise(device_memory.singles + offset, bytes * sizeof(Cell), MADV_DONTNEED);
  }
  h.used -= it->second.bytes;
  h.allocations.erase(it);
  return true;
}
size_t device_bytes_used() {
  DeviceHeap& h = heap();
  const std::lock_guard lock(h.mutex);
  return h.used;
}
void set_written(const void* p, size_t bytes) {
  uint8_t* s = state_of(reinterpret_cast<uintptr_t>(p));
  for (size_t i = 0; i < bytes; i++) s[i] |= kWritten;
}
void set_unwritten(const void* p, size_t bytes) {
  uint8_t* s = state_of(reinterpret_cast<uintptr_t>(p));
  for (size_t i = 0; i < bytes; i++) s[i] &= static_cast<uint8_t>(~kWritten);
}
// After a copy within device memory: bytes of the destination are written where those of the source are.
void copy_written(const void* to, const void* from, size_t bytes) {
  uint8_t* t = state_of(reinterpret_cast<uintptr_t>(to));
  const uint8_t* f = state_of(reinterpret_cast<uintptr_t>(from));
  for (size_t i = 0; i < bytes; i++) t[i] = static_cast<uint8_t>((t[i] & ~kWritten) | (f[i] & kWritten));
}

// ---- addresses of a block -----------------------------------------------------------------------------------------------------
Address describe_address(Worker& w, uintptr_t a) {
  if (w.dynamic.contains(a)) {
    const std::string name = "dynamic shared memory";
    return {fmt::format("byte {} of {} ({} bytes)", a - w.dynamic.base, name, w.dynamic_bytes), name};
  }
  if (device_memory.contains(a)) return describe_device_address(a);
  if (w.statics.contains(a)) {
    const size_t offset = a - w.statics.base;
    const ThreadLocalSymbol* before = nullptr;
    for (const ThreadLocalSymbol& s : thread_local_symbols())
      if (s.offset <= offset) before = &s;
    if (before) {
      std::string name = demangle(before->mangled);
      name = name.substr(name.rfind("::") == std::string::npos ? 0 : name.rfind("::") + 2);
      const size_t at = offset - before->offset, bytes = before->bytes;
      return {
          at < bytes ? fmt::format("byte {} of shared {}", at, name) : fmt::format("byte {} behind shared {}", at - bytes, name),
          name};
    }
  }
  if (a - w.stacks < kStackBytes * kMaxThreads) return {"a local variable of another thread", ""};
  return {a < 4096 ? "a null pointer" : "host memory", ""};
}

void fail_at(Worker& w, Fault fault, const void* p, const std::string& before, const std::string& after, const void* site,
             const void* other_site) {
  const auto [place, tensor] = describe_address(w, reinterpret_cast<uintptr_t>(p));
  w.fail({.fault = fault, .text = before + place + after, .site = site, .other_site = other_site, .tensor = tensor});
}

void check_aligned(Worker& w, const void* p, size_t alignment, const char* what, const void* site) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0)
    fail_at(w, Fault::misaligned, p, fmt::format("{} at ", what), fmt::format(" must be aligned to {} bytes", alignment), site);
}

void set_in_flight(Worker& w, const void* p, size_t size, bool in_flight) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  const Region& r = w.dynamic.contains(a) ? w.dynamic : w.statics;
  for (size_t i = 0; i < size; i++) {
    uint8_t& s = r.state[a - r.base + i];
    s = static_cast<uint8_t>(in_flight ? s | kInFlight : s & ~kInFlight);
  }
}

}  // namespace emulator
