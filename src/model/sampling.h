// How the next token is chosen from a row of logits.
//
// The steps are those of transformers' generate(), in its order (generation/logits_process.py):
//
//   repeat_penalty p   logit x of an id that the text has already: x / p if x > 0, else x · p        (Keskar et al. 2019, CTRL)
//   temperature T      w_i = exp((x_i - max x) / T); T = 0: the largest logit (greedy), of equal ones the lowest id
//   top_k              ids whose logit is at least the k-th largest
//   top_p              of these the fewest most likely ones whose probabilities add up to top_p    (Holtzman et al. 2019)
//   min_p              of these the ones with w_i at least min_p · w_max                           (Nguyen et al. 2024)
//
// and the id is drawn with probabilities in proportion to the w_i that are left.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tll {

struct SamplingOptions {
  double temperature = 0;
  uint64_t seed = 42;
  std::vector<int32_t> eos = {};  // ids that end a sequence
  int vocab_size = 0;             // of the tokenizer: only ids below it are chosen (some models pad theirs); 0: all
  int64_t top_k = 0;              // 0: all
  double top_p = 1, min_p = 0;    // 1, 0: all
  double repeat_penalty = 1;      // 1: none
};

// A number in [0, 1) that depends only on these three, so a sample does not depend on the other sequences.
double sampling_uniform(uint64_t seed, uint64_t request, uint64_t token);

// The id drawn by `uniform` in [0, 1). `text`: the ids so far, of which only those that are repeated matter. Error (kExitFault)
// if a logit is NaN or the largest is infinite: the weights are broken.
template <class Acc>
int32_t sample_token(std::span<const Acc> logits, const SamplingOptions& options, double uniform,
                     std::span<const int32_t> text = {});

}  // namespace tll
