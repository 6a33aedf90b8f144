// The GPU, for code that knows no CUDA: what is there, memory on it, and copies to and from it.
//
// Exactly one implementation is linked: cuda_device.cu with the .cu files of the ops (a GPU), the emulator's with the same .cu
// files (their kernels on the CPU), or cuda_none.cpp (none).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "kernels/device.h"

namespace tll {

const char* cuda_backend();  // "cuda", "cuda-emulated", or null: built without
inline bool cuda_emulated() { return cuda_backend() && std::string_view(cuda_backend()) == "cuda-emulated"; }
int cuda_device_count();  // 0 without a GPU or a driver

std::string cuda_missing();  // why there is none, for people
int cuda_arch();             // compute capability of the first GPU, 750 … 1200; 0 without one

// A device with a stream of its own, every kernel loaded, and cuBLASLt where it is found. Fails with a message (exit code 1)
// where there is no such GPU.
Device open_cuda_device(int index = 0);
void close_cuda_device(Device&);

struct CudaProperties {
  std::string name;       // as the driver calls it
  std::string libraries;  // versions of the runtime, the driver and cuBLASLt
  int multiprocessors = 0;
  int64_t memory = 0;  // bytes in all
  int64_t in_use = 0;  // bytes taken when the device was opened: by this program's context, and by other programs
  int64_t loaded = 0;  // bytes that kernels and libraries took then
};
CudaProperties cuda_properties(const Device&);
int64_t cuda_free_memory(const Device&);  // bytes, now

// Memory of a CUDA device, aligned to 256 bytes, and memory of the host that copies can overlap with. null is a failure to
// allocate.
void* cuda_allocate(const Device&, size_t bytes);
void cuda_free(const Device&, void* memory);
void* cuda_allocate_host(const Device&, size_t bytes);
void cuda_free_host(const Device&, void* memory);
// Enqueued on the device's stream; the host memory must stay as it is until cuda_synchronize.
void copy_to_cuda(const Device&, void* to, const void* from, size_t bytes);
void copy_from_cuda(const Device&, void* to, const void* from, size_t bytes);
void copy_within_cuda(const Device&, void* to, const void* from, size_t bytes);
void cuda_fill(const Device&, void* memory, int byte, size_t bytes);

// A point of the stream, so that the host can wait until it has passed.
void* cuda_open_event(const Device&);
void cuda_close_event(const Device&, void* event);
void cuda_record_event(const Device&, void* event);
void cuda_wait_event(const Device&, void* event);  // the host waits; at once if it was never recorded

// What `body` enqueues, as one graph that can be launched again and again: the same kernels on the same addresses, without the
// cost of launching each. body must not wait for the device; nothing of it runs before the graph is launched.
void* cuda_capture(const Device&, const std::function<void()>& body);
void cuda_launch_graph(const Device&, void* graph);
void cuda_close_graph(const Device&, void* graph);

// cuda_begin_range and cuda_end_range of device.h name what is enqueued in between, for NVIDIA's profilers (NVTX).

// For a device that checks every access, as the emulator does: a tensor lies within an allocation (from now on what is outside of
// all of them is out of bounds, also for copies), none does any more, and what was wrong since the last call, a line each.
// Elsewhere nothing.
void cuda_name_tensor(const Device&, const void* memory, size_t bytes, const std::string& name);
void cuda_forget_tensors(const Device&, const void* allocation);
std::string cuda_faults(const Device&);

}  // namespace tll
