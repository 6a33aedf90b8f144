// wgmma as nvcc passes it on. Beside compute_90a this is compiled for compute_90, where nothing of it may run.
#include <cuda_bf16.h>

#include <cstdint>

#include "dev/ptx_sim/tests/nvcc/wgmma.h"

namespace ptx::test {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool kWgmma = true;
#else
constexpr bool kWgmma = false;
#endif

#define OUT4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define OUT16(d, i) OUT4(d, i), OUT4(d, i + 4), OUT4(d, i + 8), OUT4(d, i + 12)
#define OUT32(d, i) OUT16(d, i), OUT16(d, i + 16)
#define OUT128(d, i) OUT32(d, i), OUT32(d, i + 32), OUT32(d, i + 64), OUT32(d, i + 96)
#define OUT8 OUT4(d, 0)
#define OUT64 OUT32(d, 0)
#define OUT256 OUT128(d, 0)
#define REGISTERS8 "%0, %1, %2, %3"
#define REGISTERS64                                                    \
  REGISTERS8                                                           \
  ", %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define REGISTERS256                                                                             \
  REGISTERS64                                                                                    \
  ", "                                                                                           \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// d += or = A · B. d must be ready for it; what the numbers of the operands are depends on n.
#define SHARED_A(type, n, a, b, add, trans)                                                                                  \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type \
               " {" REGISTERS##n "}, " a ", " b ", p, 1, 1, " trans ";\n}\n"                                                 \
               : OUT##n                                                                                                      \
               : "l"(a_descriptor), "l"(b_descriptor), "r"(added))
#define REGISTER_A(type, n, a0, a1, a2, a3, b, add, trans)                                                                   \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type \
               " {" REGISTERS##n "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b ", p, 1, 1, " trans ";\n}\n"                      \
               : OUT##n                                                                                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor), "r"(added))

template <bool kHalf, int kN, bool kTransA, bool kTransB>
__device__ void multiply(float (&d)[kN / 2], uint64_t a_descriptor, uint64_t b_descriptor, int added) {
#define BY_TRANS(type, n, a, b, add)                                       \
  if constexpr (kTransA && kTransB) SHARED_A(type, n, a, b, add, "1, 1");  \
  if constexpr (kTransA && !kTransB) SHARED_A(type, n, a, b, add, "1, 0"); \
  if constexpr (!kTransA && kTransB) SHARED_A(type, n, a, b, add, "0, 1"); \
  if constexpr (!kTransA && !kTransB) SHARED_A(type, n, a, b, add, "0, 0")
#define BY_TYPE(n, a, b, add)       \
  if constexpr (kN == n && kHalf) { \
    BY_TRANS("f16", n, a, b, add);  \
  } else if constexpr (kN == n) {   \
    BY_TRANS("bf16", n, a, b, add); \
  }
  BY_TYPE(8, "%4", "%5", "%6")
  BY_TYPE(64, "%32", "%33", "%34")
  BY_TYPE(256, "%128", "%129", "%130")
#undef BY_TRANS
#undef BY_TYPE
}
template <bool kHalf, int kN, bool kTransB>
__device__ void multiply(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b_descriptor, int added) {
#define BY_TYPE(n, a0, a1, a2, a3, b, add)                                                        \
  if constexpr (kN == n && kHalf && kTransB) REGISTER_A("f16", n, a0, a1, a2, a3, b, add, "1");   \
  if constexpr (kN == n && kHalf && !kTransB) REGISTER_A("f16", n, a0, a1, a2, a3, b, add, "0");  \
  if constexpr (kN == n && !kHalf && kTransB) REGISTER_A("bf16", n, a0, a1, a2, a3, b, add, "1"); \
  if constexpr (kN == n && !kHalf && !kTransB) REGISTER_A("bf16", n, a0, a1, a2, a3, b, add, "0");
  BY_TYPE(8, "%4", "%5", "%6", "%7", "%8", "%9")
  BY_TYPE(64, "%32", "%33", "%34", "%35", "%36", "%37")
  BY_TYPE(256, "%128", "%129", "%130", "%131", "%132", "%133")
#undef BY_TYPE
}

// Between these nvcc moves no access of a register from one side of a fence to the other.
template <int kCount>
__device__ void pin(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "+f"(d[i])::"memory");
}
__device__ void fence() {
  if constexpr (kWgmma) asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ void commit() {
  if constexpr (kWgmma) asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kOpen>
__device__ void wait() {
  if constexpr (kWgmma) asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kOpen) : "memory");
}
__device__ void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

extern __shared__ __align__(1024) uint4 shared[];

