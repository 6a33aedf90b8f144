// The directory of --output, which runs may share: what an earlier run left there, and what becomes of it.
//
// Every run has an id, a hash of all that its numbers depend on. run.json, every line of metrics.jsonl and every checkpoint carry
// it, so files of different runs are told apart. Two new runs of one id would compute the same bytes with as many threads.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "src/base/json.h"
#include "src/options/options.h"

namespace tll {

inline constexpr const char* kEventDirectories = "runs";
// Where in an output TensorBoard's files of a run lie.
inline std::filesystem::path event_directory(const std::string& run) { return std::filesystem::path(kEventDirectories) / run; }

// What run.json says about the run that wrote it.
struct RunRecord {
  std::string run;
  bool trained_all = false;      // --train full
  bool finished = false;         // all steps are done and the result is saved
  bool evaluated = false;        // and the evaluation after it
  int64_t steps = 0;             // of a finished run
  int64_t without_better = 0;    // evaluations in a row that --patience had seen at its end
  Json dates, examples;          // null: it has none
  Json result = Json::object();  // all that run.json says of it, as far as the run came
};
// Where run.json cannot be read, the id alone, of metrics.jsonl. Nothing where neither can.
std::optional<RunRecord> read_run_record(const std::filesystem::path& output);

// Error (kExitUsage) where a result in this directory would destroy the model, the data or the adapter that the run reads, or be
// loaded wrongly: all weights beside an adapter, which transformers would apply to them.
// `model`: the directory that --model came to, or the demo model's.
void check_output(const Options& options, const std::filesystem::path& model);

// Before a run writes: moves what other runs left to OUTPUT/earlier-N, and says so, or drops it with --overwrite,
// except files that no run left. `run`: the run
// that is resumed, whose files stay, except its checkpoints after step `last`. Empty: a new run, nothing stays.
void set_aside_earlier_runs(const Options& options, const std::string& run, int64_t last);

}  // namespace tll
