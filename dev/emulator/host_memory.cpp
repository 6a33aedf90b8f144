// What host code must not touch: the memory of pending copies, and device memory.
#include <fmt/format.h>

#include <cstring>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/queue.h"

namespace emulator {

std::atomic<size_t> watched_host{0};

namespace {
uint64_t hash_bytes(const void* p, size_t bytes) {
  uint64_t h = bytes | 1;
  const auto* c = static_cast<const unsigned char*>(p);
  for (; bytes >= 8; bytes -= 8, c += 8) {
    uint64_t v;
    std::memcpy(&v, c, 8);
    h = (h ^ v) * 0x9e3779b97f4a7c15ull;
    h ^= h >> 29;
  }
  for (; bytes > 0; bytes--, c++) h = (h ^ *c) * 0x100000001b3ull;
  return h | 1;
}
}  // namespace

// Until a copy to the host has run, its destination holds NaN, which nobody takes for a result. What a copy from the host reads
// must be unchanged when it runs; a hash checks this. (Memory that several pending operations use is not watched in this way.)
void Runtime::watch_host(Operation& op, const Task& task) {
  if (task.waits) return;
  for (const MemoryUse& use : task.uses) {
    if (use.bytes == 0 || in_device_memory(use.p)) continue;
    bool alone = true;
    const auto look = [&](const Operation& other) {
      for (const Operation::HostUse& h : other.host)
        if ((h.use.write || use.write) && h.use.overlaps(use.p, use.bytes)) alone = false;
    };
    look(op);
    for (const CUstream_st* s : streams)
      for (const OperationPtr& other : s->waiting) look(*other);
    uint64_t hash = 0;
    if (alone && use.write) {
      constexpr uint32_t kNotYet = 0xffa5a5a5u;  // a NaN
      for (size_t i = 0; i < use.bytes; i++)
        static_cast<unsigned char*>(const_cast<void*>(use.p))[i] = static_cast<unsigned char>(kNotYet >> (8 * (i % 4)));
    } else if (alone) {
      hash = hash_bytes(use.p, use.bytes);
    }
    op.host.push_back({use, hash, task.site});
    watched_host++;
  }
}
void Runtime::check_host_sources(const Operation& op) {
  if (op.host_reported) return;
  for (const Operation::HostUse& h : op.host)
    if (!h.use.write && h.hash && hash_bytes(h.use.p, h.use.bytes) != h.hash)
      misuse(
          fmt::format("the host changed the {} bytes that this asynchronous copy reads, which was not waited for", h.use.bytes),
          h.site);
}

void check_host_access(const void* p, size_t size, bool write, const void* site) {
  EMULATOR_LOCKED;
  for (const CUstream_st* s : r.streams)
    for (const OperationPtr& op : s->waiting)
      for (const Operation::HostUse& h : op->host)
        if (!op->host_reported && (write || h.use.write) && h.use.overlaps(p, size)) {
          op->host_reported = true;
          const Place at = place_of(h.site);
          misuse(fmt::format("the host {} memory that an asynchronous copy {}, which was not waited for{}",
                             write ? "writes" : "reads", h.use.write ? "writes" : "reads",
                             at.line ? "; the copy: " + line_text(at) : ""),
                 site);
        }
}
void host_touches_device(const void* p, bool write, const void* site) {
  EMULATOR_LOCKED;
  if (r.host_sites.insert(site).second)
    misuse(fmt::format("the host {} {}, which is device memory", write ? "writes" : "reads",
                       describe_device_address(reinterpret_cast<uintptr_t>(p)).place),
           site);
}

}  // namespace emulator