template <bool kHalf, int kN, bool kRegisters, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(128) product(const uint4* image, unsigned pieces, float* out, const uint4* fragments,
                                               uint64_t a_descriptor, uint64_t b_descriptor, int added) {
  if constexpr (!kWgmma) {
    __trap();
  } else {
    for (unsigned i = threadIdx.x; i < pieces; i += 128) shared[i] = image[i];
    proxy_fence();
    __syncthreads();
    const uint64_t base = __cvta_generic_to_shared(shared) >> 4;
    const uint4 fragment = fragments[threadIdx.x];
    uint32_t a[4] = {fragment.x, fragment.y, fragment.z, fragment.w};
    float d[kN / 2];
#pragma unroll
    for (int e = 0; e < kN / 2; e++) d[e] = out[threadIdx.x * (kN / 2) + e];
    pin(d);
#pragma unroll
    for (int r = 0; r < 4; r++) asm volatile("" : "+r"(a[r])::"memory");
    fence();
    if constexpr (kRegisters)
      multiply<kHalf, kN, kTransB>(d, a, b_descriptor + base, added);
    else
      multiply<kHalf, kN, kTransA, kTransB>(d, a_descriptor + base, b_descriptor + base, added);
    commit();
    wait<0>();
    pin(d);
#pragma unroll
    for (int e = 0; e < kN / 2; e++) out[threadIdx.x * (kN / 2) + e] = d[e];
  }
}

// ---- two tiles of 64 keys, copied by cp.async; the scores of the second are computed while the first meets V
constexpr int kTile = 64 * 128;  // bytes: 64 rows of 64 bf16

// Rows of 128 bytes, as the 128-byte swizzle has them.
__device__ void copy_tile(int at, const __nv_bfloat16* from) {
  for (int i = threadIdx.x; i < kTile / 16; i += 128) {
    const int row = i / 8, piece = i % 8;
    const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) + at + row * 128 + (piece ^ row % 8) * 16;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from + row * 64 + piece * 8) : "memory");
  }
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// 128-byte swizzle, groups of 8 rows 1024 bytes apart.
__device__ uint64_t tile(int at) {
  return (__cvta_generic_to_shared(shared) + at) >> 4 | uint64_t{1} << 16 | uint64_t{1024 / 16} << 32 | uint64_t{1} << 62;
}
__device__ void start_scores(float (&s)[32], int q, int k) {
  pin(s);
  fence();
#pragma unroll
  for (int step = 0; step < 4; step++) multiply<false, 64, false, false>(s, tile(q) + 2 * step, tile(k) + 2 * step, step > 0);
  commit();
}
__global__ void __launch_bounds__(128)
    attention(const __nv_bfloat16* q, const __nv_bfloat16* k, const __nv_bfloat16* v, float* out) {
  if constexpr (!kWgmma) {
    __trap();
  } else {
    copy_tile(0, q);
    for (int t = 0; t < 2; t++) copy_tile((1 + 2 * t) * kTile, k + t * 64 * 64), copy_tile((2 + 2 * t) * kTile, v + t * 64 * 64);
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    proxy_fence();
    __syncthreads();
    float s[2][32], o[32];
#pragma unroll
    for (int e = 0; e < 32; e++) s[0][e] = s[1][e] = o[e] = 0;
    start_scores(s[0], 0, kTile);
#pragma unroll
    for (int t = 0; t < 2; t++) {
      if (t == 0) start_scores(s[1], 0, 3 * kTile);
      wait<1>();  // for these scores; the product with V before runs on
      pin(s[t]);
      // Of two neighbouring groups of 8 columns of D, pairs are a step of A.
      uint32_t p[4][4];
#pragma unroll
      for (int r = 0; r < 16; r++) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(s[t][2 * r], s[t][2 * r + 1]);
        p[r / 4][r % 4] = reinterpret_cast<const uint32_t&>(pair);
        asm volatile("" : "+r"(p[r / 4][r % 4])::"memory");
      }
      pin(o);
      fence();
#pragma unroll
      for (int step = 0; step < 4; step++) multiply<false, 64, true>(o, p[step], tile((2 + 2 * t) * kTile) + 128 * step, 1);
      commit();
    }
    wait<0>();
    pin(o);
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
    for (int e = 0; e < 32; e++) out[(row + e / 2 % 2 * 8) * 64 + e / 4 * 8 + threadIdx.x % 4 * 2 + e % 2] = o[e];
  }
}

template <class F>
const void* address(F* kernel) {
  return reinterpret_cast<const void*>(kernel);
}
template <bool kHalf, int kN>
const void* of_shape(bool registers, bool a_transposed, bool b_transposed) {
  if (registers)
    return b_transposed ? address(product<kHalf, kN, true, false, true>) : address(product<kHalf, kN, true, false, false>);
  if (a_transposed)
    return b_transposed ? address(product<kHalf, kN, false, true, true>) : address(product<kHalf, kN, false, true, false>);
  return b_transposed ? address(product<kHalf, kN, false, false, true>) : address(product<kHalf, kN, false, false, false>);
}

}  // namespace

const void* product_kernel(bool half, int n, bool registers, bool a, bool b) {
  if (half)
    return n == 8    ? of_shape<true, 8>(registers, a, b)
           : n == 64 ? of_shape<true, 64>(registers, a, b)
                     : of_shape<true, 256>(registers, a, b);
  return n == 8    ? of_shape<false, 8>(registers, a, b)
         : n == 64 ? of_shape<false, 64>(registers, a, b)
                   : of_shape<false, 256>(registers, a, b);
}
const void* attention_kernel() { return address(attention); }

}  // namespace ptx::test
