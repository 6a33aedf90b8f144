// What a kernel calls besides arithmetic: indices, barriers, warp collectives, atomics, cached loads, and the host forms of the
// instructions that kernels/*.cuh wraps. Only a running kernel may call them.
#pragma once

#include <atomic>
#include <cstring>
#include <type_traits>

#include "emulator/types.h"

namespace emulator {

// Constant during the life of a thread, so the compiler may call them once.
uint3 thread_index() __attribute__((const));
uint3 block_index() __attribute__((const));

// The emulated architecture, 750 … 1200 (Options::arch).
int arch() __attribute__((pure));
void* dynamic_shared() __attribute__((const));

enum class Vote { count, all, any };
int block_barrier(Vote vote, bool predicate);

enum class Shuffle { index, up, down, exclusive_or };
uint64_t shuffle(Shuffle kind, uint32_t mask, uint64_t value, unsigned operand, int width, int bytes);
void warp_barrier(uint32_t mask);
uint32_t warp_ballot(uint32_t mask, bool predicate);
int warp_add(uint32_t mask, int value);

void thread_fence();
[[noreturn]] void trap();

// Checks a read of `size` bytes at p through __ldg, which is not coherent with writes of the same launch.
void read_only(const void* p, int size);
// The time of an atomic read-modify-write of `size` bytes at p, which is checked first. There is one at a time, so what an atomic
// acquires is what those before it have released.
class AtomicAccess {
 public:
  AtomicAccess(const void* p, int size);
  ~AtomicAccess();
  AtomicAccess(const AtomicAccess&) = delete;
  AtomicAccess& operator=(const AtomicAccess&) = delete;
};

enum Operand { Half, Bf16 };
void mma(float* c, const uint32_t* a, const uint32_t* b, int inner, Operand type);
void ldmatrix(uint32_t* r, int matrices, bool transposed, const void* row);
void cp_async(void* shared, const void* global, int size, int bytes);
void cp_async_commit();
void cp_async_wait_group(int unfinished);

// wgmma m64nNk16 of one thread of a warpgroup. A comes from its registers or by a descriptor, B by a descriptor.
struct WgmmaOperands {
  int columns;  // N
  Operand type;
  bool accumulate, a_in_registers;
  uint32_t a_registers[4];
  uint64_t a, b;  // descriptors
  bool a_mn_major, b_mn_major;
};
void wgmma(float* d, const WgmmaOperands& operands);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int unfinished);
void proxy_fence();  // fence.proxy.async
// The address of dynamic shared memory in the block's window, as descriptors have it.
size_t shared_window(const void* p);

template <class T>
EMULATOR_DEVICE T shuffle_value(Shuffle kind, uint32_t mask, T value, unsigned operand, int width) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "shuffles move 2, 4 or 8 bytes");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = shuffle(kind, mask, bits, operand, width, sizeof(T));
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T, class F>
EMULATOR_DEVICE T atomic_update(T* p, F&& update) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "atomics are for 32- and 64-bit integers: sums of floats would depend on the order of the threads");
  const AtomicAccess access(p, sizeof(T));
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(p, &old, update(old), true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
  }
  return old;
}

}  // namespace emulator

#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index())
// Of the block that this OS thread runs. Not macros, because cudaLaunchConfig_t has fields of these names.
extern constinit thread_local const dim3 blockDim __asm__("emulator_block_size");
extern constinit thread_local const dim3 gridDim __asm__("emulator_grid_size");

EMULATOR_DEVICE void __syncthreads() { ::emulator::block_barrier(::emulator::Vote::count, true); }
EMULATOR_DEVICE int __syncthreads_count(int p) { return ::emulator::block_barrier(::emulator::Vote::count, p != 0); }
EMULATOR_DEVICE int __syncthreads_and(int p) { return ::emulator::block_barrier(::emulator::Vote::all, p != 0); }
EMULATOR_DEVICE int __syncthreads_or(int p) { return ::emulator::block_barrier(::emulator::Vote::any, p != 0); }
EMULATOR_DEVICE void __syncwarp(unsigned mask = 0xffffffffu) { ::emulator::warp_barrier(mask); }
EMULATOR_DEVICE void __threadfence() { ::emulator::thread_fence(); }
[[noreturn]] EMULATOR_DEVICE void __trap() { ::emulator::trap(); }

template <class T>
EMULATOR_DEVICE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return ::emulator::shuffle_value(::emulator::Shuffle::index, mask, value, static_cast<unsigned>(lane), width);
}
template <class T>
EMULATOR_DEVICE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return ::emulator::shuffle_value(::emulator::Shuffle::up, mask, value, delta, width);
}
template <class T>
EMULATOR_DEVICE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return ::emulator::shuffle_value(::emulator::Shuffle::down, mask, value, delta, width);
}
template <class T>
EMULATOR_DEVICE T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return ::emulator::shuffle_value(::emulator::Shuffle::exclusive_or, mask, value, static_cast<unsigned>(lanes), width);
}
EMULATOR_DEVICE unsigned __ballot_sync(unsigned mask, int p) { return ::emulator::warp_ballot(mask, p != 0); }
EMULATOR_DEVICE int __any_sync(unsigned mask, int p) { return ::emulator::warp_ballot(mask, p != 0) != 0; }
EMULATOR_DEVICE int __all_sync(unsigned mask, int p) { return ::emulator::warp_ballot(mask, p == 0) == 0; }
// Always the caller alone, so that code which takes it for the lanes that will arrive fails in every run.
EMULATOR_DEVICE unsigned __activemask() {
  const uint3 i = threadIdx;
  const dim3 n = blockDim;
  return 1u << ((i.x + n.x * (i.y + n.y * i.z)) % 32);
}

EMULATOR_DEVICE int __reduce_add_sync(unsigned mask, int v) { return ::emulator::warp_add(mask, v); }

template <class T>
EMULATOR_DEVICE T atomicAdd(T* p, std::type_identity_t<T> v) {
  return ::emulator::atomic_update(
      p, [v](T old) { return static_cast<T>(std::make_unsigned_t<T>(old) + std::make_unsigned_t<T>(v)); });
}
template <class T>
EMULATOR_DEVICE T atomicMax(T* p, std::type_identity_t<T> v) {
  return ::emulator::atomic_update(p, [v](T old) { return old > v ? old : v; });
}
template <class T>
EMULATOR_DEVICE T atomicOr(T* p, std::type_identity_t<T> v) {
  return ::emulator::atomic_update(p, [v](T old) { return old | v; });
}

template <class T>
EMULATOR_DEVICE T __ldg(const T* p) {
  ::emulator::read_only(p, sizeof(T));
  return *p;
}

EMULATOR_DEVICE size_t __cvta_generic_to_shared(const void* p) { return ::emulator::shared_window(p); }
