#include <cuda_runtime.h>
#ifdef TLL_EMULATED
#include "emulator/emulator.h"
#else
#include <nvtx3/nvToolsExt.h>
#endif

#include "kernels/attention_wgmma.h"
#include "kernels/cublas_lt.h"
#include "kernels/cuda_device.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    fail(kExitFault, "the GPU failed: {} ({}: {})", what, static_cast<int>(error), cudaGetErrorString(error));
}

// Of what closes: after a fault the GPU refuses everything, and the error that is on its way says which.
void ignore(cudaError_t) { static_cast<void>(cudaGetLastError()); }

// Measured when the device is opened, for cuda_properties.
struct {
  int64_t in_use = 0, loaded = 0;
  std::string no_blas;   // why cuBLASLt is not used
  std::string no_wgmma;  // why wgmma is not
} taken;

std::vector<const void*>& listed_kernels() {
  static std::vector<const void*> kernels;  // filled before main()
  return kernels;
}

int arch_of(int index) {
  int major = 0, minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "cudaDeviceGetAttribute");
  return major * 100 + minor * 10;
}

}  // namespace

void list_kernel(const void* kernel) { listed_kernels().push_back(kernel); }

#ifdef TLL_EMULATED
const char* cuda_backend() { return "cuda-emulated"; }
void cuda_name_tensor(const Device&, const void* memory, size_t bytes, const std::string& name) {
  emulator::name_tensor(memory, bytes, name);
}
void cuda_forget_tensors(const Device&, const void* allocation) { emulator::forget_tensors(allocation); }
void cuda_begin_tensor(const Device& device, const void* memory, size_t bytes, const std::string& name) {
  emulator::begin_tensor(stream_of(device), memory, bytes, name);
}
void cuda_end_tensor(const Device& device, const void* memory, size_t bytes) {
  emulator::end_tensor(stream_of(device), memory, bytes);
}
std::string cuda_faults(const Device&) {
  std::string all;
  for (const emulator::Report& report : emulator::take_reports()) all += report.message + "\n";
  return all;
}
#else
const char* cuda_backend() { return "cuda"; }
void cuda_name_tensor(const Device&, const void*, size_t, const std::string&) {}
void cuda_forget_tensors(const Device&, const void*) {}
void cuda_begin_tensor(const Device&, const void*, size_t, const std::string&) {}
void cuda_end_tensor(const Device&, const void*, size_t) {}
std::string cuda_faults(const Device&) { return {}; }
#endif

namespace {

std::string version_text(int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); }
std::string capability_text(int arch) { return fmt::format("{}.{}", arch / 100, arch / 10 % 10); }

// Whether the first GPU can be used. `seen`: there is one, or a driver, in any case.
struct FirstGpu {
  int count = 0;
  bool seen = false;
  std::string problem;
};
FirstGpu first_gpu() {
#ifdef __CUDA_ARCH_LIST__
  constexpr int kCompiledFor[] = {__CUDA_ARCH_LIST__};
#else
  constexpr int kCompiledFor[] = {750, 800, 860, 890, 900, 1000, 1200};
#endif
  FirstGpu found;
  int driver = 0, runtime = 0;
  const cudaError_t counted = cudaGetDeviceCount(&found.count);
  if (counted != cudaSuccess) found.count = 0;
  ignore(cudaDriverGetVersion(&driver));
  ignore(cudaRuntimeGetVersion(&runtime));
  found.seen = found.count > 0 || (counted == cudaErrorInsufficientDriver && driver > 0);
  if (counted == cudaErrorInsufficientDriver && driver > 0)
    found.problem =
        fmt::format("the NVIDIA driver serves CUDA {} and older, and this program was built with CUDA {}: update the driver",
                    version_text(driver), version_text(runtime));
  else if (counted == cudaErrorInsufficientDriver)
    found.problem = "there is no NVIDIA driver";
  else if (counted != cudaSuccess && counted != cudaErrorNoDevice)
    found.problem = cudaGetErrorString(counted);
  else if (found.count == 0)
    found.problem = "the driver sees no GPU";
  if (!found.problem.empty()) return found;
  cudaFuncAttributes attributes;
  if (!listed_kernels().empty() &&
      cudaFuncGetAttributes(&attributes, listed_kernels().front()) == cudaErrorNoKernelImageForDevice) {
    std::string archs;
    for (int arch : kCompiledFor) archs += (archs.empty() ? "" : ", ") + capability_text(arch);
    found.problem = fmt::format("this program has no code for the GPU, whose compute capability is {}: it was compiled for {}",
                                capability_text(arch_of(0)), archs);
    found.count = 0;
  }
  ignore(cudaSuccess);
  return found;
}

}  // namespace

int cuda_device_count() { return first_gpu().count; }
bool cuda_seen() { return first_gpu().seen; }
std::string cuda_missing() { return first_gpu().problem; }

std::string cuda_name() {
  cudaDeviceProp properties;
  if (cuda_device_count() == 0) return "";
  check_cuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.name;
}
int cuda_arch() { return cuda_device_count() > 0 ? arch_of(0) : 0; }

void choose_cuda_device(int index) { check_cuda(cudaSetDevice(index), "cudaSetDevice"); }

