#include "dev/emulator/mma_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace emulator {
namespace {

// The exponent that the hardware aligns by: that of the leading bit, but at least the type's smallest normal one.
int exponent_of(float x, int smallest) { return x == 0 ? smallest : std::max(std::ilogb(x), smallest); }

float cut_to_float(double x) {  // toward zero
  const float f = static_cast<float>(x);
  return std::abs(static_cast<double>(f)) > std::abs(x) ? std::nextafter(f, 0.0f) : f;
}

}  // namespace

float mma_exact(const float* a, const float* b, float c, int inner) {
  double sum = c;
  for (int k = 0; k < inner; k++) sum += static_cast<double>(a[k]) * b[k];
  return std::isnan(sum) ? std::bit_cast<float>(0x7fffffffu) : static_cast<float>(sum);
}

MmaBlocks mma_blocks(int arch) { return arch >= 900 ? MmaBlocks{25, 16} : MmaBlocks{24, 8}; }

float mma_hardware(const float* a, const float* b, float c, int inner, int smallest_exponent, MmaBlocks blocks) {
  bool finite = std::isfinite(c);
  for (int k = 0; k < inner; k++) finite = finite && std::isfinite(a[k]) && std::isfinite(b[k]);
  if (!finite) return mma_exact(a, b, c, inner);
  for (int begin = 0; begin < inner; begin += blocks.products) {
    const int end = std::min(begin + blocks.products, inner);
    int largest = exponent_of(c, -126);
    for (int k = begin; k < end; k++)
      if (a[k] != 0 && b[k] != 0)
        largest = std::max(largest, exponent_of(a[k], smallest_exponent) + exponent_of(b[k], smallest_exponent));
    const int unit = largest - blocks.fraction;
    int64_t sum = static_cast<int64_t>(std::trunc(std::ldexp(static_cast<double>(c), -unit)));
    for (int k = begin; k < end; k++)
      sum += static_cast<int64_t>(std::trunc(std::ldexp(static_cast<double>(a[k]) * b[k], -unit)));
    c = cut_to_float(std::ldexp(static_cast<double>(sum), unit));
  }
  return c;
}

}  // namespace emulator
