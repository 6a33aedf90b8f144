// wgmma, the tensor cores' instruction of sm_90a: a warpgroup, four warps whose first has a number divisible by four, multiplies
// a 64×16 tile A by a 16×N tile B and adds to a 64×N accumulator D. B lies in shared memory, A there (ss) or in registers (rs).
// All 128 threads must call together. nvcc compiles these to PTX where it compiles for sm_90a (TLL_WGMMA); the emulator decodes
// the same descriptors on the host.
//
// The instruction is asynchronous. A batch is
//   wgmma_fence();  wgmma_…(d, …);  …  wgmma_commit();  wgmma_wait<0>();  wgmma_results(d);
// The fence orders what was done to the registers before it. Until the wait nobody may touch the accumulators, nor write what the
// operands are read from. wgmma_results keeps the compiler from moving their uses to before the wait.
//
// Operands in shared memory are read through the async proxy. Whoever wrote them calls proxy_fence() after the stores, and after
// the wait for a cp.async; a block barrier follows. No fence is needed in the other direction.
//
// Layouts. Thread T is lane % 32 = 4g + t of warp w = T/32 of its warpgroup.
//   D (row m, column n)  d[e]:  m = 16w + g + 8·(e/2 % 2),  n = 8·(e/4) + 2t + e%2           e < N/2
//   A in registers       a[r]:  m = 16w + g + 8·(r & 1),    k = 2t + 8·(r >> 1) and the next r < 4
// So a warp holds 16 rows, as 16×8 tiles of mma's C and 16×16 tiles of its A: two neighbouring n8 tiles of D are an A.
//
// A tile in shared memory consists of panels of 64 columns, 128 bytes a row, one after another. The eight 16-byte units of a row
// are exchanged: unit u of row r lies at place u ^ (r % 8) (the 128-byte swizzle). A panel begins at a multiple of 1024 bytes. An
// operand has k along the columns (K-major: A as [m][k], B as [n][k]) or along the rows (MN-major: B as [k][n]).
#pragma once

#include "kernels/cuda_types.cuh"

#if defined(TLL_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TLL_WGMMA 1
#endif

namespace tll {

inline constexpr int kWarpgroup = 128, kPanelColumns = 64, kPanelAlign = 1024;

// Where element (row, column) of a panel lies, in elements of 16 bits. Neighbours of one unit of eight columns stay neighbours.
TLL_DEVICE int swizzled(int row, int column) { return row * kPanelColumns + (column ^ (row % 8 * 8)); }
// The first address from p on at which a panel may begin: up to 1008 bytes later.
template <class T>
TLL_DEVICE T* panel_begin(T* p) {
  return p + (0u - shared_address(p)) % kPanelAlign / sizeof(T);
}

// Where element e of a thread's accumulators lies in a tile of the block's warpgroups, 64 rows each; r = e/2 % 2.
TLL_DEVICE int accumulator_row(int thread, int r) { return thread / kWarp * 16 + thread % kWarp / 4 + 8 * r; }
TLL_DEVICE int accumulator_column(int thread, int e) { return e / 4 * 8 + thread % 4 * 2 + e % 2; }

#ifdef TLL_WGMMA

// ---- descriptors --------------------------------------------------------------------------------------------------------------
// Of an operand that begins at row 0 of 8 of the swizzle's pattern. Bits 0-13: the address, 16-29: leading, 32-45: stride, each
// divided by 16; 62-63: 1, the 128-byte swizzle. Between groups of eight rows lie `stride` = 1024 bytes in both layouts.
// `leading`, bytes from panel to panel, is for the N of an MN-major B that has more than one; a K-major operand's 16 columns are
// in one.
TLL_DEVICE uint64_t wgmma_descriptor(const void* first, int leading = kPanelAlign) {
  return uint64_t{(shared_address(first) & 0x3ffff) >> 4} | static_cast<uint64_t>(leading >> 4) << 16 |
         uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

// ---- ordering -----------------------------------------------------------------------------------------------------------------
TLL_DEVICE void proxy_fence() {
#ifdef TLL_EMULATED
  emulator::proxy_fence();
#else
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
TLL_DEVICE void wgmma_fence() {
#ifdef TLL_EMULATED
  emulator::wgmma_fence();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
TLL_DEVICE void wgmma_commit() {
#ifdef TLL_EMULATED
  emulator::wgmma_commit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// Returns when at most the kUnfinished newest groups are unfinished.
template <int kUnfinished>
TLL_DEVICE void wgmma_wait() {
#ifdef TLL_EMULATED
  emulator::wgmma_wait(kUnfinished);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kUnfinished) : "memory");
#endif
}
template <int kCount>
TLL_DEVICE void wgmma_results(float (&d)[kCount]) {
#ifndef TLL_EMULATED
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "+f"(d[i])::"memory");
#else
  static_cast<void>(d);
#endif
}

// ---- wgmma: d = a · b, or d += a · b if `accumulate` ------------------------------------------------------------------------

#ifndef TLL_EMULATED
#define TLL_WGMMA_D32                                                                                              \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23," \
  " %24, %25, %26, %27, %28, %29, %30, %31}"
#define TLL_WGMMA_D48                                                                                              \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23," \
  " %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45," \
  " %46, %47}"
#define TLL_WGMMA_D64                                                                                              \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23," \
  " %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45," \
  " %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define TLL_WGMMA_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define TLL_WGMMA_16(d, i) TLL_WGMMA_4(d, i), TLL_WGMMA_4(d, i + 4), TLL_WGMMA_4(d, i + 8), TLL_WGMMA_4(d, i + 12)
#define TLL_WGMMA_32(d) TLL_WGMMA_16(d, 0), TLL_WGMMA_16(d, 16)
#define TLL_WGMMA_48(d) TLL_WGMMA_32(d), TLL_WGMMA_16(d, 32)
#define TLL_WGMMA_64(d) TLL_WGMMA_48(d), TLL_WGMMA_16(d, 48)
// TYPE: bf16 or f16. The last operands: scale-d (a predicate), the signs of A and B, which operands are MN-major.
#define TLL_WGMMA_SS(N, TYPE, D, OUT, A, B, S)                                                                               \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " S ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #TYPE "." #TYPE \
               " " D ", " A ", " B ", p, 1, 1, 0, 0;\n}"                                                                     \
               : OUT                                                                                                         \
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate))                                                           \
               : "memory")
