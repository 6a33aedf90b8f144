#include "src/commands/output_directory.h"

#include <algorithm>
#include <vector>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/commands/model_card.h"
#include "src/commands/save.h"
#include "src/train/checkpoint.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

bool same_directory(const fs::path& a, const fs::path& b) {
  std::error_code none;
  return !a.empty() && !b.empty() && fs::equivalent(a, b, none);
}

bool is_inside(const fs::path& directory, const fs::path& file) {
  for (fs::path p = fs::weakly_canonical(file); p.has_relative_path(); p = p.parent_path())
    if (same_directory(p, directory)) return true;
  return false;
}

constexpr const char* kLogFiles[] = {"metrics.jsonl", "run.json", "trainer_state.json", "curves.svg", "report.html"};

// Whether a run would write over this file, or move it away: by its name in `output`, or by another path to the same file.
bool is_written(const fs::path& output, const fs::path& file) {
  std::error_code none;
  const auto same = [&](const char* name) { return fs::equivalent(output / name, file, none); };
  return std::any_of(std::begin(kLogFiles), std::end(kLogFiles), same) || same(kAdapterTensors) || same(kAdapterSettings) ||
         std::any_of(std::begin(kModelFiles), std::end(kModelFiles), same);
}

void remove_if_empty(const fs::path& directory) {
  std::error_code none;
  if (fs::is_directory(directory, none)) fs::remove(directory, none);
}

bool holds_adapter(const fs::path& directory) {
  for (const char* name : {kAdapterTensors, kAdapterSettings})
    if (fs::exists(directory / name)) return true;
  return false;
}

// What is in the way of a run, by name in `output`.
struct Leftovers {
  std::vector<fs::path> names;
  bool of_runs = true;         // each of them was left by a run
  bool worth_keeping = false;  // there is more than logs among it
};
Leftovers leftovers(const Options& options, const std::string& run, int64_t last) {
  const fs::path& output = options.output;
  Leftovers found;
  const std::optional<RunRecord> record = read_run_record(output);
  const auto add = [&](const fs::path& name, bool worth_keeping) {
    if (!fs::exists(output / name)) return;
    found.names.push_back(name);
    found.of_runs = found.of_runs && record;
    found.worth_keeping = found.worth_keeping || worth_keeping || !record;
  };
  for (const CheckpointEntry& c : checkpoints(output))
    if (run.empty() || c.run != run || c.step > last) found.names.push_back(c.path.filename()), found.worth_keeping = true;
  if (record && !run.empty() && record->run == run) return found;
  for (const char* name : {kAdapterTensors, kAdapterSettings}) add(name, true);
  if (record || options.keep == KeepOption::kBest) add(kBestValues, true);
  // A model that no run left is not touched, except by one that would write its own over it.
  if ((record && record->trained_all) || options.train == TrainMode::kFull)
    for (const char* name : kModelFiles) add(name, true);
  if (record || options.train == TrainMode::kFull)
    for (const char* name : kTokenizerFiles) add(name, false);
  for (const char* name : kLogFiles) add(name, false);
  if (is_model_card(output / kModelCard)) add(kModelCard, false);
  if (record) add(event_directory(record->run), false);
  return found;
}

}  // namespace

std::optional<RunRecord> read_run_record(const fs::path& output) {
  try {
    const std::string where = (output / "run.json").string();
    const Json json = parse_json(read_file(where), where);
    RunRecord record;
    record.run = json.at("run").get<std::string>();
    record.trained_all = json.at("options").at("train") == "full";
    const Json& result = json.at("result");
    if (!result.is_object()) return record;
    record.result = result;
    record.dates = json.value("dates", Json()), record.examples = json.value("examples", Json());
    record.finished = result.value("finished", false);
    record.evaluated = result.value("evaluated", false);
    record.steps = result.value("steps", int64_t{0});
    record.without_better = result.value("evaluations_without_better", int64_t{0});
    return record;
  } catch (const std::exception&) {
  }
  // The log tells whose files lie there too.
  try {
    const std::string lines = read_file(output / "metrics.jsonl");
    RunRecord record;
    record.run = parse_json(lines.substr(0, lines.find('\n')), "").at("run").get<std::string>();
    return record;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void check_output(const Options& options, const fs::path& model) {
  const fs::path& output = options.output;
  if (same_directory(output, model))
    fail(kExitUsage, "--output {} is the directory of the model; choose another, so that the model stays as it is",
         output.string());
  for (const fs::path& data : {options.data, options.valid_data})
    if (!data.empty() && is_written(output, data))
      fail(kExitUsage, "--output {}: the run would write over the data set {}; choose another directory", output.string(),
           data.string());
  std::error_code none;
  if (options.train == TrainMode::kFull && !model.empty())
    for (const auto& file : fs::directory_iterator(model, none))
      if (is_written(output, file.path()))
        fail(kExitUsage, "--output {}: the run would write over {} of the model; choose another directory", output.string(),
             file.path().string());
  if (options.overwrite && !options.init_adapter.empty() && is_inside(output, options.init_adapter))
    fail(kExitUsage, "--overwrite would drop the adapter in {} that this run starts from; choose another --output",
         options.init_adapter.string());
  if (options.train == TrainMode::kFull && holds_adapter(output) && !options.overwrite)
    fail(kExitUsage,
         "{} holds an adapter, which transformers would apply to the model that --train full saves there; choose another "
         "--output, "
         "or --overwrite to drop what is there",
         output.string());
}

void set_aside_earlier_runs(const Options& options, const std::string& run, int64_t last) {
  const fs::path& output = options.output;
  const Leftovers found = leftovers(options, run, last);
  if (found.names.empty()) return;
  if ((options.overwrite && found.of_runs) || !found.worth_keeping) {
    for (const fs::path& name : found.names) fs::remove_all(output / name);
    remove_if_empty(output / kEventDirectories);
    return;
  }
  fs::path kept;
  for (int n = 1; kept.empty() || fs::exists(fs::symlink_status(kept)); n++) kept = output / fmt::format("earlier-{}", n);
  fs::create_directory(kept);
  for (const fs::path& name : found.names) {
    fs::create_directories((kept / name).parent_path());
    fs::rename(output / name, kept / name);
  }
  remove_if_empty(output / kEventDirectories);
  flush_directory(kept);
  flush_directory(output);
  fmt::print(stderr, "note: what was in {} before is now in {}\n", output.string(), kept.string());
}

}  // namespace tll
