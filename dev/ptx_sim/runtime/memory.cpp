// Memory, streams, events, graphs and properties of the simulated CUDA runtime.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dev/ptx_sim/ptx_sim.h"
#include "dev/ptx_sim/runtime/state.h"

using namespace ptx::runtime;

namespace {

constexpr size_t kDeviceBytes = size_t{16} << 30;
template <class T>
T some_handle() {  // streams and events are all the same
  return reinterpret_cast<T>(&state());
}

}  // namespace

extern "C" {

// ---- memory
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  auto* at = static_cast<std::byte*>(std::aligned_alloc(256, (std::max<size_t>(bytes, 1) + 255) / 256 * 256));
  if (!at) return cudaErrorMemoryAllocation;
  std::memset(at, 0xff, bytes);  // NaN
  state().allocations[at] = bytes, state().whole.insert(at);
  ptx::add_memory(at, bytes);
  *memory = at;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (!memory) return cudaSuccess;
  const auto found = state().allocations.find(static_cast<std::byte*>(memory));
  if (found == state().allocations.end()) return cudaErrorInvalidValue;
  ptx::remove_memory(memory, found->second);
  state().whole.erase(found->first), state().allocations.erase(found);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = std::malloc(std::max<size_t>(bytes, 1));
  return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  enqueue([=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t) {
  enqueue([=] { std::memset(to, byte, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = kDeviceBytes;
  return cudaSuccess;
}

// ---- streams and events: what was enqueued has run already
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = some_handle<cudaStream_t>();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  const bool failed = state().failed;
  state().failed = false;
  return failed ? cudaErrorLaunchFailure : cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = some_handle<cudaEvent_t>();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaStreamSynchronize(nullptr); }

// ---- graphs
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  state().capturing = new Work;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(state().capturing);
  state().capturing = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new Work(*reinterpret_cast<Work*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Work*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<Work*>(executable);
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : *reinterpret_cast<Work*>(executable)) work();
  return cudaSuccess;
}

// ---- the device
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  *value = what == cudaDevAttrComputeCapabilityMajor   ? architecture() / 10
           : what == cudaDevAttrComputeCapabilityMinor ? architecture() % 10
                                                       : 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::snprintf(p->name, sizeof(p->name), "PTX of compute_%d on the CPU", architecture());
  p->major = architecture() / 10, p->minor = architecture() % 10, p->multiProcessorCount = 1, p->totalGlobalMem = kDeviceBytes;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorLaunchFailure:
      return "a kernel failed on ptx_sim";
    case cudaErrorInvalidDeviceFunction:
      return "there is no PTX of this kernel";
    case cudaErrorInvalidValue:
      return "a value that CUDA refuses, such as more shared memory than there is";
    default:
      return "refused by ptx_sim";
  }
}
const char* cudaGetErrorName(cudaError_t) { return "ptx_sim"; }

}  // extern "C"
