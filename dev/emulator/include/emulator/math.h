// Arithmetic intrinsics. Approximate ones use the formula of the GPU, so that errors grow with the argument as they do there, but
// their last bits differ.
#pragma once

#include <bit>
#include <climits>
#include <cmath>

#include "emulator/types.h"

#define EMULATOR_MIN_MAX(A, B, R)                                                                                           \
  EMULATOR_DEVICE R min(A a, B b) { return static_cast<R>(a) < static_cast<R>(b) ? static_cast<R>(a) : static_cast<R>(b); } \
  EMULATOR_DEVICE R max(A a, B b) { return static_cast<R>(a) > static_cast<R>(b) ? static_cast<R>(a) : static_cast<R>(b); }
EMULATOR_MIN_MAX(int, int, int)
EMULATOR_MIN_MAX(unsigned, unsigned, unsigned)
EMULATOR_MIN_MAX(int, unsigned, unsigned)
EMULATOR_MIN_MAX(unsigned, int, unsigned)
EMULATOR_MIN_MAX(long, long, long)
EMULATOR_MIN_MAX(unsigned long, unsigned long, unsigned long)
EMULATOR_MIN_MAX(long, unsigned long, unsigned long)
EMULATOR_MIN_MAX(unsigned long, long, unsigned long)
EMULATOR_MIN_MAX(long long, long long, long long)
EMULATOR_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
EMULATOR_DEVICE float min(float a, float b) { return fminf(a, b); }
EMULATOR_DEVICE float max(float a, float b) { return fmaxf(a, b); }
EMULATOR_DEVICE double min(double a, double b) { return fmin(a, b); }
EMULATOR_DEVICE double max(double a, double b) { return fmax(a, b); }

EMULATOR_DEVICE float __int_as_float(int x) { return std::bit_cast<float>(x); }
EMULATOR_DEVICE float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
EMULATOR_DEVICE int __float_as_int(float x) { return std::bit_cast<int>(x); }
EMULATOR_DEVICE unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }

EMULATOR_DEVICE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMULATOR_DEVICE double rsqrt(double x) { return 1.0 / sqrt(x); }
EMULATOR_DEVICE float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
EMULATOR_DEVICE float __frcp_rn(float x) { return 1.0f / x; }
EMULATOR_DEVICE float __fsqrt_rn(float x) { return sqrtf(x); }
EMULATOR_DEVICE float __fadd_rn(float a, float b) { return a + b; }
EMULATOR_DEVICE float __fsub_rn(float a, float b) { return a - b; }
EMULATOR_DEVICE float __fmul_rn(float a, float b) { return a * b; }
EMULATOR_DEVICE float __fdiv_rn(float a, float b) { return a / b; }
EMULATOR_DEVICE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMULATOR_DEVICE float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }  // NaN becomes 0

EMULATOR_DEVICE float __expf(float x) { return exp2f(x * 1.4426950408889634f); }
EMULATOR_DEVICE float __exp10f(float x) { return exp2f(x * 3.3219280948873622f); }
EMULATOR_DEVICE float exp10f(float x) { return static_cast<float>(pow(10.0, static_cast<double>(x))); }
EMULATOR_DEVICE float __log2f(float x) { return log2f(x); }
EMULATOR_DEVICE float __logf(float x) { return log2f(x) * 0.6931471805599453f; }
EMULATOR_DEVICE float __log10f(float x) { return log2f(x) * 0.3010299956639812f; }
EMULATOR_DEVICE float __powf(float x, float y) { return exp2f(y * log2f(x)); }
EMULATOR_DEVICE float __sinf(float x) { return sinf(x); }
EMULATOR_DEVICE float __cosf(float x) { return cosf(x); }
EMULATOR_DEVICE float __tanf(float x) { return __sinf(x) / __cosf(x); }
EMULATOR_DEVICE float __tanhf(float x) { return tanhf(x); }
EMULATOR_DEVICE void __sincosf(float x, float* sine, float* cosine) {
  *sine = __sinf(x);
  *cosine = __cosf(x);
}
// 0 where the divisor's reciprocal would be subnormal.
EMULATOR_DEVICE float __fdividef(float a, float b) {
  const float magnitude = fabsf(b);
  return magnitude > 0x1p126f && magnitude < INFINITY ? 0.0f * a : a / b;
}

// Saturates, and NaN becomes 0, as on the GPU. (A cast out of range is reported.)
EMULATOR_DEVICE int __float2int_rz(float x) {
  return x != x ? 0 : x >= 2147483648.0f ? INT_MAX : x <= -2147483648.0f ? INT_MIN : static_cast<int>(x);
}
EMULATOR_DEVICE int __float2int_rn(float x) { return __float2int_rz(rintf(x)); }
EMULATOR_DEVICE int __float2int_rd(float x) { return __float2int_rz(floorf(x)); }
EMULATOR_DEVICE int __float2int_ru(float x) { return __float2int_rz(ceilf(x)); }
EMULATOR_DEVICE unsigned __float2uint_rz(float x) {
  return !(x > 0) ? 0u : x >= 4294967296.0f ? UINT_MAX : static_cast<unsigned>(x);
}
EMULATOR_DEVICE unsigned __float2uint_rn(float x) { return __float2uint_rz(rintf(x)); }
EMULATOR_DEVICE float __int2float_rn(int x) { return static_cast<float>(x); }
EMULATOR_DEVICE float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

EMULATOR_DEVICE int __popc(unsigned x) { return std::popcount(x); }
EMULATOR_DEVICE int __popcll(unsigned long long x) { return std::popcount(x); }
EMULATOR_DEVICE int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
EMULATOR_DEVICE int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
EMULATOR_DEVICE int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
EMULATOR_DEVICE unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= (x >> i & 1u) << (31 - i);
  return r;
}
EMULATOR_DEVICE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const unsigned long long bytes = static_cast<unsigned long long>(y) << 32 | x;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned s = selector >> (4 * i) & 15u, byte = static_cast<unsigned>(bytes >> (8 * (s & 7u))) & 255u;
    r |= (s & 8u ? (byte & 128u ? 255u : 0u) : byte) << (8 * i);
  }
  return r;
}
EMULATOR_DEVICE unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
EMULATOR_DEVICE int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
EMULATOR_DEVICE unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
EMULATOR_DEVICE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31u) >> 32);
}
EMULATOR_DEVICE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31u));
}
EMULATOR_DEVICE int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) {
    const int product = static_cast<signed char>(static_cast<unsigned>(a) >> (8 * i)) *
                        static_cast<signed char>(static_cast<unsigned>(b) >> (8 * i));
    c = static_cast<int>(static_cast<unsigned>(c) + static_cast<unsigned>(product));
  }
  return c;
}
