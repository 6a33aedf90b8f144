// What nvcc's host code calls: it registers kernels before main(), and launches them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "dev/ptx_sim/fat_binary.h"
#include "dev/ptx_sim/ptx_sim.h"
#include "dev/ptx_sim/reports.h"
#include "dev/ptx_sim/runtime/state.h"

namespace ptx::runtime {
namespace {

struct Function {
  Kernel* kernel;
  size_t dynamic_allowed = 0;  // bytes of dynamic shared memory; 0: no opt-in
};
std::map<const void*, Function>& functions() {  // by the address of the host's stub
  static auto& all = *new std::map<const void*, Function>;
  return all;
}

// Shared memory that a block may have, by NVIDIA's "CUDA C++ Programming Guide", technical specifications.
size_t most_shared(int arch) {
  switch (arch) {
    case 75:
      return 64 << 10;
    case 80:
    case 87:
      return 163 << 10;
    case 90:
    case 100:
      return 227 << 10;
    default:
      return 99 << 10;
  }
}

struct AtExit {
  ~AtExit() {
    if (options().report.empty()) return;
    FILE* file = std::fopen(options().report.c_str(), "w");
    if (file)
      std::fputs(statistics().c_str(), file), std::fclose(file);
    else
      std::perror(options().report.c_str());
  }
} at_exit;

}  // namespace

State& state() {
  static auto& instance = *new State;  // lives until the program has ended
  return instance;
}
void enqueue(std::function<void()> work) {
  if (state().capturing)
    state().capturing->push_back(std::move(work));
  else
    work();
}
int architecture() { return modules().empty() ? 0 : modules().front()->arch; }

}  // namespace ptx::runtime

using namespace ptx::runtime;

extern "C" {

// The container's address is the third word of what the object gives.
void** __cudaRegisterFatBinary(void* wrapper) {
  struct Wrapper {
    int magic, version;
    const std::byte* container;
  };
  static auto& handles = *new std::vector<std::unique_ptr<void*>>;
  try {
    ptx::Module* module = nullptr;
    const std::string text = ptx::text_for(ptx::options().target, ptx::texts_of(static_cast<const Wrapper*>(wrapper)->container));
    if (!text.empty()) module = &ptx::load(text);
    handles.push_back(std::make_unique<void*>(module));
    return handles.back().get();
  } catch (const ptx::Fault& fault) {
    std::fprintf(stderr, "ptx_sim: %s\n", fault.what());
    std::exit(3);
  }
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
  auto* module = static_cast<ptx::Module*>(*handle);
  functions()[host] = {module ? ptx::find(*module, name) : nullptr};
}
// Stubs for <<<>>>, which nothing here uses.
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaErrorNotSupported; }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaErrorNotSupported; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) { return cudaErrorNotSupported; }

cudaError_t cudaFuncSetAttribute(const void* host, cudaFuncAttribute what, int value) {
  if (what == cudaFuncAttributeMaxDynamicSharedMemorySize) functions()[host].dynamic_allowed = static_cast<size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* host) {
  *attributes = {};
  return functions()[host].kernel ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* host, void** values) {
  const Function& f = functions()[host];
  if (!f.kernel) return cudaErrorInvalidDeviceFunction;
  const size_t dynamic = config->dynamicSmemBytes;
  const bool opted_in = dynamic > 0 && dynamic <= f.dynamic_allowed;
  try {
    const size_t shared = ptx::static_shared(*f.kernel) + dynamic;
    if (shared > (opted_in ? most_shared(architecture()) : size_t{48} << 10)) return cudaErrorInvalidValue;
  } catch (const ptx::Fault& fault) {
    ptx::add_report(fault.what());
    return cudaErrorInvalidKernelImage;
  }
  std::vector<uint8_t> arguments;
  const auto& parameters = ptx::parameters(*f.kernel);
  for (size_t i = 0; i < parameters.size(); i++) {
    arguments.resize(parameters[i].offset + parameters[i].bytes, 0xee);
    std::memcpy(arguments.data() + parameters[i].offset, values[i], parameters[i].bytes);
  }
  const dim3 grid = config->gridDim, block = config->blockDim;
  enqueue([=, kernel = f.kernel] {
    if (state().failed) return;
    try {
      ptx::launch(*kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, dynamic, arguments);
    } catch (const ptx::Fault& fault) {
      ptx::add_report(fault.what());
      state().failed = true;
    }
  });
  return cudaSuccess;
}

}  // extern "C"