#define TLL_WGMMA_RS(N, TYPE, D, OUT, A, B, S)                                                                               \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " S ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #TYPE "." #TYPE \
               " " D ", " A ", " B ", p, 1, 1, 1;\n}"                                                                        \
               : OUT                                                                                                         \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate))                       \
               : "memory")
#endif

// A and B K-major, by their descriptors. N = 64 or 96.
template <class Float, int kCount>
TLL_DEVICE void wgmma_ss(float (&d)[kCount], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kCount == 32 || kCount == 48, "N is 64 or 96");
#ifdef TLL_EMULATED
  emulator::wgmma(d, {.columns = 2 * kCount,
                      .type = std::is_same_v<Float, bf16> ? emulator::Bf16 : emulator::Half,
                      .accumulate = accumulate,
                      .a_in_registers = false,
                      .a_registers = {},
                      .a = a,
                      .b = b,
                      .a_mn_major = false,
                      .b_mn_major = false});
#else
  if constexpr (kCount == 32 && std::is_same_v<Float, bf16>)
    TLL_WGMMA_SS(64, bf16, TLL_WGMMA_D32, TLL_WGMMA_32(d), "%32", "%33", "%34");
  else if constexpr (kCount == 32)
    TLL_WGMMA_SS(64, f16, TLL_WGMMA_D32, TLL_WGMMA_32(d), "%32", "%33", "%34");
  else if constexpr (std::is_same_v<Float, bf16>)
    TLL_WGMMA_SS(96, bf16, TLL_WGMMA_D48, TLL_WGMMA_48(d), "%48", "%49", "%50");
  else
    TLL_WGMMA_SS(96, f16, TLL_WGMMA_D48, TLL_WGMMA_48(d), "%48", "%49", "%50");
#endif
}

// A in registers, B MN-major by its descriptor. N = 64 or 128.
template <class Float, int kCount>
TLL_DEVICE void wgmma_rs(float (&d)[kCount], const uint32_t (&a)[4], uint64_t b, bool accumulate = true) {
  static_assert(kCount == 32 || kCount == 64, "N is 64 or 128");
#ifdef TLL_EMULATED
  emulator::wgmma(d, {.columns = 2 * kCount,
                      .type = std::is_same_v<Float, bf16> ? emulator::Bf16 : emulator::Half,
                      .accumulate = accumulate,
                      .a_in_registers = true,
                      .a_registers = {a[0], a[1], a[2], a[3]},
                      .a = 0,
                      .b = b,
                      .a_mn_major = false,
                      .b_mn_major = true});
#else
  if constexpr (kCount == 32 && std::is_same_v<Float, bf16>)
    TLL_WGMMA_RS(64, bf16, TLL_WGMMA_D32, TLL_WGMMA_32(d), "{%32, %33, %34, %35}", "%36", "%37");
  else if constexpr (kCount == 32)
    TLL_WGMMA_RS(64, f16, TLL_WGMMA_D32, TLL_WGMMA_32(d), "{%32, %33, %34, %35}", "%36", "%37");
  else if constexpr (std::is_same_v<Float, bf16>)
    TLL_WGMMA_RS(128, bf16, TLL_WGMMA_D64, TLL_WGMMA_64(d), "{%64, %65, %66, %67}", "%68", "%69");
  else
    TLL_WGMMA_RS(128, f16, TLL_WGMMA_D64, TLL_WGMMA_64(d), "{%64, %65, %66, %67}", "%68", "%69");
#endif
}

#endif  // TLL_WGMMA

}  // namespace tll
