// The calls that -fsanitize=thread and -fsanitize=undefined insert into the code of kernels. They replace the sanitizers' own
// runtimes, which must not be linked.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"

using emulator::Access;
using emulator::Fault;
using emulator::running;
using emulator::Worker;

namespace {

// An access by the host code of a .cu file.
void host_access(const void* p, size_t size, bool write, const void* site) {
  if (emulator::in_device_memory(p)) {
    emulator::host_touches_device(p, write, site);
  } else if (emulator::watched_host.load(std::memory_order_relaxed) > 0) {
    emulator::check_host_access(p, size, write, site);
  }
}

template <size_t kSize, bool kAligned, Access kAccess>
[[gnu::always_inline]] inline void hook(const void* p, const void* site) {
  Worker* w = running;
  if (!w) return host_access(p, kSize, kAccess == Access::write, site);
  if (reinterpret_cast<uintptr_t>(p) - w->stack < emulator::kStackBytes) return;  // local variables
  if (kAligned && reinterpret_cast<uintptr_t>(p) % kSize != 0) emulator::check_aligned(*w, p, kSize, "an access", site);
  emulator::check_sized<kAccess, kSize>(*w, p, site);
}
void hook_range(const void* p, size_t size, Access access, const void* site) {
  if (!running) return host_access(p, size, access == Access::write, site);
  if (size > 0) emulator::check_access(*running, p, size, access, site);
}

}  // namespace

#define SITE __builtin_return_address(0)
#define HOOKS(n)                                                                               \
  void __tsan_read##n(void* p) { hook<n, true, Access::read>(p, SITE); }                       \
  void __tsan_write##n(void* p) { hook<n, true, Access::write>(p, SITE); }                     \
  void __tsan_unaligned_read##n(void* p) { hook<n, false, Access::read>(p, SITE); }            \
  void __tsan_unaligned_write##n(void* p) { hook<n, false, Access::write>(p, SITE); }          \
  void __tsan_volatile_read##n(void* p) { hook<n, true, Access::read>(p, SITE); }              \
  void __tsan_volatile_write##n(void* p) { hook<n, true, Access::write>(p, SITE); }            \
  void __tsan_unaligned_volatile_read##n(void* p) { hook<n, false, Access::read>(p, SITE); }   \
  void __tsan_unaligned_volatile_write##n(void* p) { hook<n, false, Access::write>(p, SITE); } \
  void __tsan_read_write##n(void* p) {                                                         \
    hook<n, true, Access::read>(p, SITE);                                                      \
    hook<n, true, Access::write>(p, SITE);                                                     \
  }                                                                                            \
  void __tsan_unaligned_read_write##n(void* p) {                                               \
    hook<n, false, Access::read>(p, SITE);                                                     \
    hook<n, false, Access::write>(p, SITE);                                                    \
  }

// What atomicAdd and its like end in, and atomics of host code in the same file (reference counts of shared_ptr, static
// variables).
#define ATOMICS(n, T)                                                                                            \
  T __tsan_atomic##n##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }           \
  void __tsan_atomic##n##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }           \
  T __tsan_atomic##n##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
  int __tsan_atomic##n##_compare_exchange_strong(volatile T* p, T* expected, T v, int, int) {                    \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);               \
  }                                                                                                              \
  int __tsan_atomic##n##_compare_exchange_weak(volatile T* p, T* expected, T v, int, int) {                      \
    return __atomic_compare_exchange_n(p, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                \
  }                                                                                                              \
  T __tsan_atomic##n##_compare_exchange_val(volatile T* p, T expected, T v, int, int) {                          \
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                     \
    return expected;                                                                                             \
  }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* p, unsigned long size) { hook_range(p, size, Access::read, SITE); }
void __tsan_write_range(void* p, unsigned long size) { hook_range(p, size, Access::write, SITE); }
void* __tsan_memcpy(void* to, const void* from, unsigned long size) {
  hook_range(from, size, Access::read, SITE);
  hook_range(to, size, Access::write, SITE);
  return std::memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, unsigned long size) {
  hook_range(from, size, Access::read, SITE);
  hook_range(to, size, Access::write, SITE);
  return std::memmove(to, from, size);
}
void* __tsan_memset(void* to, int value, unsigned long size) {
  hook_range(to, size, Access::write, SITE);
  return std::memset(to, value, size);
}
ATOMICS(8, unsigned char)
ATOMICS(32, unsigned)
ATOMICS(64, unsigned long)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

// ---- undefined behaviour ------------------------------------------------------------------------------------------------------
struct UbsanLocation {  // the first field of every handler's data
  const char* file;
  unsigned line, column;
};
struct UbsanType {
  unsigned short kind, info;
  char name[1];
};
struct UbsanBounds {
  UbsanLocation at;
  const UbsanType *array, *index;
};
struct UbsanMismatch {
  UbsanLocation at;
  const UbsanType* type;
  unsigned char log_alignment, kind;
};

static void undefined(const UbsanLocation& at, const void* site, Fault fault, const std::string& text,
                      const std::string& tensor = "") {
  if (!running) {
    std::fprintf(stderr, "%s:%u: host code %s\n", at.file, at.line, text.c_str());
    std::abort();
  }
  running->fail({.fault = fault, .text = text, .site = site, .tensor = tensor});
}

void __ubsan_handle_out_of_bounds(UbsanBounds* data, unsigned long index) {
  undefined(data->at, SITE, Fault::out_of_bounds,
            fmt::format("uses index {} of an array of type {}", static_cast<long>(index), data->array->name));
}
void __ubsan_handle_type_mismatch_v1(UbsanMismatch* data, unsigned long p) {
  const unsigned long alignment = 1ul << data->log_alignment;
  const auto [place, tensor] = running ? emulator::describe_address(*running, p) : emulator::Address{"host memory", ""};
  undefined(data->at, SITE, Fault::misaligned,
            fmt::format("uses {} as {}, which needs an alignment of {} bytes", place, data->type->name, alignment), tensor);
}
void __ubsan_handle_shift_out_of_bounds(UbsanLocation* at, unsigned long, unsigned long by) {
  undefined(*at, SITE, Fault::arithmetic, fmt::format("shifts by {}, or shifts a negative value", static_cast<long>(by)));
}
void __ubsan_handle_divrem_overflow(UbsanLocation* at, unsigned long, unsigned long) {
  undefined(*at, SITE, Fault::arithmetic, "divides an integer by 0, or the smallest one by -1");
}
void __ubsan_handle_add_overflow(UbsanLocation* at, unsigned long, unsigned long) {
  undefined(*at, SITE, Fault::arithmetic, "adds signed integers beyond their range");
}
void __ubsan_handle_sub_overflow(UbsanLocation* at, unsigned long, unsigned long) {
  undefined(*at, SITE, Fault::arithmetic, "subtracts signed integers beyond their range");
}
void __ubsan_handle_mul_overflow(UbsanLocation* at, unsigned long, unsigned long) {
  undefined(*at, SITE, Fault::arithmetic, "multiplies signed integers beyond their range");
}
void __ubsan_handle_negate_overflow(UbsanLocation* at, unsigned long) {
  undefined(*at, SITE, Fault::arithmetic, "negates the smallest integer");
}
void __ubsan_handle_float_cast_overflow(UbsanLocation* at, unsigned long) {
  undefined(*at, SITE, Fault::arithmetic, "converts a floating-point value to an integer type that cannot hold it");
}

}  // extern "C"
