// Checkpoints: OUTPUT/checkpoint-N/ holds everything that the rest of a run depends on. So a resumed run gives the same bits as
// one that never stopped. The directory is written under another name, flushed to disk and renamed: it is complete or not there.
//
//   adapter_model.safetensors, adapter_config.json     as PEFT loads them; float, so the trained values exactly
//   model.safetensors, config.json                     in their place when all weights are trained
//   optimizer.safetensors                              Optimizer::tensors(): floats, and codes of 8 bits
//   best.safetensors                                   with --keep best: the values with the lowest validation loss until then
//   state.json                                         the run's id, steps done, the loader's state, what evaluations found, the
//                                                      settings that must not change, the XXH3-64 of every other file, and one
//                                                      of state.json itself
#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "data/loader.h"
#include "src/base/json.h"
#include "src/train/trainer.h"

namespace tll {

// What the evaluations between steps found.
struct BestEvaluation {
  int64_t step = 0;            // of the lowest loss; 0: none was evaluated yet
  double loss = 0;             // there
  int64_t without_better = 0;  // evaluations since then
  int64_t evaluated = 0;       // the step of the last one that is counted here
};

struct RunPosition {
  std::string run;  // the id of the run that the checkpoint belongs to
  TrainerState trainer;
  LoaderState loader;
  Json settings;  // what the run's numbers depend on; on resume a difference is an error that names it
  BestEvaluation best = {};
};

inline constexpr const char* kBestValues = "best";  // the directory in an output that holds the values of BestEvaluation::step

// One of the directories checkpoint-N below an output.
struct CheckpointEntry {
  int64_t step = 0;
  std::filesystem::path path;
  std::string run;  // empty: its state.json cannot be read
};
// By step. Nothing where there is no such directory.
std::vector<CheckpointEntry> checkpoints(const std::filesystem::path& output);
// The newest of this run, or of any where `run` is empty; nothing if there is none. One whose run cannot be read counts too, so
// that check_checkpoint() names it.
std::optional<CheckpointEntry> newest_checkpoint(const std::filesystem::path& output, const std::string& run = "");

// `write_values(directory)` writes the files of the trained values. If anything cannot be written, what was is removed. The first
// rank writes; where the optimizer's state is split, the other ranks call bring_optimizer() meanwhile.
void write_checkpoint(const std::filesystem::path& output, const RunPosition& position, const Device& device,
                      const std::vector<StateTensor>& optimizer,
                      const std::function<void(const std::filesystem::path&)>& write_values, Collectives* collectives = nullptr);
void bring_optimizer(const Device& device, Collectives& collectives, const std::vector<StateTensor>& optimizer);

// Checks every file against its checksum, also state.json, before anything in them is used. Error (kExitBadFile) names the file
// that is missing or damaged.
void check_checkpoint(const std::filesystem::path& directory);

// A checkpoint's position, after check_checkpoint(). Error (kExitBadFile) if it cannot be one.
RunPosition read_position(const std::filesystem::path& directory);
// The first setting in which a checkpoint differs from this run: its name, and the values of then ("not set") and now as JSON.
struct SettingChange {
  std::string name, then, now;
};
std::optional<SettingChange> changed_setting(const RunPosition& position, const Json& settings);
// Copies the optimizer's state, or this rank's part, to its place. Error (kExitBadFile) names the tensor that does not fit.
void read_optimizer(const std::filesystem::path& directory, const Device& device, const std::vector<StateTensor>& optimizer,
                    int rank = 0);

// The right to write into a directory, while the object lives: two runs with one --output would destroy each other's checkpoints.
// Error (kExitUsage) if another process has it. On a file system without locks there is none.
class OutputLock {
 public:
  explicit OutputLock(const std::filesystem::path& directory);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

 private:
  int descriptor_ = -1;
};

// Deletes what killed runs left half-written in this directory: checkpoints, and files that were to be renamed.
void remove_unfinished_files(const std::filesystem::path& output);
void remove_checkpoint(const std::filesystem::path& output, int64_t step);
// Of the run's checkpoints keeps the newest `keep` (0: all).
void remove_old_checkpoints(const std::filesystem::path& output, int64_t keep, const std::string& run);

}  // namespace tll
