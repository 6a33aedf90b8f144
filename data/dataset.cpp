// The data set in memory, and its report.
#include "data/dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <numeric>

#include "data/prompt.h"
#include "src/base/check.h"

namespace tll {

int64_t PrepareReport::refused_total() const {
  return std::accumulate(refused.begin(), refused.end(), int64_t(0), [](int64_t sum, const auto& r) { return sum + r.second; });
}

Json PrepareReport::json() const {
  return {{"samples", samples},
          {"tokens", tokens},
          {"target_tokens", target_tokens},
          {"train_samples", train_samples},
          {"validation_samples", validation_samples},
          {"truncated", truncated},
          {"refused", refused_total()},
          {"refused_by_reason", refused},
          {"unanswerable_left_out", unanswerable_left_out},
          {"unanswerable_trained", unanswerable_trained},
          {"empty", empty},
          {"offset_mismatches", offset_mismatches}};
}

std::vector<std::string> PrepareReport::notes() const {
  std::vector<std::string> out;
  const auto note = [&]<class... Args>(fmt::format_string<Args...> format, Args&&... args) {
    out.push_back(fmt::format(format, std::forward<Args>(args)...));
  };
  if (unanswerable_left_out) note("{} unanswerable questions left out (--unanswerable train keeps them)", unanswerable_left_out);
  if (unanswerable_trained) note("{} unanswerable questions trained as \"{}\"", unanswerable_trained, kNoAnswer);
  if (truncated) note("{} samples shortened to --seq-len", truncated);
  for (const auto& [reason, count] : refused) note("{} samples refused: {}", count, reason);
  if (empty) note("{} samples kept that train nothing", empty);
  if (offset_mismatches) note("{} answers are not where their answer_start says", offset_mismatches);
  return out;
}

std::string PrepareReport::text() const {
  std::string out = fmt::format("{} samples ({} train, {} validation), {} tokens, {} of them trained\n", samples, train_samples,
                                validation_samples, tokens, target_tokens);
  for (const std::string& line : notes()) out += line + "\n";
  return out;
}

int32_t count_targets(std::span<const int32_t> labels) {
  if (labels.empty()) return 0;
  return int32_t(labels.size() - 1) - int32_t(std::count(labels.begin() + 1, labels.end(), kNotTrained));
}

int64_t Dataset::count(Split split) const {
  return std::count_if(documents.begin(), documents.end(), [&](const Document& d) { return d.split == split; });
}

uint64_t Dataset::content_hash() const {
  uint64_t hash = XXH3_64bits(tokens.data(), tokens.size() * sizeof(int32_t));
  hash = XXH3_64bits_withSeed(labels.data(), labels.size() * sizeof(int32_t), hash);
  for (const Document& d : documents) {
    const uint64_t shape[2] = {uint64_t(d.length), uint64_t(d.split)};
    hash = XXH3_64bits_withSeed(shape, sizeof shape, hash);
  }
  return hash;
}

}  // namespace tll
