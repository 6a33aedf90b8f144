#include <cuda_runtime.h>
#ifdef TLL_EMULATED
#include "emulator/emulator.h"
#endif

#include "kernels/cublas_lt.h"
#include "kernels/cuda_device.h"

namespace tll {
namespace {

void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    fail(kExitFault, "the GPU failed: {} ({}: {})", what, static_cast<int>(error), cudaGetErrorString(error));
}
cudaStream_t stream_of(const Device& device) { return static_cast<cudaStream_t>(device.stream); }

}  // namespace

#ifdef TLL_EMULATED
const char* cuda_backend() { return "cuda-emulated"; }
void cuda_name_tensor(const Device&, const void* memory, size_t bytes, const std::string& name) {
  emulator::name_tensor(memory, bytes, name);
}
void cuda_forget_tensors(const Device&, const void* allocation) { emulator::forget_tensors(allocation); }
std::string cuda_faults(const Device&) {
  std::string all;
  for (const emulator::Report& report : emulator::take_reports()) all += report.message + "\n";
  return all;
}
#else
const char* cuda_backend() { return "cuda"; }
void cuda_name_tensor(const Device&, const void*, size_t, const std::string&) {}
void cuda_forget_tensors(const Device&, const void*) {}
std::string cuda_faults(const Device&) { return {}; }
#endif

int cuda_device_count() {
  int count = 0;  // stays as it is where there is no driver
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

Device open_cuda_device(int index) {
  const int count = cuda_device_count();
  if (index >= count) fail(kExitFault, "GPU {} was asked for, {} found; --device cpu runs without", index, count);
  check_cuda(cudaSetDevice(index), "cudaSetDevice");
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  int major = 0, minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "cudaDeviceGetAttribute");
  std::string why_not;  // without cuBLASLt the kernels of matmul.cu do its work
  return {.kind = DeviceKind::cuda, .stream = stream, .arch = major * 100 + minor * 10, .blas = open_cublas(why_not)};
}
void close_cuda_device(Device& device) {
  check_cuda(cudaStreamSynchronize(stream_of(device)), "a kernel");
  close_cublas(device.blas);
  device.blas = nullptr;
  check_cuda(cudaStreamDestroy(stream_of(device)), "cudaStreamDestroy");
  device.stream = nullptr;
}

void* cuda_allocate(const Device&, size_t bytes) {
  void* memory = nullptr;
  return cudaMalloc(&memory, bytes) == cudaSuccess ? memory : nullptr;
}
void cuda_free(const Device&, void* memory) { check_cuda(cudaFree(memory), "cudaFree"); }
void copy_to_cuda(const Device& device, void* to, const void* from, size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(device)), "copy to the GPU");
}
void copy_from_cuda(const Device& device, void* to, const void* from, size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(device)), "copy from the GPU");
}
void cuda_synchronize(const Device& device) { check_cuda(cudaStreamSynchronize(stream_of(device)), "a kernel"); }

}  // namespace tll
