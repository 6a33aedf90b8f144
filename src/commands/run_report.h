// What a training run tells: to people on standard output, to other programs in metrics.jsonl and run.json.
#pragma once

#include <optional>
#include <utility>

#include "src/commands/gradient_report.h"
#include "src/commands/output_directory.h"
#include "src/commands/run_facts.h"
#include "src/commands/run_files.h"
#include "src/commands/score.h"
#include "src/commands/session.h"
#include "src/model/flops.h"
#include "src/report/progress.h"
#include "src/report/terminal.h"
#include "src/train/checkpoint.h"

namespace tll {

struct RunStart {
  std::string run;  // the id
  int64_t total_steps = 0, steps_per_epoch = 1;
  std::string data_hash;  // of the content
};

// Keeps references to its arguments. `state` is that of the trainer: the step that the run is at. Of several ranks the first one
// speaks; the reports of the others say and write nothing.
class RunReport {
 public:
  RunReport(const Options& options, const ModelSource& source, const RunData& data, const SessionBase& session,
            const ModelOptions& model, const TrainerState& state, bool speaks);

  // A line, broken between words to the width of a terminal; nothing with --quiet. A closed terminal or pipe does not end a run.
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    const std::string text = fmt::format(format, std::forward<Args>(args)...);
    say_whole("{}", wrapped(text, terminal_columns(options_.progress_output()), kLabelColumns, 0));
  }
  // The same, not broken: for what is copied from the screen.
  template <class... Args>
  void say_whole(fmt::format_string<Args...> format, Args&&... args) const {
    if (speaks_ && !options_.quiet)
      write_all(options_.progress_output(), fmt::format(format, std::forward<Args>(args)...) + "\n");
  }
  // Before anything is allocated: model, data, plan. `trained` is a number of parameters.
  void say_plan(int64_t total_steps, int64_t trained);
  void say_device(DType activations) const;

  // Opens the run's files and writes run.json, of a new run without a result. The trainer's state is that of the step to go on
  // from; `earlier`: what run.json of a resumed run has.
  void begin(const RunStart& start, const std::optional<RunRecord>& earlier);
  // The step of the last evaluation that metrics.jsonl had at begin(): a resumed run repeats none.
  int64_t evaluated_at() const { return files_.earlier().evaluated_at; }
  void before(const Score& score);
  void step(const StepResult& result, double seconds, int graphs);      // graphs: CUDA graphs of steps there are
  void gradients(const GradientReport& report, int64_t target_tokens);  // of the run's first update
  void validated(double loss);                                          // between steps
  void compared(const BestEvaluation& best);                            // where evaluations are compared, after each
  void sample(const std::string& text);                                 // of --sample-prompt
  // Of an evaluation that a signal ended: the loss of the batches until then.
  void evaluated_in_part(std::optional<double> loss, int64_t done, int64_t batches);
  void end_of_steps();  // the last one, or the one that a run stops after
  void saved();         // the result is on the disk: writes run.json
  void after(const Score& score);
  void write_trainer_state(const std::filesystem::path& checkpoint) const { files_.write_trainer_state(checkpoint, progress()); }
  void finish();                           // writes run.json, says what was learned and where the result is
  void failed(const std::string& reason);  // writes run.json of a run that cannot go on
  // The same for a run that a signal ended. `saved`: the result is on the disk.
  void interrupted(const std::string& activity, bool saved);

 private:
  bool evaluated_here() const { return evaluated_at() == state_.step; }
  static constexpr size_t kLabelColumns = 9;  // "model    ", as the lines begin
  RunProgress progress(bool finished = false) const;
  Json run_json(const Json& result) const;
  Json measured_json() const;
  Json result_json(bool finished, bool evaluated) const;
  void write_run_json(const Json& result) const;  // null: there is none yet
  void end_files(const Json& result);
  void say_curves() const;
  void say_steps() const;
  void say_memory() const;
  int64_t gpu_bytes_later() const;  // that a CUDA device has less than before the arena was allocated, without the arena
  void say_learned() const;
  void say_next() const;
  double tokens_per_second() const { return seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0; }

  const Options& options_;
  const ModelSource& source_;
  const RunData& data_;
  const SessionBase& session_;
  const ModelOptions& model_;
  const TrainerState& state_;
  const bool speaks_;
  const StepFlops flops_;
  RunFiles files_;
  std::optional<Progress> progress_line_;
  Json before_ = Json::object();                    // as Score::json()
  std::optional<EvaluationResult> answers_before_;  // of this process
  Score after_;
  std::optional<BestEvaluation> best_;
  std::string partial_;                           // of the evaluation that was interrupted
  Json dates_ = Json::object();                   // when the run started, was resumed, and ended
  Json earlier_examples_;                         // of a resumed run; else null
  Json gradients_;                                // as GradientReport::json(); null: no update yet
  std::optional<double> first_loss_, last_loss_;  // of the run's steps
  RunStart start_;
  int64_t trained_ = 0;  // parameters
  // Of the steps of this process.
  int graphs_ = 0;
  int64_t first_step_ = 0, tokens_ = 0;
  double seconds_ = 0;
  int64_t peak_resident_ = 0;  // bytes
};

}  // namespace tll
