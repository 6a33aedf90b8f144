// Memory and processors of this machine, and what this process uses, as Linux reports them under /proc and /sys.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tll {

// Bytes in physical memory; zeros if /proc does not say. Allocates nothing, so it may be called in the step loop.
struct ProcessMemory {
  int64_t resident = 0;  // VmRSS, now
  int64_t peak = 0;      // VmHWM, the most since the start
};
ProcessMemory process_memory();

// Bytes that programs may use: MemTotal and MemAvailable of the machine, or less if a control group (version 1 or 2, this
// process's or one above it) has a limit. As in MemAvailable, page cache counts as available, since the kernel gives it back when
// memory is needed: pages of files, but not tmpfs, and not what has yet to be written to disk.
struct MachineMemory {
  int64_t total = 0;
  int64_t available = 0;
};
MachineMemory machine_memory(const std::filesystem::path& root = "/");  // a root other than "/" is for tests

struct Processor {
  std::string model;     // as the processor calls itself
  std::string features;  // of those that matter here, joined by spaces, e.g. "avx2 fma f16c avx512f avx512_bf16 amx_bf16"
  int threads = 1;       // hardware threads that this process may run on: its affinity, and the control group's quota rounded up
};
Processor processor(const std::filesystem::path& root = "/");

}  // namespace tll
