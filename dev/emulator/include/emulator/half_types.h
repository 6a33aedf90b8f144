// What __half and __nv_bfloat16 have in common.
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

// __half and __nv_bfloat16: 16 bits and the conversions from and to float.
template <uint16_t (*kFromFloat)(float), float (*kToFloat)(uint16_t)>
struct Float16 {
  unsigned short __x;
  Float16() = default;
  constexpr explicit Float16(float x) : __x(kFromFloat(x)) {}
  constexpr operator float() const { return kToFloat(__x); }
};

}  // namespace emulator
