// Frequencies of the rotary position embedding (Su et al. 2021), with the scalings of long-context models.
//
//   plain     f_i = 1 / theta^(2i/D)                                    i = 0 … D/2-1
//   linear    f_i / factor
//   llama3    by wavelength λ = 2π/f_i and original length O:  λ < O/high: f_i;  λ > O/low: f_i / factor;
//             between: t = (O/λ - low) / (high - low), (1 - t)·f_i/factor + t·f_i
//   dynamic   f_i, for documents of at most M = max_position_embeddings positions (longer ones: another theta for each length)
//   yarn      (1 - e_i)·f_i/factor + e_i·f_i; e_i falls linearly from 1 to 0 between the dimensions that turn beta_fast and
//             beta_slow times over O positions:  i(n) = D·ln(O / 2πn) / (2·ln theta)   (Peng et al. 2023)
//   longrope  f_i / short_factor_i, for documents of at most O positions (longer ones: long_factor)   (Ding et al. 2024)
//
// yarn and longrope also multiply cos and sin:
//   yarn      g(1), or g(mscale) / g(mscale_all_dim) if both are given;  g(m) = 0.1·m·ln(factor) + 1, and 1 if factor ≤ 1
//   longrope  √(1 + ln(factor) / ln(O)), and 1 if factor ≤ 1;  both: attention_factor if it is given
//
// Source: transformers, modeling_rope_utils.py; the llama3 constants are Meta's.
#pragma once

#include <cstdint>
#include <vector>

#include "src/files/config.h"

namespace tll {

// (D/2), radians per position. Computed in float in the same order as transformers does, so that angles agree at long range.
std::vector<float> rope_inverse_frequencies(const LlamaConfig& config);

// What cos and sin are multiplied by.
float rope_attention_scale(const LlamaConfig& config);

// Error (kExitUsage) if documents of so many positions have other frequencies (RopeConfig::longest).
void check_rope_length(const LlamaConfig& config, int64_t positions);

}  // namespace tll
