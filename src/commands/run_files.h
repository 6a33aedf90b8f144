// The files that a run leaves beside its result, for people and for other programs: metrics.jsonl and TensorBoard's event files
// as it goes, trainer_state.json with each checkpoint, and at the end curves.svg, report.html and the model card.
//
// Only metrics.jsonl is needed by the run itself, to resume. Where another one cannot be written, a note says so, and the run
// goes on.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "src/model/flops.h"
#include "src/options/options.h"
#include "src/report/event_file.h"
#include "src/report/run_log.h"

namespace tll {

// What trainer_state.json says besides the history.
struct RunProgress {
  int64_t total_steps = 0;
  int64_t steps_per_epoch = 1;
  StepFlops flops;
  bool finished = false;
};

class RunFiles {
 public:
  explicit RunFiles(const Options& options) : options_(options) {}

  // After `resumed_step`; 0: a new run. Error as of MetricsLog.
  void begin(const std::string& run, int64_t resumed_step, const RunProgress& progress);
  void step(const StepMetrics& metrics);
  void evaluation(int64_t step, double loss);
  void sample(int64_t step, const std::string& text);
  void end_of_steps();

  const RunHistory& history() const { return log_->history(); }
  const EarlierMetrics& earlier() const { return log_->earlier(); }

  // trainer_state.json, into --output or into a checkpoint of this step.
  void write_trainer_state(const std::filesystem::path& directory, const RunProgress& progress) const;
  // curves.svg, report.html and, with `card`, README.md (model_card.h). `run`: what run.json says.
  void write_pictures(const Json& run, const std::string& plan_svg, bool card) const;
  // The curves for a terminal, or for a file; nothing before there are ten steps to show.
  std::string terminal_curves(int output) const;

 private:
  void write_events(const HistoryEntry& entry);
  void note_events();

  const Options& options_;
  RunProgress progress_;
  std::optional<MetricsLog> log_;
  std::optional<EventFile> events_;
  int64_t written_step_ = 0;  // of the last entry that is in the event file
};

}  // namespace tll
