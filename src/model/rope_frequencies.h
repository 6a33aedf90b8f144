// Frequencies of the rotary position embedding (Su et al. 2021), with the scalings of long-context models.
//
//   plain    f_i = 1 / theta^(2i/D)                                    i = 0 … D/2-1
//   linear   f_i / factor
//   llama3   by wavelength λ = 2π/f_i and original length O:  λ < O/high: f_i;  λ > O/low: f_i / factor;
//            between: t = (O/λ - low) / (high - low), (1 - t)·f_i/factor + t·f_i
//
// Source: transformers, modeling_rope_utils.py; the llama3 constants are Meta's.
#pragma once

#include <vector>

#include "src/files/config.h"

namespace tll {

// (D/2), radians per position. Computed in float in the same order as transformers does, so that angles agree at long range.
std::vector<float> rope_inverse_frequencies(const LlamaConfig& config);

}  // namespace tll
