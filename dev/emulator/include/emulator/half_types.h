// What __half and __nv_bfloat16 have in common. An operation is computed in float, exactly or correctly rounded, and then rounded
// to the type. A fused operation rounds only once, because its sum is first rounded to odd.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "emulator/types.h"

namespace emulator {

// Nearest, ties to even; every NaN becomes 0x7FFF, as on the GPU.
constexpr uint16_t bf16_from_float(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
constexpr float bf16_to_float(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

constexpr uint16_t f16_from_float(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  // The bits to drop: 13, and one more for every power of two below 2^-14.
  const int exponent = static_cast<int>(magnitude >> 23), drop = exponent >= 113 ? 13 : 126 - exponent;
  if (drop > 24) return static_cast<uint16_t>(sign);
  const uint32_t kept = exponent >= 113 ? magnitude - (112u << 23) : (magnitude & 0x7fffffu) | 0x800000u;
  return static_cast<uint16_t>(sign | ((kept + (1u << (drop - 1)) - 1 + ((kept >> drop) & 1u)) >> drop));
}
constexpr float f16_to_float(uint16_t x) {
  const uint32_t exponent = (x >> 10) & 31u, fraction = x & 0x3ffu;
  const float sign = x & 0x8000u ? -1.0f : 1.0f;
  if (exponent == 31) return std::bit_cast<float>((x & 0x8000u) << 16 | 0x7f800000u | fraction << 13);
  if (exponent == 0) return sign * static_cast<float>(fraction) * 0x1p-24f;
  return std::bit_cast<float>((x & 0x8000u) << 16 | (exponent + 112u) << 23 | fraction << 13);
}

// a·b + c, rounded to odd: the product is exact in double, the sum is truncated to float, and its last bit is set if anything was
// lost. Rounding the result to 16 bits then gives the correctly rounded sum.
inline float fma_to_odd(float a, float b, float c) {
  const double product = static_cast<double>(a) * b, sum = product + c;
  const double lost = std::abs(product) > std::abs(c) ? c - (sum - product) : product - (sum - c);
  float cut = static_cast<float>(sum);
  if (!std::isfinite(sum) || (static_cast<double>(cut) == sum && lost == 0)) return cut;
  const double error = (sum - cut) + lost;
  if (error != 0 && std::signbit(error) != std::signbit(cut)) cut = std::nextafter(cut, 0.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(cut) | 1u);
}

}  // namespace emulator

#define EMULATOR_HALF_FUNCTION(T, T2, name, expression)   \
  EMULATOR_DEVICE T name(T a, T b) { return expression; } \
  EMULATOR_DEVICE T2 name##2(T2 a, T2 b) { return {name(a.x, b.x), name(a.y, b.y)}; }

#define EMULATOR_HALF_ARITHMETIC(T, T2, name, op)                                                       \
  EMULATOR_DEVICE T operator op(T a, T b) { return T(static_cast<float>(a) op static_cast<float>(b)); } \
  EMULATOR_DEVICE T2 operator op(T2 a, T2 b) { return {a.x op b.x, a.y op b.y}; }                       \
  EMULATOR_DEVICE T& operator op##=(T& a, T b) { return a = a op b; }                                   \
  EMULATOR_DEVICE T2& operator op##=(T2& a, T2 b) { return a = a op b; }                                \
  EMULATOR_HALF_FUNCTION(T, T2, name, a op b)

#define EMULATOR_HALF_COMPARISON(T, name, op)                                                           \
  EMULATOR_DEVICE bool operator op(T a, T b) { return static_cast<float>(a) op static_cast<float>(b); } \
  EMULATOR_DEVICE bool name(T a, T b) { return a op b; }

#define EMULATOR_HALF_TYPE(T, T2, Raw, format)                                                            \
  struct Raw {                                                                                            \
    unsigned short x;                                                                                     \
  };                                                                                                      \
  struct T {                                                                                              \
    unsigned short __x;                                                                                   \
    T() = default;                                                                                        \
    constexpr T(Raw raw) : __x(raw.x) {}                                                                  \
    constexpr T(float x) : __x(::emulator::format##_from_float(x)) {}                                     \
    constexpr T(double x) : T(static_cast<float>(x)) {}                                                   \
    constexpr T(int x) : T(static_cast<float>(x)) {}                                                      \
    constexpr operator Raw() const { return {__x}; }                                                      \
    constexpr operator float() const { return ::emulator::format##_to_float(__x); }                       \
  };                                                                                                      \
  struct alignas(4) T2 {                                                                                  \
    T x, y;                                                                                               \
    T2() = default;                                                                                       \
    constexpr T2(T low, T high) : x(low), y(high) {}                                                      \
  };                                                                                                      \
  EMULATOR_HALF_ARITHMETIC(T, T2, __hadd, +)                                                              \
  EMULATOR_HALF_ARITHMETIC(T, T2, __hsub, -)                                                              \
  EMULATOR_HALF_ARITHMETIC(T, T2, __hmul, *)                                                              \
  EMULATOR_HALF_COMPARISON(T, __heq, ==)                                                                  \
  EMULATOR_HALF_COMPARISON(T, __hne, !=)                                                                  \
  EMULATOR_HALF_COMPARISON(T, __hlt, <)                                                                   \
  EMULATOR_HALF_COMPARISON(T, __hle, <=)                                                                  \
  EMULATOR_HALF_COMPARISON(T, __hgt, >)                                                                   \
  EMULATOR_HALF_COMPARISON(T, __hge, >=)                                                                  \
  EMULATOR_HALF_FUNCTION(T, T2, __hmax, T(fmaxf(a, b)))                                                   \
  EMULATOR_HALF_FUNCTION(T, T2, __hmin, T(fminf(a, b)))                                                   \
  EMULATOR_DEVICE T operator/(T a, T b) { return T(static_cast<float>(a) / static_cast<float>(b)); }      \
  EMULATOR_DEVICE T __hdiv(T a, T b) { return a / b; }                                                    \
  EMULATOR_DEVICE T operator-(T a) { return Raw{static_cast<unsigned short>(a.__x ^ 0x8000u)}; }          \
  EMULATOR_DEVICE T __hneg(T a) { return -a; }                                                            \
  EMULATOR_DEVICE T2 __hneg2(T2 a) { return {-a.x, -a.y}; }                                               \
  EMULATOR_DEVICE T __habs(T a) { return Raw{static_cast<unsigned short>(a.__x & 0x7fffu)}; }             \
  EMULATOR_DEVICE T2 __habs2(T2 a) { return {__habs(a.x), __habs(a.y)}; }                                 \
  EMULATOR_DEVICE bool __hisnan(T a) { return std::isnan(static_cast<float>(a)); }                        \
  EMULATOR_DEVICE T __hfma(T a, T b, T c) { return T(::emulator::fma_to_odd(a, b, c)); }                  \
  EMULATOR_DEVICE T2 __hfma2(T2 a, T2 b, T2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
  EMULATOR_DEVICE T __hadd_rn(T a, T b) { return a + b; }                                                 \
  EMULATOR_DEVICE T __hmul_rn(T a, T b) { return a * b; }                                                 \
  EMULATOR_DEVICE T2 __hadd2_rn(T2 a, T2 b) { return a + b; }                                             \
  EMULATOR_DEVICE T2 __hmul2_rn(T2 a, T2 b) { return a * b; }                                             \
  EMULATOR_DEVICE float __low2float(T2 a) { return a.x; }                                                 \
  EMULATOR_DEVICE float __high2float(T2 a) { return a.y; }                                                \
  EMULATOR_DEVICE T2 __lowhigh2highlow(T2 a) { return {a.y, a.x}; }
