// Emulated mma, ldmatrix and cp.async, and the checks of atomics and of __ldg.
#include <fmt/format.h>

#include <cstring>
#include <mutex>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "dev/emulator/block.h"
#include "dev/emulator/mma_model.h"

namespace emulator {
namespace {

struct MmaArguments {
  float* c;
  const uint32_t *a, *b;
  int inner;
  Operand type;
};
struct LdmatrixArguments {
  uint32_t* r;
  int matrices;
  bool transposed;
  const void* row;
};

void need_whole_warp(Worker& w, const void* site, const char* name) {
  if (w.warp->present != 0xffffffffu || w.warp->exited != 0)
    w.fail(
        {.fault = Fault::collective, .text = fmt::format("calls {}, which needs all 32 lanes of the warp", name), .site = site});
}
void need_arch(Worker& w, int first, const char* name, const void* site) {
  if (arch() < first)
    w.fail({.fault = Fault::launch,
            .text = fmt::format("uses {}, which begins with sm_{}, the architecture is sm_{}", name, first / 10, arch() / 10),
            .site = site});
}
bool in_shared(const Worker& w, const void* p) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  return w.dynamic.contains(a) || w.statics.contains(a);
}
void need_shared(Worker& w, const void* p, const char* name, const void* site) {
  if (!in_shared(w, p))
    fail_at(w, Fault::out_of_bounds, p, fmt::format("{} addresses ", name), ", which is not shared memory", site);
}

float operand(uint32_t reg, int half, Operand type) {
  const uint16_t bits = static_cast<uint16_t>(reg >> (16 * half));
  return type == Bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

}  // namespace

float mma_dot(const float* a, const float* b, float c, int inner, Operand type, MmaSum mode, int arch) {
  return mode == MmaSum::exact ? mma_exact(a, b, c, inner)
                               : mma_hardware(a, b, c, inner, type == Bf16 ? -126 : -14, mma_blocks(arch));
}

void finish_mma(Worker& worker, Warp& warp, uint32_t) {
  float a[16][16], b[8][16];
  const auto arguments = [&](uint32_t lane) { return static_cast<const MmaArguments*>(lane_thread(worker, warp, lane).payload); };
  const int inner = arguments(0)->inner;
  const Operand type = arguments(0)->type;
  for (uint32_t lane = 0; lane < 32; lane++) {
    const MmaArguments* p = arguments(lane);
    const uint32_t g = lane / 4, t = lane % 4;
    for (int r = 0; r < inner / 4; r++)
      for (int h = 0; h < 2; h++) a[g + 8 * (r & 1)][2 * t + h + 8 * (r >> 1)] = operand(p->a[r], h, type);
    for (int r = 0; r < inner / 8; r++)
      for (int h = 0; h < 2; h++) b[g][2 * t + h + 8 * r] = operand(p->b[r], h, type);
  }
  const MmaSum mode = options().mma;
  const int target = arch();
  for (uint32_t lane = 0; lane < 32; lane++) {
    const uint32_t g = lane / 4, t = lane % 4;
    float* c = arguments(lane)->c;
    for (uint32_t e = 0; e < 4; e++) c[e] = mma_dot(a[g + 8 * (e >> 1)], b[2 * t + (e & 1)], c[e], inner, type, mode, target);
  }
}
void mma(float* c, const uint32_t* a, const uint32_t* b, int inner, Operand type) {
  Worker& w = *running;
  const void* site = __builtin_return_address(0);
  need_whole_warp(w, site, "mma");
  if (inner == 16 || type == Bf16) need_arch(w, 800, "mma of this shape and type", site);
  MmaArguments arguments{c, a, b, inner, type};
  w.collective(Wait::mma, site, 0xffffffffu, &arguments);
}

// ---- ldmatrix -----------------------------------------------------------------------------------------------------------------
void finish_ldmatrix(Worker& worker, Warp& warp, uint32_t) {
  const auto arguments = [&](uint32_t lane) {
    return static_cast<const LdmatrixArguments*>(lane_thread(worker, warp, lane).payload);
  };
  const int matrices = arguments(0)->matrices;
  const bool transposed = arguments(0)->transposed;
  for (uint32_t lane = 0; lane < 32; lane++) {
    if (lane >= 8u * static_cast<uint32_t>(matrices) && arch() >= 800) break;  // sm_75 looks at the addresses of all lanes
    Thread& thread = lane_thread(worker, warp, lane);
    const ActAs as(worker, thread);
    need_shared(worker, arguments(lane)->row, "ldmatrix", thread.site);
    check_aligned(worker, arguments(lane)->row, 16, "a row of ldmatrix", thread.site);
  }
  for (uint32_t lane = 0; lane < 32; lane++) {
    Thread& thread = lane_thread(worker, warp, lane);
    const ActAs as(worker, thread);  // a lane reads what it receives, so the writer must happen before
    const uint32_t g = lane / 4, t = lane % 4;
    for (int i = 0; i < matrices; i++) {
      uint32_t value = 0;
      for (uint32_t h = 0; h < 2; h++) {
        const uint32_t row = transposed ? 2 * t + h : g, column = transposed ? g : 2 * t + h;
        const auto* p = static_cast<const uint8_t*>(arguments(8 * static_cast<uint32_t>(i) + row)->row) + 2 * column;
        if (transposed) check_access(worker, p, 2, Access::read, thread.site);
        if (!transposed && h == 0) check_access(worker, p, 4, Access::read, thread.site);
        uint16_t bits;
        std::memcpy(&bits, p, 2);
        value |= static_cast<uint32_t>(bits) << (16 * h);
      }
      arguments(lane)->r[i] = value;
    }
  }
}
void ldmatrix(uint32_t* r, int matrices, bool transposed, const void* row) {
  Worker& w = *running;
  const void* site = __builtin_return_address(0);
  need_whole_warp(w, site, "ldmatrix");
  LdmatrixArguments arguments{r, matrices, transposed, row};
  w.collective(Wait::ldmatrix, site, 0xffffffffu, &arguments);
}

// ---- cp.async: data arrives at the wait, and not before -----------------------------------------------------------------------
void cp_async(void* shared, const void* global, int size, int bytes) {
  Worker& w = *running;
  const void* site = __builtin_return_address(0);
  need_arch(w, 800, "cp.async", site);
  need_shared(w, shared, "cp.async", site);
  check_aligned(w, shared, static_cast<size_t>(size), "the destination of cp.async", site);
  if (bytes < 0 || bytes > size)
    w.fail(
        {.fault = Fault::out_of_bounds, .text = fmt::format("copies {} of {} bytes with cp.async", bytes, size), .site = site});
  if (bytes > 0) {
    check_aligned(w, global, static_cast<size_t>(size), "the source of cp.async", site);
    if (in_shared(w, global))
      w.fail({.fault = Fault::out_of_bounds, .text = "copies from shared memory with cp.async", .site = site});
    check_access(w, global, static_cast<size_t>(bytes), Access::read, site);
  }
  check_access(w, shared, static_cast<size_t>(size), Access::write, site);
  set_in_flight(w, shared, static_cast<size_t>(size), true);
  w.current->copies.push_back({static_cast<uint8_t*>(shared), static_cast<const uint8_t*>(global), static_cast<uint16_t>(size),
                               static_cast<uint16_t>(bytes), w.current->groups, site});
}
void cp_async_commit() { running->current->groups++; }
void cp_async_wait_group(int unfinished) {
  Worker& w = *running;
  Thread& self = *w.current;
  size_t kept = 0;
  for (const PendingCopy& copy : self.copies) {
    if (copy.group + static_cast<uint32_t>(unfinished) >= self.groups) {
      self.copies[kept++] = copy;
      continue;
    }
    if (copy.bytes > 0) check_access(w, copy.from, copy.bytes, Access::read, copy.site);
    set_in_flight(w, copy.to, copy.size, false);
    check_access(w, copy.to, copy.size, Access::write, copy.site);
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(copy.to + copy.bytes, 0, static_cast<size_t>(copy.size - copy.bytes));
  }
  self.copies.resize(kept);
}

// ---- __ldg and atomics --------------------------------------------------------------------------------------------------------
void read_only(const void* p, int size) {
  const void* site = __builtin_return_address(0);
  check_aligned(*running, p, static_cast<size_t>(size & -size), "__ldg", site);
  if (!in_device_memory(p)) fail_at(*running, Fault::out_of_bounds, p, "reads ", " through __ldg", site);
  check_access(*running, p, static_cast<size_t>(size), Access::constant, site);
}
namespace {
std::mutex atomics;
}
AtomicAccess::AtomicAccess(const void* p, int size) {
  Worker& w = *running;
  const void* site = __builtin_return_address(0);
  check_aligned(w, p, static_cast<size_t>(size), "an atomic", site);
  check_access(w, p, static_cast<size_t>(size), Access::atomic, site);
  atomics.lock();
  if (in_device_memory(p)) acquire_release(w, p);
}
AtomicAccess::~AtomicAccess() { atomics.unlock(); }

}  // namespace emulator
