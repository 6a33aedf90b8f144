// Number types, vectors and thread indices on the device.
//
// Kernels store the types of kernels/numeric.h (float, tll::bf16, tll::half) and compute in float. to_float(x) is exact;
// from_float<Float>(x) rounds to nearest even, as on the CPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/numeric.h"

#define TLL_DEVICE __device__ __forceinline__

// The target architecture, 750 … 1200: a constant under nvcc (0 in host code), the emulated one under the emulator.
#ifdef TLL_EMULATED
#define TLL_ARCH ::emulator::arch()
#elif defined(__CUDA_ARCH__)
#define TLL_ARCH __CUDA_ARCH__
#else
#define TLL_ARCH 0
#endif

namespace tll {

inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr int kWarp = 32;

// For one-dimensional blocks.
TLL_DEVICE unsigned lane_id() { return threadIdx.x % kWarp; }
TLL_DEVICE unsigned warp_id() { return threadIdx.x / kWarp; }

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

// ---- conversions --------------------------------------------------------------------------------------------------------------
template <class To, class From>
TLL_DEVICE To device_bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same number of bytes");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

TLL_DEVICE float to_float(float x) { return x; }
TLL_DEVICE float to_float(bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
TLL_DEVICE float to_float(half x) { return __half2float(device_bit_cast<__half>(x)); }

template <class Float>
TLL_DEVICE Float from_float(float x) {
  if constexpr (std::is_same_v<Float, bf16>) {
    return device_bit_cast<bf16>(__float2bfloat16_rn(x));
  } else if constexpr (std::is_same_v<Float, half>) {
    return device_bit_cast<half>(__float2half_rn(x));
  } else {
    static_assert(std::is_same_v<Float, float>, "kernels store float, bf16 or half");
    return x;
  }
}

// 2^x within 2 ulp, in one instruction. Results below 2^-126 are flushed to 0.
TLL_DEVICE float exp2_approx(float x) {
#ifdef TLL_EMULATED
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

inline constexpr float kLog2e = 1.4426950408889634f;  // e^x = 2^(x·kLog2e)

// 1/x within 1 ulp, in one instruction. 0 where that is below 2^-126, so for x above 2^126; of subnormal x infinity.
TLL_DEVICE float reciprocal_approx(float x) {
#ifdef TLL_EMULATED
  const float y = 1.0f / (fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x);
  return fabsf(y) < 0x1p-126f ? copysignf(0.0f, y) : y;
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// Packs two 16-bit values into a register, the first in the low half, as in tensor-core operands.
template <class Float>
TLL_DEVICE uint32_t pack2(float low, float high) {
  return from_float<Float>(low).bits | static_cast<uint32_t>(from_float<Float>(high).bits) << 16;
}
template <class Float>
TLL_DEVICE float2 unpack2(uint32_t packed) {
  return make_float2(to_float(Float{static_cast<uint16_t>(packed)}), to_float(Float{static_cast<uint16_t>(packed >> 16)}));
}

// ---- vectors ------------------------------------------------------------------------------------------------------------------
template <int kBytes>
struct raw_bits_of;
template <>
struct raw_bits_of<1> {
  using type = unsigned char;
};
template <>
struct raw_bits_of<2> {
  using type = unsigned short;
};
template <>
struct raw_bits_of<4> {
  using type = unsigned;
};
template <>
struct raw_bits_of<8> {
  using type = uint2;
};
template <>
struct raw_bits_of<16> {
  using type = uint4;
};
template <int kBytes>
using raw_bits = typename raw_bits_of<kBytes>::type;

// N values that one instruction moves: N · sizeof(T) is 1, 2, 4, 8 or 16 bytes.
template <class T, int N>
struct alignas(N * sizeof(T)) Vec {
  T v[N];
  TLL_DEVICE T& operator[](int i) { return v[i]; }
  TLL_DEVICE const T& operator[](int i) const { return v[i]; }
};
template <class T>
inline constexpr int kVec = 16 / sizeof(T);  // values in a 128-bit access

// p must be aligned to N · sizeof(T). vec_aligned(p, row) tells whether every row is, for rows of `row` elements from p on.
template <int N, class T>
TLL_DEVICE Vec<T, N> load_vec(const T* p) {
  return device_bit_cast<Vec<T, N>>(*reinterpret_cast<const raw_bits<N * sizeof(T)>*>(p));
}
template <class T, int N>
TLL_DEVICE void store_vec(T* p, const Vec<T, N>& x) {
  *reinterpret_cast<raw_bits<N * sizeof(T)>*>(p) = device_bit_cast<raw_bits<N * sizeof(T)>>(x);
}
template <int N, class T>
__host__ __device__ inline bool vec_aligned(const T* p, int64_t row) {
  return reinterpret_cast<uintptr_t>(p) % (N * sizeof(T)) == 0 && row % N == 0;
}

// ---- shared memory ------------------------------------------------------------------------------------------------------------
// The 32-bit address that PTX needs for a pointer into shared memory.
TLL_DEVICE uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// The block's dynamic shared memory: aligned to 16 bytes, of the size given to launch(), not initialised.
template <class T>
TLL_DEVICE T* dynamic_shared() {
#ifdef TLL_EMULATED
  return static_cast<T*>(emulator::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char tll_dynamic_shared[];
  return reinterpret_cast<T*>(tll_dynamic_shared);
#endif
}

}  // namespace tll
