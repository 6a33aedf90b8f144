#include "src/model/sampling.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "src/base/check.h"

namespace tll {
namespace {

// A candidate and its weight, exp((x - max) / T).
struct Candidate {
  double weight;
  int32_t id;
};

// The largest, of equal ones the first.
template <class Acc>
size_t largest(std::span<const Acc> logits) {
  Acc top = logits[0];
  size_t best = 0;
  for (size_t i = 1; i < logits.size() && !std::isnan(top); i++)
    if (!(logits[i] <= top)) top = logits[i], best = i;
  if (!std::isfinite(top)) fail(kExitFault, "the model says {} for token {}: its weights or the adapter are broken", top, best);
  return best;
}

// The most likely first; equally likely ones stay in the order of ids, so that a draw does not depend on the sort.
bool more_likely(const Candidate& a, const Candidate& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; }

double total_weight(std::span<const Candidate> all) {
  double total = 0;
  for (const Candidate& c : all) total += c.weight;
  return total;
}

void keep_top_k(std::vector<Candidate>& all, int64_t k) {
  if (k <= 0 || static_cast<size_t>(k) >= all.size()) return;
  const auto kth = all.begin() + k - 1;
  std::nth_element(all.begin(), kth, all.end(), more_likely);
  const double least = kth->weight;
  std::erase_if(all, [&](const Candidate& c) { return c.weight < least; });  // ties with the k-th stay
}

void keep_top_p(std::vector<Candidate>& all, double p) {
  if (p >= 1) return;
  std::sort(all.begin(), all.end(), more_likely);
  const double enough = p * total_weight(all);
  double sum = 0;
  size_t kept = 0;
  while (kept < all.size() && sum < enough) sum += all[kept++].weight;
  all.resize(std::max<size_t>(kept, 1));
}

template <class Acc>
int32_t draw(std::span<const Acc> logits, const SamplingOptions& options, double uniform) {
  const size_t best = largest(logits);
  if (options.temperature == 0) return static_cast<int32_t>(best);
  const Acc top = logits[best];
  std::vector<Candidate> all(logits.size());
  for (size_t i = 0; i < logits.size(); i++) {
    // The case x == top avoids 0 / 0 at a denormal temperature.
    const Acc x = logits[i];
    all[i] = {x == top ? 1.0 : std::exp((static_cast<double>(x) - top) / options.temperature), static_cast<int32_t>(i)};
  }
  keep_top_k(all, options.top_k);
  keep_top_p(all, options.top_p);
  std::erase_if(all, [&](const Candidate& c) { return c.weight < options.min_p; });  // the largest weight is 1
  double left = uniform * total_weight(all);
  for (const Candidate& c : all) {
    left -= c.weight;
    if (left < 0) return c.id;
  }
  return static_cast<int32_t>(best);  // rounding left a remainder after the last id
}

}  // namespace

double sampling_uniform(uint64_t seed, uint64_t request, uint64_t token) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;
  uint64_t word = mix64(seed + kGolden);
  for (const uint64_t part : {request, token}) word = mix64(word + (part + 1) * kGolden);
  return static_cast<double>(word >> 11) * 0x1p-53;
}

template <class Acc>
int32_t sample_token(std::span<const Acc> logits, const SamplingOptions& options, double uniform, std::span<const int32_t> text) {
  if (options.repeat_penalty == 1) return draw(logits, options, uniform);
  std::vector<int32_t> seen(text.begin(), text.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  std::vector<Acc> changed(logits.begin(), logits.end());
  for (const int32_t id : seen) {
    if (static_cast<size_t>(id) >= changed.size()) continue;
    Acc& x = changed[static_cast<size_t>(id)];
    x = static_cast<Acc>(x < 0 ? x * options.repeat_penalty : x / options.repeat_penalty);
  }
  return draw(std::span<const Acc>(changed), options, uniform);
}

template int32_t sample_token(std::span<const float>, const SamplingOptions&, double, std::span<const int32_t>);
template int32_t sample_token(std::span<const double>, const SamplingOptions&, double, std::span<const int32_t>);

}  // namespace tll
