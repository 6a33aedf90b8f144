// What a run writes for other programs at every step: metrics.jsonl, one JSON object per line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "src/base/check.h"
#include "src/base/json.h"

namespace tll {

// One optimizer step. Numbers that are not finite are written as null.
struct StepMetrics {
  int64_t step = 0;      // from 1
  double loss = 0;       // mean over the step's target tokens, before the update
  double grad_norm = 0;  // before clipping
  double lr = 0;
  int64_t tokens = 0;  // without padding
  int64_t target_tokens = 0;
  double seconds = 0;  // wall time of the step

  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
};

// What a log says.
struct EarlierMetrics {
  std::optional<double> first_loss, last_loss;  // of the steps before a run resumed; nothing: no such line, or null
  int64_t evaluated_at = -1;                    // the step of the last evaluation
  int64_t sampled_at = -1;                      // and of the last sample
};

// Writes metrics.jsonl. Each line is written to the file at once, so a killed run loses none. No line allocates memory.
class MetricsLog {
 public:
  // Starts a new file; `run` is the id that every line carries. If a run resumes after `resumed_step` > 0, it keeps the lines up
  // to that step and drops the rest: steps that the killed run did after its checkpoint, and a line that it did not finish.
  // Error: kExitFault if the file cannot be written, kExitBadFile if a line that is kept is not a line of this log.
  MetricsLog(const std::filesystem::path& file, std::string run, int64_t resumed_step = 0);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void step(const StepMetrics&);
  void evaluation(int64_t step, double loss);          // the perplexity beside it is exp(loss)
  void sample(int64_t step, const std::string& text);  // how the model continues a prompt; once a step
  const EarlierMetrics& earlier() const { return earlier_; }

 private:
  template <class... Args>
  void write_line(fmt::format_string<Args...> format, Args&&... args);

  std::filesystem::path path_;
  std::string run_;
  EarlierMetrics earlier_;
  int file_ = -1;
};

}  // namespace tll
