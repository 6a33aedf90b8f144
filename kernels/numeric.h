// Number types. `Float` is the storage type of an op; acc_t<Float> is the type that it computes in.
//
//   float, bf16         training; computed in float
//   half                the same, on CUDA only
//   double, complex     the test oracle: the same formulas in double, and in complex for complex-step derivatives
//
// Everything here has internal linkage. Kernels are compiled once per instruction set. If those objects shared a function, the
// linker could keep a copy with instructions that the running processor lacks.
#pragma once

#include <bit>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#define TLL_INLINE static inline __attribute__((always_inline))
#ifdef __CUDACC__
#define TLL_HOST_DEVICE __host__ __device__
#else
#define TLL_HOST_DEVICE
#endif

namespace tll {

using complex = std::complex<double>;

struct bf16 {
  uint16_t bits;
};  // sign 1, exponent 8, mantissa 7: the upper 16 bits of a float
struct half {
  uint16_t bits;
};  // IEEE 754 binary16

enum class DType : uint8_t { f32, bf16, f16, f64, c128, i32, u8 };

template <class T>
constexpr DType find_dtype() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  if constexpr (std::is_same_v<T, bf16>) return DType::bf16;
  if constexpr (std::is_same_v<T, half>) return DType::f16;
  if constexpr (std::is_same_v<T, double>) return DType::f64;
  if constexpr (std::is_same_v<T, complex>) return DType::c128;
  if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
}
template <class T>
inline constexpr DType dtype_of = find_dtype<T>();  // of another type: does not compile

TLL_INLINE size_t dtype_bytes(DType t) {
  constexpr size_t bytes[] = {4, 2, 2, 8, 16, 4, 1};
  return bytes[static_cast<int>(t)];
}
TLL_INLINE const char* dtype_name(DType t) {
  constexpr const char* names[] = {"fp32", "bf16", "fp16", "fp64", "complex128", "int32", "uint8"};
  return names[static_cast<int>(t)];
}

// Oracle types: plain loops, base instruction set.
template <class Float>
inline constexpr bool is_oracle = std::is_same_v<Float, double> || std::is_same_v<Float, complex>;

// Ops of this type have a cpu().
template <class Float>
inline constexpr bool has_cpu = !std::is_same_v<Float, half>;

template <class Float>
using acc_t = std::conditional_t<is_oracle<Float>, Float, float>;

// ---- conversions: round to nearest, ties to even ------------------------------------------------------------------------------

TLL_INLINE float to_acc(float x) { return x; }
TLL_INLINE double to_acc(double x) { return x; }
TLL_INLINE complex to_acc(complex x) { return x; }
TLL_INLINE float to_acc(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

TLL_INLINE float to_acc(half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  // Multiplying by 2^112 corrects the exponent's bias. It also normalises subnormals, without a branch.
  const float scaled = std::bit_cast<float>(rest << 13) * 0x1p112f;
  const uint32_t special = rest >= 0x7c00u ? (0x7f800000u | (rest << 13)) : std::bit_cast<uint32_t>(scaled);
  return std::bit_cast<float>(sign | special);
}

TLL_INLINE bf16 round_to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const uint32_t quiet = (u >> 16) | 0x40u;  // a NaN stays a NaN
  return bf16{static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded)};
}
TLL_INLINE half round_to_half(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u, abs = u & 0x7fffffffu;
  if (abs > 0x7f800000u) return half{static_cast<uint16_t>(sign | 0x7e00u)};
  if (abs >= 0x477ff000u) return half{static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and above round to infinity
  if (abs < 0x38800000u) {  // below 2^-14: adding 0.5 makes the float adder round at the subnormal's last bit
    const float shifted = std::bit_cast<float>(abs) + 0.5f;
    return half{static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
  }
  const uint32_t rebased = abs - 0x38000000u;
  return half{static_cast<uint16_t>(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13))};
}
template <class To>
TLL_INLINE To from_acc(acc_t<To> x) {
  if constexpr (dtype_of<To> == DType::bf16) {
    return round_to_bf16(x);
  } else if constexpr (dtype_of<To> == DType::f16) {
    return round_to_half(x);
  } else {
    return x;
  }
}

// ---- functions ----------------------------------------------------------------------------------------------------------------

TLL_INLINE double real_part(complex x) { return x.real(); }
template <class T>
TLL_INLINE T real_part(T x) {
  return x;
}

// e^x in float, within 2 ulp. 0 below -87.3; e^88.37 above 88.37, so never infinity; NaN for NaN. Branch-free, so that loops over
// it vectorise: Cody-Waite range reduction by ln 2 in two parts, then the polynomial of Cephes' expf (degree 7).
TLL_INLINE float fast_exp(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer, which is then in the low mantissa bits
  const float clamped = x > 88.37f ? 88.37f : (x < -87.3f ? -87.3f : x);
  const float shifted = clamped * 1.44269504088896341f + kMagic;
  const float n = shifted - kMagic;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = (p * r) * r + r + 1.0f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  const float result = std::bit_cast<float>(std::bit_cast<uint32_t>(e) + exponent);
  return x < -87.3f ? 0.0f : (x != x ? x : result);
}
TLL_INLINE float exp_acc(float x) { return fast_exp(x); }
TLL_INLINE double exp_acc(double x) { return std::exp(x); }
TLL_INLINE complex exp_acc(complex x) { return std::exp(x); }

}  // namespace tll
