#include "src/model/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "src/base/check.h"

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

// transformers divides by factor · theta^(2i/D), and not the quotient by the factor. `i` counts pairs.
float yarn_scaled(float power, size_t i, const LlamaConfig& config) {
  const RopeConfig& rope = config.rope;
  const auto dimension = [&](double turns) {
    return config.rotary_dim() * std::log(rope.original_max / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double first = dimension(rope.beta_fast), last = dimension(rope.beta_slow);
  if (rope.truncate) first = std::floor(first), last = std::ceil(last);
  first = std::max(first, 0.0), last = std::min(last, config.rotary_dim() - 1.0);
  if (first == last) last += 0.001;
  const float position = (static_cast<float>(i) - static_cast<float>(first)) / static_cast<float>(last - first);
  const float kept = 1 - std::clamp(position, 0.0f, 1.0f);
  return 1 / (static_cast<float>(rope.factor) * power) * (1 - kept) + 1 / power * kept;
}

// Up to max_positions its length has no effect: the base of the power is 1 but for rounding.
double dynamic_theta(const LlamaConfig& config) {
  const double factor = config.rope.factor, longest = config.max_positions, dim = config.rotary_dim();
  return config.rope.theta * std::pow(factor * longest / longest - (factor - 1), dim / (dim - 2));
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const LlamaConfig& config, bool longer) {
  const RopeConfig& rope = config.rope;
  const double theta = rope.type == RopeType::dynamic ? dynamic_theta(config) : rope.theta;
  std::vector<float> frequencies(static_cast<size_t>(config.rotary_dim() / 2));
  for (size_t i = 0; i < frequencies.size(); i++) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rotary_dim());
    const float power = std::pow(static_cast<float>(theta), exponent), f = 1 / power;
    switch (rope.type) {
      case RopeType::plain:
      case RopeType::dynamic:
        frequencies[i] = f;
        break;
      case RopeType::linear:
        frequencies[i] = f / static_cast<float>(rope.factor);
        break;
      case RopeType::llama3:
        frequencies[i] = llama3_scaled(f, rope);
        break;
      case RopeType::yarn:
        frequencies[i] = yarn_scaled(power, i, config);
        break;
      case RopeType::longrope:
        frequencies[i] = 1 / (static_cast<float>((longer ? rope.long_factor : rope.short_factor)[i]) * power);
        break;
    }
  }
  return frequencies;
}

RopeRows rope_rows(const LlamaConfig& config, int max_positions) {
  const int original = config.rope.original_max;
  if (config.rope.type != RopeType::longrope || max_positions <= original) return {.all = max_positions};
  return {.switch_at = original, .all = original + max_positions};
}

float rope_attention_scale(const LlamaConfig& config) {
  const RopeConfig& rope = config.rope;
  if (rope.type != RopeType::yarn && rope.type != RopeType::longrope) return 1;
  if (rope.attention_factor) return static_cast<float>(*rope.attention_factor);
  if (rope.factor <= 1) return 1;
  if (rope.type == RopeType::longrope)
    return static_cast<float>(std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_max)));
  const auto g = [&](double m) { return 0.1 * m * std::log(rope.factor) + 1; };
  return static_cast<float>(rope.mscale > 0 && rope.mscale_all_dim > 0 ? g(rope.mscale) / g(rope.mscale_all_dim) : g(1));
}

void check_rope_length(const LlamaConfig& config, int64_t positions) {
  const RopeConfig& rope = config.rope;
  if (rope.longest > 0 && positions > rope.longest)
    fail(kExitUsage,
         "the model's rope type \"{}\" has other frequencies for documents of more than {} tokens, which are not implemented, "
         "and {} "
         "are asked for; lower --seq-len to {}",
         rope_type_name(rope.type), rope.longest, positions, rope.longest);
}

}  // namespace tll
