// The GPU, for code that includes no CUDA header: properties, memory, copies, events and graphs.
//
// What frees or closes ignores errors, so that a destructor may call it while an earlier one unwinds.
//
// Exactly one of these is linked: cuda_device.cu and the .cu files of the ops, compiled by nvcc; the same files compiled for the
// emulator, which runs the kernels on the CPU; or cuda_none.cpp, without CUDA.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "kernels/device.h"

namespace tll {

const char* cuda_backend();  // "cuda", "cuda-emulated", or null: built without CUDA
inline bool cuda_emulated() { return cuda_backend() && std::string_view(cuda_backend()) == "cuda-emulated"; }
int cuda_device_count();  // GPUs; 0 if this program cannot use them: no driver, one that is too old, or no code for the first GPU
bool cuda_seen();         // there is a GPU, or a driver that is too old, whether or not this program can use it
std::string cuda_missing();  // why it can use none, as a message to the user; empty: it can
std::string cuda_name();     // of the first GPU, as the driver calls it; empty without one
int cuda_arch();             // compute capability of the first GPU, 750 … 1200; 0 without one

// Of several GPUs, the one that this process uses from now on.
void choose_cuda_device(int index);
// Opens a device: creates its streams, loads every kernel, opens cuBLASLt where it is found, and on sm_90 checks the kernels with
// wgmma. Without such a GPU it fails with a message (exit code 1).
Device open_cuda_device(int index = 0);
void close_cuda_device(Device&) noexcept;

struct CudaProperties {
  std::string name;       // as the driver calls it
  std::string libraries;  // versions of the runtime, the driver and cuBLASLt
  std::string no_blas;    // why cuBLASLt is not used; empty: it is
  std::string no_wgmma;   // why the wgmma kernels of sm_90 are not used there (attention_wgmma.h); empty: they are
  int multiprocessors = 0;
  int64_t memory = 0;  // bytes in total
  int64_t in_use = 0;  // bytes in use when the device was opened: this program's context and other programs
  int64_t loaded = 0;  // bytes that loading kernels and libraries took then
};
CudaProperties cuda_properties(const Device&);
int64_t cuda_free_memory(const Device&);  // bytes, now

// Device memory, aligned to 256 bytes, and pinned host memory. null: the allocation failed.
void* cuda_allocate(const Device&, size_t bytes);
void cuda_free(const Device&, void* memory) noexcept;
void* cuda_allocate_host(const Device&, size_t bytes);
void cuda_free_host(const Device&, void* memory) noexcept;
// Enqueued on the device's stream. The host memory must stay unchanged until cuda_synchronize.
void copy_to_cuda(const Device&, void* to, const void* from, size_t bytes);
void copy_from_cuda(const Device&, void* to, const void* from, size_t bytes);
void copy_within_cuda(const Device&, void* to, const void* from, size_t bytes);
void cuda_fill(const Device&, void* memory, int byte, size_t bytes);
// Whether all that is enqueued on the device's stream is done. Does not wait.
bool cuda_done(const Device&);

// An event marks a point of the stream that the host, or the other stream, can wait for. It may be recorded again.
void* cuda_open_event(const Device&);
void cuda_close_event(const Device&, void* event) noexcept;
void cuda_record_event(const Device&, void* event);
void cuda_wait_event(const Device&, void* event);  // blocks the host; returns at once if the event was never recorded

// The same device, whose stream is the copy stream: for copies between pinned host memory and the device that run beside kernels.
// Nothing orders the two streams but events, also where only one of them reads: record an event on one, and let the other come
// after it. cuda_synchronize waits for one stream alone.
inline Device on_copy_stream(const Device& device) {
  Device copies = device;
  copies.stream = device.copy_stream;
  return copies;
}
// What is enqueued on the device's stream from now on runs after the event, as it was recorded last. Never recorded: no wait.
// In a capture: the copy stream belongs to it from its first wait for an event recorded there on. Events recorded before the
// capture may not be waited for, and at its end the device's stream must have come after all that the copy stream got.
void cuda_come_after(const Device&, void* event);

// Captures what `body` enqueues as a CUDA graph. A launch of the graph runs the same kernels on the same addresses, without the
// cost of single launches. `body` must not wait for the device, and nothing runs during capture. Error (kExitFault) if something
// in `body` cannot be captured, or there is no memory for the graph; then the device is as before.
void* cuda_capture(const Device&, const std::function<void()>& body);
void cuda_launch_graph(const Device&, void* graph);
void cuda_close_graph(const Device&, void* graph) noexcept;

// cuda_begin_range and cuda_end_range (declared in device.h) name the enqueued work in between for NVIDIA's profilers (NVTX).

// For the emulator, which checks every access; on a GPU they do nothing.
// cuda_name_tensor declares a tensor within an allocation. From then on, bytes of that allocation outside its named tensors are
// out of bounds, also for copies. cuda_forget_tensors takes all names of an allocation back. cuda_faults returns the faults since
// the last call, one per line.
void cuda_name_tensor(const Device&, const void* memory, size_t bytes, const std::string& name);
void cuda_forget_tensors(const Device&, const void* allocation);
// Enqueued: a tensor's life begins, in which it holds nothing yet, or ends, after which its bytes are out of bounds.
void cuda_begin_tensor(const Device&, const void* memory, size_t bytes, const std::string& name);
void cuda_end_tensor(const Device&, const void* memory, size_t bytes);
std::string cuda_faults(const Device&);

}  // namespace tll
