// A training run from data to adapter: what `train` does, in the order in which train_llama_lora.cu tells it.
#pragma once

#include <filesystem>
#include <optional>

#include "src/base/process.h"
#include "src/commands/run_report.h"
#include "src/commands/session.h"
#include "src/files/safetensors.h"
#include "src/train/checkpoint.h"

namespace tll {

template <class Float>
class TrainingRun {
 public:
  // Reads options, data and config, plans the memory. Errors here leave nothing behind.
  explicit TrainingRun(const Options& options);

  void start();
  void evaluate_before() {
    if (session_.trainer.state.step == 0) report_.before(evaluate(true));  // else resumed: that was done before
  }
  void step();
  bool finished() const { return session_.trainer.state.step >= total_steps_; }
  bool stop_requested() const { return tll::stop_requested() && !finished(); }
  int interrupt();  // writes a checkpoint and says how to go on; returns the exit code
  void evaluate_after() {
    report_.end_of_steps();
    report_.after(evaluate(true));
  }
  void save();

  Session<Float>& session() { return session_; }

 private:
  Json settings() const;
  void resume();
  Score evaluate(bool questions);
  void write_checkpoint_here();
  void write_values(const std::filesystem::path& directory, FileDtype dtype) const;

  Options options_;
  ModelSource source_;
  RunData data_;
  std::optional<std::filesystem::path> resume_from_;
  AdapterSource adapter_;
  Session<Float> session_;
  RunReport report_;
  Loader loader_;
  std::optional<Loader> validation_loader_;
  int64_t total_steps_ = 0;
  std::optional<OutputLock> lock_;
};

}  // namespace tll
