// The emulated GPU's properties, and the names of errors.
#include <cstdio>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/symbols.h"

namespace emulator {
std::string launch_name(const void* kernel) { return function_name(kernel); }
}  // namespace emulator

using emulator::arch;

namespace {

constexpr int kMultiprocessors = 4;

struct ErrorName {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorName kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};
const ErrorName& error_name(cudaError_t error) {
  static constexpr ErrorName kUnknown{cudaSuccess, "unrecognized error code", "unrecognized error code"};
  for (const ErrorName& e : kErrors)
    if (e.error == error) return e;
  return kUnknown;
}

int threads_per_multiprocessor() { return arch() < 800 ? 1024 : arch() == 800 || (arch() >= 900 && arch() < 1200) ? 2048 : 1536; }
int blocks_per_multiprocessor() { return arch() < 800 || arch() == 860 ? 16 : arch() == 890 || arch() == 1200 ? 24 : 32; }
int shared_per_multiprocessor() { return emulator::shared_limit(arch()) + (arch() < 800 ? 0 : 1024); }

}  // namespace

const char* cudaGetErrorName(cudaError_t error) { return error_name(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return error_name(error).text; }

cudaError_t cudaGetDeviceCount(int* count) {
  int runtime = 0;
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  if (emulator::options().driver < runtime) return cudaErrorInsufficientDriver;
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = emulator::options().driver;
  return cudaSuccess;
}

// What only nvcc knows has plausible values here.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  if (!attributes || !kernel) return cudaErrorInvalidDeviceFunction;
  if (arch() < 750) return cudaErrorNoKernelImageForDevice;
  attributes->numRegs = emulator::registers_of(kernel) ? emulator::registers_of(kernel) : 32;
  attributes->sharedSizeBytes = emulator::static_shared_bytes(kernel);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device != 0) return cudaErrorInvalidDevice;
  *p = {};
  std::snprintf(p->name, sizeof(p->name), "emulator of sm_%d", arch() / 10);
  p->totalGlobalMem = emulator::options().device_bytes;
  p->sharedMemPerBlock = 48 * 1024;
  p->sharedMemPerBlockOptin = static_cast<size_t>(emulator::shared_limit(arch()));
  p->sharedMemPerMultiprocessor = static_cast<size_t>(shared_per_multiprocessor());
  p->reservedSharedMemPerBlock = arch() < 800 ? 0 : 1024;
  p->regsPerMultiprocessor = 65536;
  p->maxThreadsPerMultiProcessor = threads_per_multiprocessor();
  p->maxBlocksPerMultiProcessor = blocks_per_multiprocessor();
  p->major = arch() / 100;
  p->minor = arch() / 10 % 10;
  p->multiProcessorCount = kMultiprocessors;
  p->l2CacheSize = 4 << 20;
  p->memoryBusWidth = 256;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return cudaErrorInvalidDevice;
  switch (attribute) {
    case cudaDevAttrMemoryClockRate:
      *value = 1000000;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = arch() / 100;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = arch() / 10 % 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = emulator::shared_limit(arch());
      break;
  }
  return cudaSuccess;
}
