#include "src/model/rope_frequencies.h"

#include <cmath>
#include <numbers>

namespace tll {
namespace {

float llama3_scaled(float f, const RopeConfig& rope) {
  const double original = rope.original_max;
  const float wavelength = 1 / f * static_cast<float>(2 * std::numbers::pi);  // torch divides a number by a tensor in this way
  const float factor = static_cast<float>(rope.factor);
  if (wavelength < static_cast<float>(original / rope.high)) return f;
  if (wavelength > static_cast<float>(original / rope.low)) return f / factor;
  const float periods = 1 / wavelength * static_cast<float>(original);
  const float t = (periods - static_cast<float>(rope.low)) / static_cast<float>(rope.high - rope.low);
  return (1 - t) * f / factor + t * f;
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const LlamaConfig& config) {
  const RopeConfig& rope = config.rope;
  std::vector<float> frequencies(static_cast<size_t>(config.head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); i++) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    const float f = 1 / std::pow(static_cast<float>(rope.theta), exponent);
    switch (rope.type) {
      case RopeType::plain:
        frequencies[i] = f;
        break;
      case RopeType::linear:
        frequencies[i] = f / static_cast<float>(rope.factor);
        break;
      case RopeType::llama3:
        frequencies[i] = llama3_scaled(f, rope);
        break;
    }
  }
  return frequencies;
}

}  // namespace tll
