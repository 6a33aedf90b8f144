#include "src/commands/run_facts.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "src/report/memory_probe.h"

namespace tll {
namespace {

// Bytes of a file, or of all files below a directory.
int64_t bytes_of(const std::filesystem::path& path) {
  std::error_code none;
  if (!std::filesystem::is_directory(path, none)) {
    const uintmax_t size = std::filesystem::file_size(path, none);
    return none ? 0 : static_cast<int64_t>(size);
  }
  int64_t sum = 0;
  const auto skip = std::filesystem::directory_options::skip_permission_denied;
  for (std::filesystem::recursive_directory_iterator entry(path, skip, none), end; !none && entry != end; entry.increment(none)) {
    std::error_code odd;
    const uintmax_t size = entry->is_regular_file(odd) ? entry->file_size(odd) : 0;
    if (!odd) sum += static_cast<int64_t>(size);
  }
  return sum;
}

}  // namespace

std::string iso_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[64];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local);
  std::string iso(text, size);
  return iso.size() > 2 ? iso.insert(iso.size() - 2, ":") : iso;
}

Json host_json() {
  utsname system{};
  uname(&system);
  const Processor cpu = processor();
  return {{"name", system.nodename},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
          {"processor", cpu.model},
          {"threads", cpu.threads},
          {"memory", machine_memory().total}};
}

Json device_json(const Options& options, const SessionBase& s) {
  if (!on_host(s.device))
    return {{"kind", cuda_backend()},
            {"name", s.gpu.name},
            {"compute_capability", s.device.arch},
            {"multiprocessors", s.gpu.multiprocessors},
            {"libraries", s.gpu.libraries},
            {"memory_total", s.gpu.memory},
            {"loaded_bytes", s.gpu.loaded},
            {"in_use_before", s.gpu.in_use},
            {"staging_bytes", s.staging.total()},
            {"peak_flops", s.ceilings.flops}};
  const Processor cpu = processor();
  return {{"kind", "cpu"},
          {"name", cpu.model},
          {"features", cpu.features},
          {"isa", isa_name(s.device.isa)},
          {"threads", options.threads},
          {"memory_total", machine_memory().total},
          {"peak_flops", s.ceilings.flops}};
}

Json data_json(const Options& options, const RunData& run, const std::string& hash) {
  const Dataset& train = run.train;
  const PrepareReport& report = train.report;
  Json data = {
      {"path", options.data.string()},
      {"bytes", bytes_of(options.data)},
      {"content_hash", hash},
      {"format", train.format == DataFormat::kAuto ? "" : data_format_names()[static_cast<size_t>(train.format)]},
      {"template", train.template_name},
      {"train_documents", train.count(Split::kTrain)},
      {"validation_documents", run.validation().count(Split::kValidation)},
      {"tokens", report.tokens},
      {"target_tokens", report.target_tokens},
      {"trained_share", report.tokens > 0 ? static_cast<double>(report.target_tokens) / static_cast<double>(report.tokens) : 0.0},
      {"notes", report.notes()}};
  if (run.separate_validation) data["validation_path"] = options.valid_data.string();
  return data;
}

Json examples_json(const ModelSource& source, const Dataset& data, const std::optional<EvaluationResult>& before,
                   const std::optional<EvaluationResult>& after, const Json& earlier) {
  constexpr size_t kMost = 12, kLongest = 4000;  // bytes of a text
  const auto text = [&](std::string_view all) {
    return all.size() <= kLongest ? std::string(all) : std::string(all.substr(0, kLongest)) + " …";
  };
  const EvaluationResult* answers = after ? &*after : before ? &*before : nullptr;
  if (!answers || !source.tokenizer) return earlier.is_array() ? earlier : Json::array();
  struct Example {
    double gain;
    Json json;
  };
  std::vector<Example> examples;
  for (const QuestionResult& q : answers->questions) {
    const auto tokens =
        data.tokens_of(data.documents[static_cast<size_t>(q.document)]).first(static_cast<size_t>(q.prompt_tokens));
    Example e{0, {{"document", q.document}, {"prompt", ""}, {"before", Json()}, {"after", Json()}, {"reference", "(no answer)"}}};
    if (!q.gold.empty()) e.json["reference"] = text(q.gold[0]);
    if (after) e.json["after"] = text(q.prediction);
    if (before) {
      for (const QuestionResult& b : before->questions)
        if (b.document == q.document) e.json["before"] = text(b.prediction), e.gain = std::abs(q.score.f1 - b.score.f1);
    } else if (earlier.is_array()) {
      for (const Json& b : earlier)
        if (b.is_object() && b.value("document", int64_t{-1}) == q.document) e.json["before"] = b.value("before", Json());
    }
    examples.push_back(std::move(e));
    examples.back().json["prompt"] = text(source.tokenizer->decode(tokens));
  }
  std::stable_sort(examples.begin(), examples.end(), [](const Example& a, const Example& b) { return a.gain > b.gain; });
  Json list = Json::array();
  for (size_t i = 0; i < std::min(kMost, examples.size()); i++) list.push_back(std::move(examples[i].json));
  return list;
}

}  // namespace tll
