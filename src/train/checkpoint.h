// Checkpoints: OUTPUT/checkpoint-N/ holds everything that the rest of a run depends on, so that resuming is bit-identical to
// never having stopped. The directory is written under another name, flushed to disk and renamed: it is whole or not there.
//
//   adapter_model.safetensors, adapter_config.json     as PEFT loads them; float, so the trained values exactly
//   model.safetensors, config.json                     in their place when all weights are trained
//   optimizer.safetensors                              Optimizer::tensors()
//   state.json                                         steps done, the loader's state, the settings that must not change, the
//                                                      XXH3-64 of every other file, and that of what state.json itself says
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
  Json settings;  // whatever the run depends on: compared on resume, and a difference is refused by name
};

// The newest checkpoint-N below `output`; nothing if there is none.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& output);

// `write_values(directory)` writes the trained values' files.
void write_checkpoint(const std::filesystem::path& output, const RunPosition& position, const Device& device,
                      const std::vector<StateTensor>& optimizer,
                      const std::function<void(const std::filesystem::path&)>& write_values);

// Checks every file against its checksum, state.json included, before anything in them is believed. Error (kExitBadFile) names
// the file that is missing or damaged.
void check_checkpoint(const std::filesystem::path& directory);

// Reads a checkpoint that was checked, the optimizer's state to its place, and compares the settings. Error (kExitBadFile) names
// what does not fit.
RunPosition read_checkpoint(const std::filesystem::path& directory, const Json& settings, const Device& device,
                            const std::vector<StateTensor>& optimizer);

// The right to write into a directory, for as long as the object lives: two runs with one --output would destroy each other's
// checkpoints. Error (kExitUsage) if another process has it. File systems that know no locks are written without one.
class OutputLock {
 public:
  explicit OutputLock(const std::filesystem::path& directory);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

 private:
  int descriptor_ = -1;
};

// Deletes what interrupted runs left half-written, and of the checkpoints up to step `last` all but the newest `keep` (0: none).
// Those behind `last` are of an earlier run in the same directory: they are neither counted nor touched.
void remove_old_checkpoints(const std::filesystem::path& output, int64_t keep, int64_t last);

}  // namespace tll
