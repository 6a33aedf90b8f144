// Checkpoints: OUTPUT/checkpoint-N/ holds everything that the rest of a run depends on. So a resumed run gives the same bits as
// one that never stopped. The directory is written under another name, flushed to disk and renamed: it is complete or not there.
//
//   adapter_model.safetensors, adapter_config.json     as PEFT loads them; float, so the trained values exactly
//   model.safetensors, config.json                     in their place when all weights are trained
//   optimizer.safetensors                              Optimizer::tensors()
//   state.json                                         steps done, the loader's state, the settings that must not change, the
//                                                      XXH3-64 of every other file, and one of state.json itself
#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "data/loader.h"
#include "src/base/json.h"
#include "src/train/trainer.h"

namespace tll {

struct RunPosition {
  TrainerState trainer;
  LoaderState loader;
  Json settings;  // what the run's numbers depend on; on resume a difference is an error that names it
};

// The newest checkpoint-N below `output`; nothing if there is none.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& output);

// `write_values(directory)` writes the files of the trained values.
void write_checkpoint(const std::filesystem::path& output, const RunPosition& position, const Device& device,
                      const std::vector<StateTensor>& optimizer,
                      const std::function<void(const std::filesystem::path&)>& write_values);

// Checks every file against its checksum, also state.json, before anything in them is used. Error (kExitBadFile) names the file
// that is missing or damaged.
void check_checkpoint(const std::filesystem::path& directory);

// Reads a checkpoint after check_checkpoint(): compares the settings and copies the optimizer's state to its place. Error
// (kExitBadFile) names what does not fit.
RunPosition read_checkpoint(const std::filesystem::path& directory, const Json& settings, const Device& device,
                            const std::vector<StateTensor>& optimizer);

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

// Deletes what interrupted runs left half-written. Of the checkpoints up to step `last` it keeps the newest `keep` (0: all).
// Those after `last` are from an earlier run in the same directory: they are neither counted nor deleted.
void remove_old_checkpoints(const std::filesystem::path& output, int64_t keep, int64_t last);

}  // namespace tll
