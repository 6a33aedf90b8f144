// What a run writes for other programs at every step: metrics.jsonl, one JSON object per line.
#pragma once

#include <cstdint>
#include <filesystem>

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

// Writes metrics.jsonl. Each line is written to the file at once, so a killed run loses none. No line allocates memory.
class MetricsLog {
 public:
  // Starts a new file. If a run resumes after `resumed_step` > 0, it keeps the lines up to that step and drops the rest: steps
  // that the killed run did after its checkpoint, and a line that it did not finish. Error: kExitFault if the file cannot be
  // written, kExitBadFile if a line that is kept is not a line of this log.
  explicit MetricsLog(const std::filesystem::path& file, int64_t resumed_step = 0);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void step(const StepMetrics&);
  void evaluation(int64_t step, double loss);  // the perplexity beside it is exp(loss)

 private:
  template <class... Args>
  void write_line(fmt::format_string<Args...> format, Args&&... args);

  std::filesystem::path path_;
  int file_ = -1;
};

}  // namespace tll
