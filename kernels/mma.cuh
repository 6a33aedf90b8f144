// Tensor cores. mma_m16n8k16 and mma_m16n8k8_half: a warp multiplies a 16×K tile by a K×8 tile and adds to a 16×8 accumulator.
// ldmatrix loads the operands from shared memory in the layout that mma needs. All 32 lanes must call together. nvcc compiles
// these to PTX; the emulator (TLL_EMULATED) computes the same index formulas on the host.
//
// Fragment layout: g = lane / 4, t = lane % 4. A register holds two 16-bit values, the one with the lower k in the low half.
//   A (row m, column k)  a[r]:  m = g + 8·(r & 1),  k = 2t + 8·(r >> 1) and the next      r < 4 for k16, r < 2 for k8
//   B (row n, column k)  b[r]:  n = g,              k = 2t + 8·r and the next             r < 2 for k16, r < 1 for k8
//   C (row m, column n)  c[e]:  m = g + 8·(e >> 1), n = 2t + (e & 1)                      e < 4
// A row of C lies in the four lanes with the same g, so a reduction over it takes two xor-shuffles, by 1 and by 2.
// Two adjacent n8 tiles of C, packed with pack2, are an A operand: a[0] = pack2(c0, c1) and a[1] = pack2(c2, c3) of the first
// tile, a[2] and a[3] the same of the second.
//
// Before sm_80 there is no k16 form and no bf16. mma_m16n8k16<half> then issues two k8, whose registers have the same layout.
// mma_m16n8k16<bf16> does not exist: the host checks tensor_cores_multiply<Float>(arch) before a launch, and kernels that call it
// begin with TLL_NEEDS_TENSOR_CORES(Float).
#pragma once

#include "kernels/cuda_types.cuh"

namespace tll {

// ---- supported types ----------------------------------------------------------------------------------------------------------

template <class Float>
constexpr bool tensor_cores_multiply(int arch) {
  return std::is_same_v<Float, half> || (std::is_same_v<Float, bf16> && arch >= 800);
}

// At the start of a kernel that calls mma. For bf16 on an architecture without bf16 mma the kernel becomes a trap, which saves
// compile time and code size.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define TLL_NEEDS_TENSOR_CORES(Float)                 \
  if constexpr (std::is_same_v<Float, ::tll::bf16>) { \
    __trap();                                         \
    return;                                           \
  }
#else
#define TLL_NEEDS_TENSOR_CORES(Float)
#endif

// ---- ldmatrix -----------------------------------------------------------------------------------------------------------------
// Loads n 8×8 matrices of 16-bit values from shared memory. Lane 8i + j passes the address of row j of matrix i: 8 consecutive
// values, aligned to 16 bytes. On sm_75 every lane must pass a valid address, so the upper lanes repeat those of the lower ones
// (lane % 8, lane % 16).
//
// Then r[i] of lane (g, t) holds row g, columns 2t and 2t+1 of matrix i; with _trans, rows 2t and 2t+1 of column g. Data that
// other lanes wrote needs __syncwarp() or __syncthreads() before.
//
//   operand, as stored in shared memory      call                       row address given by lane L
//   A 16×16, [m][k]                          ldmatrix(a, p)             m = L & 15, k = 8·(L >> 4)
//   A 16×16, [k][m]                          ldmatrix_trans(a, p)       k = (L & 7) + 8·(L >> 4), m = 8·((L >> 3) & 1)
//   B 8(n)×16(k), [n][k]                     ldmatrix(b, p)             n = L & 7, k = 8·((L >> 3) & 1)
//   B 8(n)×16(k), [k][n]                     ldmatrix_trans(b, p)       k = L & 15
//   two B tiles, 16(n)×16(k), [n][k]         ldmatrix(b4, p)            n = (L & 7) + 8·(L >> 4), k = 8·((L >> 3) & 1)
//   two B tiles, 16(n)×16(k), [k][n]         ldmatrix_trans(b4, p)      k = L & 15, n = 8·(L >> 4)
//                                            b4[0..1] is tile 0, b4[2..3] tile 1
template <bool kTrans, int kMatrices>
TLL_DEVICE void ldmatrix_form(uint32_t (&r)[kMatrices], const void* row) {
  static_assert(kMatrices == 1 || kMatrices == 2 || kMatrices == 4, "ldmatrix loads 1, 2 or 4 matrices");
#ifdef TLL_EMULATED
  emulator::ldmatrix(r, kMatrices, kTrans, row);
#else
  const uint32_t address = shared_address(row);
  if constexpr (kMatrices == 1 && !kTrans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (kMatrices == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (kMatrices == 2 && !kTrans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
  } else if constexpr (kMatrices == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (!kTrans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}
template <int kMatrices>
TLL_DEVICE void ldmatrix(uint32_t (&r)[kMatrices], const void* row) {
  ldmatrix_form<false>(r, row);
}
template <int kMatrices>
TLL_DEVICE void ldmatrix_trans(uint32_t (&r)[kMatrices], const void* row) {
  ldmatrix_form<true>(r, row);
}

// ---- mma: c += a · bᵀ, b stored as [n][k] -------------------------------------------------------------------------------------

// half, K = 8: on every architecture.
TLL_DEVICE void mma_m16n8k8_half(float (&c)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
#ifdef TLL_EMULATED
  emulator::mma(c, a, b, 8, emulator::Half);
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#endif
}

// Float is bf16 or half, K = 16.
template <class Float>
TLL_DEVICE void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(std::is_same_v<Float, bf16> || std::is_same_v<Float, half>, "tensor cores multiply bf16 or half");
#ifdef TLL_EMULATED
  if (!tensor_cores_multiply<Float>(TLL_ARCH)) __trap();
  if (TLL_ARCH >= 800) return emulator::mma(c, a, b, 16, std::is_same_v<Float, bf16> ? emulator::Bf16 : emulator::Half);
#elif __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<Float, bf16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
#if defined(TLL_EMULATED) || __CUDA_ARCH__ < 800
  if constexpr (std::is_same_v<Float, half>) {
    const uint32_t a_low[2] = {a[0], a[1]}, a_high[2] = {a[2], a[3]}, b_low[1] = {b[0]}, b_high[1] = {b[1]};
    mma_m16n8k8_half(c, a_low, b_low);
    mma_m16n8k8_half(c, a_high, b_high);
  }
#endif
}

}  // namespace tll
