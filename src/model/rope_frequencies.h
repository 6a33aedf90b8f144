// Frequencies of the rotary position embedding (Su et al. 2021), with the scalings of long-context models.
//
//   plain     f_i = 1 / theta^(2i/D)                                    i = 0 … D/2-1, D = LlamaConfig::rotary_dim()
//   linear    f_i / factor
//   llama3    by wavelength λ = 2π/f_i and original length O:  λ < O/high: f_i;  λ > O/low: f_i / factor;
//             between: t = (O/λ - low) / (high - low), (1 - t)·f_i/factor + t·f_i
//   dynamic   f_i, for documents of at most M = max_position_embeddings positions (longer ones: another theta for each length)
//   yarn      (1 - e_i)·f_i/factor + e_i·f_i; e_i falls linearly from 1 to 0 between the dimensions that turn beta_fast and
//             beta_slow times over O positions:  i(n) = D·ln(O / 2πn) / (2·ln theta)   (Peng et al. 2023)
//   longrope  f_i / short_factor_i in documents of at most O positions, f_i / long_factor_i in longer ones   (Ding et al. 2024)
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
// `longer`: those of longrope's longer documents.
std::vector<float> rope_inverse_frequencies(const LlamaConfig& config, bool longer = false);

// The rows of the table of cos and sin. With longrope, where documents may have more than O positions, there are O rows for the
// others, and behind them one a position for the longer ones. So position p of a document is row first_row(length) + p.
// transformers decides by the longest document of a batch; here each document counts by itself, so that packing changes nothing.
struct RopeRows {
  int switch_at = 0;  // O; 0: all documents use the same rows
  int all = 0;
  // Tokens of a sequence that has just become one of the longer ones; 0: none does.
  int length_after_switch() const { return switch_at > 0 ? switch_at + 1 : 0; }
  int first_row(int length) const { return switch_at > 0 && length > switch_at ? switch_at : 0; }
};
RopeRows rope_rows(const LlamaConfig& config, int max_positions);

// What cos and sin are multiplied by.
float rope_attention_scale(const LlamaConfig& config);

// Error (kExitUsage) if documents of so many positions have other frequencies (RopeConfig::longest).
void check_rope_length(const LlamaConfig& config, int64_t positions);

}  // namespace tll