Device open_cuda_device(int index) {
  const int count = cuda_device_count();
  if (index >= count) fail(kExitFault, "GPU {} was asked for, {} found; --device cpu runs without", index, count);
  choose_cuda_device(index);
  Device device{.kind = DeviceKind::cuda, .arch = arch_of(index)};
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  for (const void* kernel : listed_kernels()) {
    cudaFuncAttributes attributes;
    check_cuda(cudaFuncGetAttributes(&attributes, kernel), "loading a kernel");
  }
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  device.stream = stream;
  cudaStream_t copies = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking), "cudaStreamCreate");
  device.copy_stream = copies;
  device.blas = open_cublas(taken.no_blas);
  taken.no_wgmma = check_wgmma(device);
  taken.in_use = static_cast<int64_t>(total - free);
  taken.loaded = static_cast<int64_t>(free) - cuda_free_memory(device);
  return device;
}
void close_cuda_device(Device& device) noexcept {
  ignore(cudaStreamSynchronize(stream_of(on_copy_stream(device))));
  ignore(cudaStreamSynchronize(stream_of(device)));
  close_cublas(device.blas);
  device.blas = nullptr;
  for (void** stream : {&device.copy_stream, &device.stream}) {
    ignore(cudaStreamDestroy(static_cast<cudaStream_t>(*stream)));
    *stream = nullptr;
  }
}

CudaProperties cuda_properties(const Device& device) {
  int index = 0, driver = 0, runtime = 0;
  check_cuda(cudaGetDevice(&index), "cudaGetDevice");
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  CudaProperties p;
  p.name = properties.name;
  p.libraries = fmt::format("CUDA {}, driver for {}, {}", version_text(runtime), version_text(driver),
                            device.blas ? cublas_version(device.blas) : "without cuBLASLt");
  p.no_blas = taken.no_blas;
  p.no_wgmma = taken.no_wgmma;
  p.multiprocessors = properties.multiProcessorCount;
  p.memory = static_cast<int64_t>(properties.totalGlobalMem);
  p.in_use = taken.in_use, p.loaded = taken.loaded;
  return p;
}
int64_t cuda_free_memory(const Device&) {
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

void* cuda_allocate(const Device&, size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  static_cast<void>(cudaGetLastError());  // clears the error: the caller reports it, and the next launch must not
  return nullptr;
}
void cuda_free(const Device&, void* memory) noexcept { ignore(cudaFree(memory)); }
void* cuda_allocate_host(const Device&, size_t bytes) {
  void* memory = nullptr;
  if (cudaHostAlloc(&memory, bytes, cudaHostAllocDefault) == cudaSuccess) return memory;
  static_cast<void>(cudaGetLastError());
  return nullptr;
}
void cuda_free_host(const Device&, void* memory) noexcept { ignore(cudaFreeHost(memory)); }
void copy_to_cuda(const Device& device, void* to, const void* from, size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(device)), "copy to the GPU");
}
void copy_from_cuda(const Device& device, void* to, const void* from, size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(device)), "copy from the GPU");
}
void copy_within_cuda(const Device& device, void* to, const void* from, size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(device)), "copy within the GPU");
}
void cuda_fill(const Device& device, void* memory, int byte, size_t bytes) {
  check_cuda(cudaMemsetAsync(memory, byte, bytes, stream_of(device)), "cudaMemsetAsync");
}
void cuda_synchronize(const Device& device) { check_cuda(cudaStreamSynchronize(stream_of(device)), "a kernel"); }

bool cuda_done(const Device& device) {
  const cudaError_t error = cudaStreamQuery(stream_of(device));
  if (error == cudaErrorNotReady)
    ignore(error);
  else
    check_cuda(error, "a kernel");
  return error == cudaSuccess;
}

void* cuda_open_event(const Device&) {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return event;
}
void cuda_close_event(const Device&, void* event) noexcept { ignore(cudaEventDestroy(static_cast<cudaEvent_t>(event))); }
void cuda_record_event(const Device& device, void* event) {
  check_cuda(cudaEventRecord(static_cast<cudaEvent_t>(event), stream_of(device)), "cudaEventRecord");
}
void cuda_wait_event(const Device&, void* event) {
  check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "a kernel");
}
void cuda_come_after(const Device& device, void* event) {
  check_cuda(cudaStreamWaitEvent(stream_of(device), static_cast<cudaEvent_t>(event), 0), "cudaStreamWaitEvent");
}

void* cuda_capture(const Device& device, const std::function<void()>& body) {
  check_cuda(cudaStreamBeginCapture(stream_of(device), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(stream_of(device), &graph);
    if (graph) cudaGraphDestroy(graph);
    ignore(cudaSuccess);
    throw;
  }
  cudaError_t error = cudaStreamEndCapture(stream_of(device), &graph);
  const char* call = "cudaStreamEndCapture";
  cudaGraphExec_t executable = nullptr;
  if (error == cudaSuccess) error = cudaGraphInstantiate(&executable, graph, 0), call = "cudaGraphInstantiate";
  // The graph's memory is taken now, and not by its first launch.
  if (error == cudaSuccess) error = cudaGraphUpload(executable, stream_of(device)), call = "cudaGraphUpload";
  if (error != cudaSuccess && executable) cudaGraphExecDestroy(executable);
  if (graph) cudaGraphDestroy(graph);
  ignore(cudaSuccess);
  check_cuda(error, call);
  return executable;
}
void cuda_launch_graph(const Device& device, void* graph) {
  check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(device)), "cudaGraphLaunch");
}
void cuda_close_graph(const Device&, void* graph) noexcept { ignore(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph))); }

#ifdef TLL_EMULATED
void cuda_begin_range(const char*) {}
void cuda_end_range() {}
#else
void cuda_begin_range(const char* name) { nvtxRangePushA(name); }
void cuda_end_range() { nvtxRangePop(); }
#endif

}  // namespace tll
