// The GPU, for code that knows no CUDA: what is there, memory on it, and copies to and from it.
//
// Exactly one implementation is linked: cuda_device.cu with the .cu files of the ops (a GPU), the emulator's with the same .cu
// files (their kernels on the CPU), or cuda_none.cpp (none).
#pragma once

#include <string>

#include "kernels/device.h"

namespace tll {

const char* cuda_backend();  // "cuda", "cuda-emulated", or null: built without
int cuda_device_count();     // 0 without a GPU or a driver

// A device with a stream of its own. Fails with a message (exit code 1) where there is no such GPU.
Device open_cuda_device(int index = 0);
void close_cuda_device(Device&);

// Memory of a CUDA device, aligned to 256 bytes. null is a failure to allocate.
void* cuda_allocate(const Device&, size_t bytes);
void cuda_free(const Device&, void* memory);
// Enqueued on the device's stream; the host memory must stay as it is until cuda_synchronize.
void copy_to_cuda(const Device&, void* to, const void* from, size_t bytes);
void copy_from_cuda(const Device&, void* to, const void* from, size_t bytes);

// For a device that checks every access, as the emulator does: a tensor lies within an allocation (from now on what is outside of
// all of them is out of bounds, also for copies), none does any more, and what was wrong since the last call, a line each.
// Elsewhere nothing.
void cuda_name_tensor(const Device&, const void* memory, size_t bytes, const std::string& name);
void cuda_forget_tensors(const Device&, const void* allocation);
std::string cuda_faults(const Device&);

}  // namespace tll
