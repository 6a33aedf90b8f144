#include "src/report/run_history.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tll {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

int64_t interval_for(int64_t steps) {
  const int64_t least = (std::max<int64_t>(steps, 1) + RunHistory::kMostEntries - 1) / RunHistory::kMostEntries;
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(least)));
}

double number(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : kNone;
}
int64_t whole(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

}  // namespace

RunHistory::RunHistory(int64_t total_steps)
    : interval_(interval_for(total_steps)), smoothing_(smoothing_steps(total_steps)), smoothed_(smoothing_) {
  const auto most = static_cast<size_t>(std::min(total_steps, kMostEntries)) + 2;
  entries_.reserve(most);
  evaluations_.reserve(most);
}

void RunHistory::step(const StepMetrics& m) {
  if (entries_.empty() || interval_of(entries_.back().step) != interval_of(m.step)) entries_.push_back({.loss = kNone});
  HistoryEntry& e = entries_.back();
  e.step = m.step;
  if (std::isfinite(m.loss)) {
    e.loss = e.losses == 0 ? m.loss : e.loss + (m.loss - e.loss) / static_cast<double>(e.losses + 1);
    e.losses++;
    e.least = std::min(e.least, m.loss), e.most = std::max(e.most, m.loss);
    smoothed_.add(m.loss);
  }
  e.smoothed = smoothed_.value();
  e.grad_norm = m.grad_norm, e.lr = m.lr;
  e.tokens += m.tokens, e.target_tokens += m.target_tokens;
  if (std::isfinite(m.seconds)) e.seconds += m.seconds;
}

HistoryTotals RunHistory::totals() const {
  HistoryTotals sum;
  for (const HistoryEntry& e : entries_) sum.tokens += e.tokens, sum.target_tokens += e.target_tokens, sum.seconds += e.seconds;
  return sum;
}

void RunHistory::evaluation(int64_t step, double loss) {
  if (!std::isfinite(loss)) return;
  if (!best_ || loss < best_->loss) best_ = {step, loss};
  const bool same = !evaluations_.empty() && interval_of(evaluations_.back().step) == interval_of(step);
  if (!same) evaluations_.emplace_back();
  evaluations_.back() = {step, loss};
}

void RunHistory::sample(int64_t step, std::string_view text) {
  if (samples_.size() == kMostSamples) samples_.erase(samples_.begin() + 1);
  samples_.push_back({step, std::string(text.substr(0, kLongestSample))});
}

void RunHistory::line(const Json& object) {
  const int64_t step = whole(object, "step");
  if (object.contains("eval_loss")) evaluation(step, number(object, "eval_loss"));
  if (const auto text = object.find("sample"); text != object.end() && text->is_string())
    sample(step, text->get_ref<const std::string&>());
  if (object.contains("loss"))
    this->step({step, number(object, "loss"), number(object, "grad_norm"), number(object, "lr"), whole(object, "tokens"),
                whole(object, "target_tokens"), number(object, "seconds")});
}

}  // namespace tll
