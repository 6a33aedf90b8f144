// Runtime calls for memory: allocation, copies and fills.
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <set>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/queue.h"

using emulator::misuse;
using emulator::Position;

namespace {

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, const void* site) {
  const bool to_device = emulator::in_device_memory(to), from_device = emulator::in_device_memory(from);
  std::string wrong;
  if (to_device) wrong = emulator::check_device_range(to, bytes, false);
  if (wrong.empty() && from_device) wrong = emulator::check_device_range(from, bytes, kind != cudaMemcpyDeviceToDevice);
  if (wrong.empty() && (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
                        from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
    wrong = "memory of another side than the direction says";
  if (!wrong.empty()) {
    misuse(fmt::format("a copy of {} bytes uses {}", bytes, wrong), site);
    return cudaErrorInvalidValue;
  }
  std::memmove(to, from, bytes);
  if (to_device && from_device) emulator::copy_written(to, from, bytes);
  if (to_device && !from_device) emulator::set_written(to, bytes);
  return cudaSuccess;
}
cudaError_t fill(void* p, int value, size_t bytes, const void* site) {
  const std::string wrong = bytes == 0 ? std::string() : emulator::check_device_range(p, bytes, false);
  if (!wrong.empty()) {
    misuse(fmt::format("a fill of {} bytes uses {}", bytes, wrong), site);
    return cudaErrorInvalidValue;
  }
  std::memset(p, value, bytes);
  if (bytes > 0) emulator::set_written(p, bytes);
  return cudaSuccess;
}

}  // namespace

// ---- allocation ---------------------------------------------------------------------------------------------------------------
cudaError_t cudaMalloc(void** p, size_t bytes) {
  EMULATOR_CALL;
  if (const cudaError_t error = r.unsafe("cudaMalloc")) return error;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = emulator::allocate_device(bytes);
  return r.remember(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* p) {
  EMULATOR_LOCKED;
  if (const cudaError_t error = r.unsafe("cudaFree")) return error;
  r.finish_all();
  if (p && !emulator::free_device(p)) {
    misuse("cudaFree of a pointer that cudaMalloc did not give");
    return r.remember(cudaErrorInvalidValue);
  }
  return r.take();
}

namespace {
std::set<void*>& pinned() {
  static std::set<void*> pointers;
  return pointers;
}
}  // namespace

cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
  EMULATOR_CALL;
  if (const cudaError_t error = r.unsafe("an allocation of pinned memory")) return error;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*p) pinned().insert(*p);
  return r.remember(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaMallocHost(void** p, size_t bytes) { return cudaHostAlloc(p, bytes, cudaHostAllocDefault); }
cudaError_t cudaFreeHost(void* p) {
  EMULATOR_LOCKED;
  if (const cudaError_t error = r.unsafe("cudaFreeHost")) return error;
  r.finish_all();
  if (p && pinned().erase(p) == 0) {
    misuse("cudaFreeHost of a pointer that cudaHostAlloc did not give");
    return r.remember(cudaErrorInvalidValue);
  }
  std::free(p);
  return r.take();
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const size_t used = emulator::device_bytes_used() + emulator::runtime().graph_bytes;
  *total_bytes = emulator::options().device_bytes;
  *free_bytes = *total_bytes - std::min(*total_bytes, used);
  return cudaSuccess;
}

// ---- copies and fills ---------------------------------------------------------------------------------------------------------
namespace {
emulator::Task copy_task(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, const void* site) {
  return {[=](uint64_t, const Position&) { return copy(to, from, bytes, kind, site); },
          {{from, bytes, false}, {to, bytes, true}},
          site};
}
emulator::Task fill_task(void* p, int value, size_t bytes, const void* site) {
  return {[=](uint64_t, const Position&) { return fill(p, value, bytes, site); }, {{p, bytes, true}}, site};
}
// Runs a task in the default stream and waits for it.
cudaError_t run_now(const char* call, emulator::Task task) {
  EMULATOR_LOCKED;
  if (const cudaError_t error = r.implicit(call)) return error;
  if (const cudaError_t error = r.unsafe(call)) return error;
  task.waits = true;
  if (const cudaError_t error = r.enqueue(nullptr, std::move(task))) return error;
  r.wait_for(&r.default_stream);
  return r.take();
}
}  // namespace

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  EMULATOR_LOCKED;
  return r.enqueue(stream, copy_task(to, from, bytes, kind, __builtin_return_address(0)));
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  EMULATOR_LOCKED;
  return r.enqueue(stream, fill_task(p, value, bytes, __builtin_return_address(0)));
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return run_now("cudaMemcpy", copy_task(to, from, bytes, kind, __builtin_return_address(0)));
}
cudaError_t cudaMemset(void* p, int value, size_t bytes) {
  return run_now("cudaMemset", fill_task(p, value, bytes, __builtin_return_address(0)));
}
