// Asynchronous copies from global to shared memory (cp.async, sm_80 and later).
//
// cp_async_commit() closes a group, possibly an empty one. cp_async_wait_group<N>() returns when at most the N newest groups are
// unfinished. The data is then visible only to the thread that issued the copies, so a barrier must follow. Until the copy has
// finished, do not read or write the destination and do not write the source. Refill a stage only after a barrier that follows
// its last read. Commit once in every iteration, so that the count stays right in the tail.
//
// On sm_75 the copy goes through a register immediately, and commit and wait do nothing. The barrier after the wait is needed
// anyway, so a kernel that is correct with asynchronous copies is correct with these.
#pragma once

#include "kernels/cuda_types.cuh"

namespace tll {

// Copies `bytes` (0 … kSize) bytes and fills up to kSize (4, 8 or 16) with zeros. Both addresses must be aligned to kSize. With
// bytes = 0 nothing is read, so the source may be any pointer of that alignment.
template <int kSize>
TLL_DEVICE void cp_async(void* shared, const void* global, int bytes = kSize) {
  static_assert(kSize == 4 || kSize == 8 || kSize == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(TLL_EMULATED) || __CUDA_ARCH__ >= 800
  if (TLL_ARCH >= 800) {
#ifdef TLL_EMULATED
    emulator::cp_async(shared, global, kSize, bytes);
#else
    if constexpr (kSize == 16) {  // .cg caches in L2 only; PTX has it for 16 bytes only
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                   : "memory");
    } else {
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(kSize),
                   "r"(bytes)
                   : "memory");
    }
#endif
    return;
  }
#endif
  using Raw = raw_bits<kSize>;
  if (bytes == kSize) {
    *static_cast<Raw*>(shared) = *static_cast<const Raw*>(global);
  } else {
    for (int i = 0; i < kSize; i++)
      static_cast<uint8_t*>(shared)[i] = i < bytes ? static_cast<const uint8_t*>(global)[i] : static_cast<uint8_t>(0);
  }
}
TLL_DEVICE void cp_async_16(void* shared, const void* global, int bytes = 16) { cp_async<16>(shared, global, bytes); }
TLL_DEVICE void cp_async_8(void* shared, const void* global, int bytes = 8) { cp_async<8>(shared, global, bytes); }
TLL_DEVICE void cp_async_4(void* shared, const void* global, int bytes = 4) { cp_async<4>(shared, global, bytes); }

TLL_DEVICE void cp_async_commit() {
#ifdef TLL_EMULATED
  emulator::cp_async_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kUnfinished>
TLL_DEVICE void cp_async_wait_group() {
  static_assert(kUnfinished >= 0, "a number of groups");
#ifdef TLL_EMULATED
  emulator::cp_async_wait_group(kUnfinished);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kUnfinished) : "memory");
#endif
}
// Commits the open group and waits for all groups.
TLL_DEVICE void cp_async_wait_all() {
  cp_async_commit();
  cp_async_wait_group<0>();
}

}  // namespace tll
