// What a run writes for other programs at every step: metrics.jsonl, one JSON object per line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "src/base/check.h"
#include "src/base/json.h"
#include "src/report/run_history.h"

namespace tll {

// What a log says.
struct EarlierMetrics {
  std::optional<double> first_loss, last_loss;  // of the steps before a run resumed; nothing: no such line, or null
  int64_t evaluated_at = -1;                    // the step of the last evaluation
  int64_t sampled_at = -1;                      // and of the last sample
};

// Writes metrics.jsonl, and keeps a history of its lines. Each line is written to the file at once, so a killed run loses none.
// No line of numbers allocates memory.
class MetricsLog {
 public:
  // Starts a new file; `run` is the id that every line carries. If a run resumes after `resumed_step` > 0, it keeps the lines up
  // to that step and drops the rest: steps that the killed run did after its checkpoint, and a line that it did not finish.
  // `total_steps`: of the whole run. Error: kExitFault if the file cannot be written, kExitBadFile if a line that is kept is not
  // a line of this log.
  MetricsLog(const std::filesystem::path& file, std::string run, int64_t resumed_step = 0, int64_t total_steps = 1000);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void step(const StepMetrics&);
  void evaluation(int64_t step, double loss);          // the perplexity beside it is exp(loss)
  void sample(int64_t step, const std::string& text);  // how the model continues a prompt; once a step
  const EarlierMetrics& earlier() const { return earlier_; }
  const RunHistory& history() const { return history_; }  // of the lines in the file

 private:
  template <class... Args>
  void write_line(fmt::format_string<Args...> format, Args&&... args);

  std::filesystem::path path_;
  std::string run_;
  EarlierMetrics earlier_;
  RunHistory history_;
  int file_ = -1;
};

}  // namespace tll
