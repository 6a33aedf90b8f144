// Device memory and the queue of a stream, for the runtime calls and the emulated libraries.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>

#include "emulator/runtime.h"

namespace emulator {

void* allocate_device(size_t bytes);  // aligned to 256 bytes, not written; null: exceeds Options::device_bytes
bool free_device(void* p);            // false: no allocation begins there
size_t device_bytes_used();
void set_written(const void* p, size_t bytes);
void set_unwritten(const void* p, size_t bytes);  // marks as not written
void copy_written(const void* to, const void* from, size_t bytes);
// watched_host counts the uses of host memory by pending operations. The checks report accesses of host code to such memory and
// to device memory.
extern std::atomic<size_t> watched_host;
void check_host_access(const void* p, size_t size, bool write, const void* site);
void host_touches_device(const void* p, bool write, const void* site);
std::string launch_name(const void* kernel);
// Enqueues work of the device that is no kernel of the program. It runs when a launch in its place would.
cudaError_t enqueue_work(cudaStream_t stream, std::function<cudaError_t()> work);

}  // namespace emulator
