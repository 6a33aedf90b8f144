// What a run did so far, in bounded memory: the steps, means over `interval()` of them each, and the evaluations.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"
#include "src/report/progress.h"
#include "src/report/step_metrics.h"

namespace tll {

// Steps `step` - interval + 1 ... `step`, or as many of them as were done. Of numbers that are not finite nothing is kept.
struct HistoryEntry {
  int64_t step = 0;
  int64_t losses = 0;  // finite ones
  double loss = 0;     // their mean; NaN where there is none
  double least = std::numeric_limits<double>::infinity(), most = -std::numeric_limits<double>::infinity();
  double smoothed = 0;           // over the whole run so far; NaN before the first finite loss
  double grad_norm = 0, lr = 0;  // of the last step
  int64_t tokens = 0, target_tokens = 0;
  double seconds = 0;
};
struct HistoryTotals {
  int64_t tokens = 0, target_tokens = 0;
  double seconds = 0;
};
struct HistoryEvaluation {
  int64_t step = 0;  // 0: before the first step
  double loss = 0;
};
struct HistorySample {
  int64_t step = 0;
  std::string text;
};

class RunHistory {
 public:
  static constexpr int64_t kMostEntries = 8192;
  static constexpr size_t kMostSamples = 16, kLongestSample = 8192;  // bytes

  // Takes the memory that steps need.
  explicit RunHistory(int64_t total_steps);

  // In the order of their steps. No allocation, except by a sample.
  void step(const StepMetrics&);
  void evaluation(int64_t step, double loss);        // of an interval the last one stays
  void sample(int64_t step, std::string_view text);  // the first one stays, and the newest
  // A line of metrics.jsonl, whichever it is of the three.
  void line(const Json& object);

  // 1 up to kMostEntries steps, then the power of two with which no more entries are needed.
  int64_t interval() const { return interval_; }
  std::span<const HistoryEntry> entries() const { return entries_; }
  std::span<const HistoryEvaluation> evaluations() const { return evaluations_; }
  const std::deque<HistorySample>& samples() const { return samples_; }
  std::optional<HistoryEvaluation> best() const { return best_; }  // the first with the lowest loss
  HistoryTotals totals() const;
  int64_t steps() const { return entries_.empty() ? 0 : entries_.back().step; }
  int64_t smoothing() const { return smoothing_; }  // steps that the smoothed loss is an average over (src/report/progress.h)

 private:
  int64_t interval_of(int64_t step) const { return (step + interval_ - 1) / interval_; }

  int64_t interval_, smoothing_;
  std::vector<HistoryEntry> entries_;
  std::vector<HistoryEvaluation> evaluations_;
  std::deque<HistorySample> samples_;
  std::optional<HistoryEvaluation> best_;
  Smoothed smoothed_;
};

}  // namespace tll
