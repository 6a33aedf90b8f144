// What the program offers to dev/emulator, ptx_sim takes as well: the bounds of tensors, and a place for what was found.
// ptx_sim.mk makes the definitions that nvcc compiled weak, so these come before them.
#include "dev/ptx_sim/ptx_sim.h"
#include "dev/ptx_sim/runtime/state.h"
#include "kernels/cublas_lt.h"
#include "kernels/cuda_device.h"

namespace tll {
namespace {

using ptx::runtime::state;

std::byte* bytes_of(const void* memory) { return static_cast<std::byte*>(const_cast<void*>(memory)); }

// The allocation that memory lies in; the end: none.
auto allocation_of(const void* memory) {
  auto& all = state().allocations;
  auto at = all.upper_bound(bytes_of(memory));
  if (at == all.begin()) return all.end();
  --at;
  return bytes_of(memory) < at->first + at->second ? at : all.end();
}

}  // namespace

void cuda_name_tensor(const Device&, const void* memory, size_t bytes, const std::string&) {
  const auto at = allocation_of(memory);
  if (at == state().allocations.end()) return;
  // From the first name on, an allocation is its named tensors and no more.
  if (state().whole.erase(at->first)) ptx::remove_memory(at->first, at->second);
  ptx::add_memory(memory, bytes);
}
void cuda_forget_tensors(const Device&, const void* allocation) {
  const auto at = state().allocations.find(bytes_of(allocation));
  if (at == state().allocations.end()) return;
  ptx::remove_memory(at->first, at->second);
  ptx::add_memory(at->first, at->second);
  state().whole.insert(at->first);
}
void cuda_begin_tensor(const Device& device, const void* memory, size_t bytes, const std::string& name) {
  ptx::runtime::enqueue([=, &device] { cuda_name_tensor(device, memory, bytes, name); });
}
void cuda_end_tensor(const Device&, const void* memory, size_t bytes) {
  ptx::runtime::enqueue([=] { ptx::remove_memory(memory, bytes); });
}
std::string cuda_faults(const Device&) { return ptx::take_reports(); }

void* open_cublas(std::string& why_not) {
  why_not = "ptx_sim runs PTX alone";
  return nullptr;
}

}  // namespace tll
