// Conversions against their definition, over all 65536 patterns and every tie; the fast exponential against the exact one.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/device.h"
#include "kernels/numeric.h"

namespace tll {
namespace {

// IEEE 754's definition, in arithmetic instead of bits: sign · 2^(e-bias) · 1.m, or 2^(1-bias) · 0.m where e = 0.
double value_of(uint16_t bits, int mantissa_bits, int bias) {
  const int exponent_bits = 15 - mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  return sign * (exponent ? std::ldexp(1 + fraction, exponent - bias) : std::ldexp(fraction, 1 - bias));
}

struct Bf16 {
  using Type = bf16;
  static constexpr int kMantissa = 7, kBias = 127;
  static bf16 round(float x) { return round_to_bf16(x); }
};
struct Half {
  using Type = half;
  static constexpr int kMantissa = 10, kBias = 15;
  static half round(float x) { return round_to_half(x); }
};

template <class Format>
class Conversion : public testing::Test {
 public:
  static constexpr uint16_t kInfinity = 0x7fff & ~((1 << Format::kMantissa) - 1);
};
using Formats = testing::Types<Bf16, Half>;
TYPED_TEST_SUITE(Conversion, Formats);

TYPED_TEST(Conversion, EveryPatternHasItsValueAndComesBack) {
  for (int bits = 0; bits < 0x10000; bits++) {
    const typename TypeParam::Type narrow{static_cast<uint16_t>(bits)};
    const float wide = to_acc(narrow);
    const double exact = value_of(narrow.bits, TypeParam::kMantissa, TypeParam::kBias);
    if (std::isnan(exact)) {
      ASSERT_TRUE(std::isnan(wide)) << bits;
      ASSERT_TRUE(std::isnan(to_acc(TypeParam::round(wide)))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(wide), exact) << bits;
    ASSERT_EQ(std::signbit(wide), bits >= 0x8000) << bits;
    ASSERT_EQ(TypeParam::round(wide).bits, bits);
  }
}

// Between each two neighbours lies a tie, which is exact in float: it goes to the even one, and a hair to either side decides.
TYPED_TEST(Conversion, RoundsToNearestTiesToEven) {
  for (uint16_t low = 0; low < TestFixture::kInfinity; low++) {
    const uint16_t high = low + 1;
    const double below = value_of(low, TypeParam::kMantissa, TypeParam::kBias);
    const double above = high == TestFixture::kInfinity  // infinity stands where the next number would be
                             ? 2 * below - value_of(low - 1, TypeParam::kMantissa, TypeParam::kBias)
                             : value_of(high, TypeParam::kMantissa, TypeParam::kBias);
    const float tie = static_cast<float>((below + above) / 2);
    ASSERT_EQ(static_cast<double>(tie), (below + above) / 2);
    for (float sign : {1.0f, -1.0f}) {
      const uint16_t s = sign < 0 ? 0x8000 : 0;
      ASSERT_EQ(TypeParam::round(sign * tie).bits, s | (low % 2 ? high : low)) << low;
      ASSERT_EQ(TypeParam::round(sign * std::nextafter(tie, 0.0f)).bits, s | low) << low;
      ASSERT_EQ(TypeParam::round(sign * std::nextafter(tie, INFINITY)).bits, s | high) << low;
    }
  }
}

TYPED_TEST(Conversion, SpecialValues) {
  constexpr float kMost = std::numeric_limits<float>::max();
  const float quiet = std::bit_cast<float>(0x7f800001u);  // a NaN whose mantissa lies only in the bits that are cut off
  EXPECT_EQ(TypeParam::round(INFINITY).bits, TestFixture::kInfinity);
  EXPECT_EQ(TypeParam::round(-INFINITY).bits, TestFixture::kInfinity | 0x8000);
  EXPECT_EQ(TypeParam::round(kMost).bits, TestFixture::kInfinity);
  EXPECT_EQ(TypeParam::round(-0.0f).bits, 0x8000);
  EXPECT_TRUE(std::isnan(to_acc(TypeParam::round(quiet))));
  EXPECT_TRUE(std::isnan(to_acc(TypeParam::round(-quiet))));
}

TEST(FastExp, WithinTwoUlpOfTheExactExponential) {
  double worst = 0;
  float at = 0;
  const auto visit = [&](float x) {
    const double exact = std::exp(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    const double error = std::abs(static_cast<double>(fast_exp(x)) - exact) / ulp;
    if (!(error <= worst)) worst = error, at = x;
  };
  constexpr uint32_t kEvery = 211;  // of the floats between 0 and the ends
  for (uint32_t bits = 0; bits <= std::bit_cast<uint32_t>(88.37f); bits += kEvery) visit(std::bit_cast<float>(bits));
  for (uint32_t bits = 0x80000000u; bits <= std::bit_cast<uint32_t>(-87.3f); bits += kEvery) visit(std::bit_cast<float>(bits));
  // Around the multiples of ln 2 / 2, where the reduction changes its integer.
  for (int n = -251; n <= 254; n++) {
    float x = static_cast<float>(n * 0.34657359027997264);
    for (int i = 0; i < 50; i++) x = std::nextafter(x, -INFINITY);
    for (int i = 0; i < 100; i++) visit(x), x = std::nextafter(x, INFINITY);
  }
  RecordProperty("worst_ulp", fmt::format("{}", worst));
  EXPECT_LE(worst, 2.0) << "at " << at;
}

TEST(FastExp, SpecialValues) {
  EXPECT_EQ(fast_exp(0.0f), 1.0f);
  EXPECT_EQ(fast_exp(-0.0f), 1.0f);
  EXPECT_EQ(fast_exp(-INFINITY), 0.0f);  // a masked score
  EXPECT_EQ(fast_exp(-1e30f), 0.0f);
  EXPECT_EQ(fast_exp(std::nextafter(-87.3f, -INFINITY)), 0.0f);
  EXPECT_GT(fast_exp(-87.3f), 0.0f);
  EXPECT_TRUE(std::isnan(fast_exp(NAN)));
  EXPECT_TRUE(std::isnan(fast_exp(-NAN)));
  // Beyond its largest argument it stays where it is: finite, so that 1 / (1 + e^x) is 0 and not NaN.
  EXPECT_EQ(fast_exp(INFINITY), fast_exp(88.37f));
  EXPECT_EQ(fast_exp(1e30f), fast_exp(88.37f));
  EXPECT_NEAR(fast_exp(88.37f) / std::exp(static_cast<double>(88.37f)), 1, 1e-6);
}

TEST(DTypes, SizesAndNames) {
  EXPECT_EQ(dtype_bytes(DType::f32), sizeof(float));
  EXPECT_EQ(dtype_bytes(DType::bf16), sizeof(bf16));
  EXPECT_EQ(dtype_bytes(DType::f16), sizeof(half));
  EXPECT_EQ(dtype_bytes(DType::f64), sizeof(double));
  EXPECT_EQ(dtype_bytes(DType::c128), sizeof(complex));
  EXPECT_EQ(dtype_bytes(DType::i32), sizeof(int32_t));
  EXPECT_EQ(dtype_bytes(DType::u8), sizeof(uint8_t));
  EXPECT_STREQ(dtype_name(DType::bf16), "bf16");
  EXPECT_STREQ(dtype_name(DType::u8), "uint8");
}

}  // namespace
}  // namespace tll
