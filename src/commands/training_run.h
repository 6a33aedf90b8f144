// A training run from data to adapter: what `train` does, in the order in which train_llama_lora.cu tells it.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>

#include "src/base/phase.h"
#include "src/commands/best_values.h"
#include "src/commands/output_directory.h"
#include "src/commands/planner.h"
#include "src/commands/run_report.h"
#include "src/commands/sample_prompt.h"
#include "src/files/safetensors.h"
#include "src/train/checkpoint.h"

namespace tll {

// What --resume goes on from.
struct ResumePoint {
  std::optional<std::filesystem::path> checkpoint;  // whole and undamaged; nothing: there is none yet
  RunPosition position;                             // of the checkpoint
  std::optional<RunRecord> record;                  // of the run that wrote to --output last
};

// All trained values, in the host's memory of the first rank.
struct TrainedValues {
  std::optional<HostFloats> here;
  std::vector<float> gathered;  // where they are split among ranks
  const float* data() const { return here ? here->data() : gathered.data(); }
};

template <class Float>
class TrainingRun {
 public:
  // Reads options, data and config, plans the memory. Errors here leave nothing behind. `collectives`: to the other ranks of the
  // run, which do the same; null: there are none.
  explicit TrainingRun(const Options& options, Collectives* collectives = nullptr);

  // Whether --resume finds a run that has done as many steps as are asked for, and its evaluation. Says so.
  bool already_done() const;
  void start();
  // Until the result is saved and evaluated, every call below may throw Stopped; interrupt() then ends the run.
  void evaluate_before();
  void step();
  bool finished() const { return session_.trainer.state.step >= total_steps_ || stops_early(); }
  void save();  // a checkpoint and the result, with --keep best that of the best evaluation
  void evaluate_after();
  void finish() { report_.finish(); }
  int interrupt(const Stopped& stopped);  // writes a checkpoint and says how to go on; returns the exit code

  Session<Float>& session() { return session_; }

 private:
  bool is_first() const { return options_.process_rank == 0; }
  // What the first rank says, on all.
  template <class T>
  T of_first(T value) const {
    if (collectives_) collectives_->broadcast_host(&value, sizeof(value), 0);
    return value;
  }
  void wait_for_ranks() const {
    if (collectives_) collectives_->barrier();
  }
  void require_same_on_all_ranks() const;
  Json settings();
  Json settings_without_weights() const;
  std::string new_run_id();
  void require_unchanged(const Json& now) const;
  void note_options() const;
  void resume();
  Score evaluate(bool questions);
  void validate();
  bool validation_is_due() const;
  bool keeps_best() const { return options_.keep == KeepOption::kBest; }
  bool compares() const { return keeps_best() || options_.patience > 0; }
  bool stops_early() const { return options_.patience > 0 && best_.without_better >= options_.patience; }
  void compare_with_best(double loss);
  void take_best(const std::filesystem::path& checkpoint);
  void load_best();
  void show_sample();
  [[noreturn]] void cannot_go_on(const std::string& reason);
  void report_first_gradients(const StepResult& result, double loss_scale);
  void write_checkpoint_here();
  TrainedValues values_to_write() const;
  void write_values(const std::filesystem::path& directory, FileDtype dtype, const TrainedValues& values) const;
  void keep_values_alone(int64_t step, const char* failed) const;

  Options options_;
  Collectives* collectives_;
  std::optional<ResumePoint> resume_;
  ModelSource source_;
  RunData data_;
  AdapterSource adapter_;
  std::optional<Solution> chosen_;  // with --batch-size auto
  Session<Float> session_;
  RunReport report_;
  Loader loader_;
  std::optional<Loader> validation_loader_;
  int64_t total_steps_ = 0;
  std::optional<OutputLock> lock_;
  std::string run_;
  Json settings_;
  const BestValues best_values_;
  BestEvaluation best_;
  std::vector<Question> questions_;  // answered before and after training
  std::optional<SamplePrompt> sample_prompt_;
  bool result_is_saved_ = false;  // in --output
  bool has_stepped_ = false;
  int64_t evaluated_at_ = -1;       // the step of the last evaluation that metrics.jsonl had at the start
  int64_t saved_step_ = 0;          // of the newest checkpoint; 0 needs none
  std::vector<int64_t> automatic_;  // steps of the checkpoints that this process wrote by the clock
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
};

}  // namespace tll
