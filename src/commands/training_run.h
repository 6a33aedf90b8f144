// A training run from data to adapter: what `train` does, in the order in which train_llama_lora.cu tells it.
#pragma once

#include <chrono>

#include "src/commands/session.h"
#include "src/files/safetensors.h"
#include "src/report/progress.h"
#include "src/report/run_log.h"
#include "src/train/checkpoint.h"
#include "src/train/evaluate.h"

namespace tll {

// The data of a run: documents to train on and to validate on.
struct RunData {
  Dataset train;
  std::optional<Dataset> separate_validation;  // --valid-data
  const Dataset& validation() const { return separate_validation ? *separate_validation : train; }
};
RunData load_run_data(const Options& options, const ModelSource& source);

template <class Float>
class TrainingRun {
 public:
  // Reads options, data and config, plans the memory. Errors here leave nothing behind.
  explicit TrainingRun(const Options& options);

  void start();
  void evaluate_before();
  void step();
  bool finished() const { return session_.trainer.state.step >= total_steps_; }
  bool stop_requested() const;
  int interrupt();  // writes a checkpoint and says how to go on; returns the exit code
  void evaluate_after();
  void save();

  Session<Float>& session() { return session_; }

 private:
  struct Score {
    std::optional<double> loss;
    std::optional<EvaluationResult> answers;
  };
  Json settings() const;
  Score evaluate(bool questions);
  bool silent() const { return options_.quiet || options_.json; }  // with --json the result alone goes to standard output
  void say(const std::string& line) const;
  void write_checkpoint_here();
  void write_values(const std::filesystem::path& directory, FileDtype dtype) const;
  void write_run_json(const Json& result) const;
  void tell_what_was_learned() const;

  Options options_;
  ModelSource source_;
  RunData data_;
  std::optional<std::filesystem::path> resume_from_;
  AdapterSource adapter_;
  Session<Float> session_;
  Loader loader_;
  std::optional<Loader> validation_loader_;
  int64_t total_steps_ = 0;
  std::optional<OutputLock> lock_;
  std::optional<MetricsLog> metrics_;
  std::optional<Progress> progress_;
  Score before_, after_;
  double seconds_ = 0;  // of the steps of this process
  int64_t tokens_ = 0, first_step_ = 0, peak_resident_ = 0;
  double first_loss_ = 0, last_loss_ = 0;
};

}  // namespace tll
