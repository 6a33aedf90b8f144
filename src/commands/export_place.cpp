#include "src/commands/export_place.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/commands/save.h"
#include "src/files/adapter.h"
#include "src/files/gguf_model.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr const char *kSingleFile = "model.safetensors", *kIndexFile = "model.safetensors.index.json";
constexpr const char* kMadeHere = ".export-";  // and the process, in --output, while the new model is made

bool is_tokenizer_file(const std::string& name) {
  return std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles), name) != std::end(kTokenizerFiles);
}

// What the new model replaces, which must have been asked for; config.json first, without which nothing is loaded from there.
std::vector<fs::path> replaced_files(const Options& options, const fs::path& model) {
  const fs::path& output = options.output;
  std::error_code none;
  if (fs::equivalent(output, model, none))
    fail(kExitUsage, "--output {} is the directory of the model; choose another, so that the model stays as it is",
         output.string());
  std::vector<fs::path> old;
  if (!fs::exists(output)) return old;
  if (!fs::is_directory(output))
    fail(kExitUsage, "--output {} is a file, and this format is a directory of files; choose another", output.string());
  for (const char* name : {kAdapterTensors, kAdapterSettings})
    if (fs::exists(output / name))
      fail(kExitUsage,
           "{} holds an adapter, which transformers would apply to the model that is written there; choose another --output",
           output.string());
  bool holds_model = false;
  for (const auto& entry : fs::directory_iterator(output)) {
    const std::string name = entry.path().filename().string();
    const bool shard = name.starts_with("model-") && name.find("-of-") != std::string::npos && name.ends_with(".safetensors");
    const bool weights = shard || name == kSingleFile || name == kIndexFile;
    holds_model |= weights || name == "config.json";
    if (weights || name == "config.json" || is_tokenizer_file(name)) old.push_back(entry.path());
  }
  if (!old.empty() && !options.overwrite)
    fail(kExitUsage, "--output {} holds {}; choose another, or --overwrite to drop what is there", output.string(),
         holds_model ? "a model" : "a tokenizer");
  std::sort(old.begin(), old.end());
  return old;
}

// What exports that were killed have left there.
void remove_unfinished(const fs::path& output) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(output, none)) {
    const std::string name = entry.path().filename().string();
    const size_t begin = std::string_view(kMadeHere).size();
    pid_t process = 0;
    const auto [end, error] = std::from_chars(name.data() + std::min(begin, name.size()), name.data() + name.size(), process);
    const bool ours = name.starts_with(kMadeHere) && error == std::errc() && end == name.data() + name.size() && process > 0;
    if (ours && ::kill(process, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), none);
  }
}

// The modules of each file.
std::vector<std::vector<Module>> split(const LlamaConfig& config, uint64_t most, const ShardParts& parts) {
  std::vector<std::vector<Module>> files(1);
  uint64_t size = 0;
  for (const Module& m : modules(config)) {
    uint64_t bytes = 0;
    for (const TensorSpec& spec : parts.specs(m))
      bytes += static_cast<uint64_t>(element_count(spec.shape) * file_dtype_bits(spec.dtype) / 8);
    if (size + bytes > most && !files.back().empty()) files.emplace_back(), size = 0;
    files.back().push_back(m);
    size += bytes;
  }
  return files;
}

}  // namespace

void check_model_output(const Options& options, const ModelSource& source) { replaced_files(options, source.directory); }

Exported write_model_directory(const Options& options, const ModelSource& source,
                               const std::function<std::vector<std::string>(const fs::path&)>& write) {
  const std::vector<fs::path> old = replaced_files(options, source.directory);
  // The new model is made beside the old one, so whatever ends this leaves the old one whole.
  remove_unfinished(options.output);
  const fs::path made = options.output / fmt::format("{}{}", kMadeHere, getpid());
  fs::create_directories(made);
  Exported exported{.directory = options.output, .files = {}};
  try {
    exported.files = write(made);
  } catch (...) {
    std::error_code none;
    fs::remove_all(made, none);
    fs::remove(options.output, none);  // only if it is empty
    throw;
  }
  const KeepFromStopping keep;
  for (const fs::path& path : old) fs::remove(path);
  std::vector<fs::path> files(fs::directory_iterator(made), {});
  std::sort(files.begin(), files.end());
  std::stable_partition(files.begin(), files.end(), [](const fs::path& f) { return f.filename() != "config.json"; });
  for (const fs::path& file : files) fs::rename(file, options.output / file.filename());  // config.json last
  fs::remove(made);
  flush_directory(options.output);
  for (const fs::path& file : files) {
    const std::string name = file.filename().string();
    if (std::find(exported.files.begin(), exported.files.end(), name) == exported.files.end()) exported.files.push_back(name);
  }
  return exported;
}

std::vector<std::string> write_shards(const fs::path& to, const LlamaConfig& config, uint64_t most, const char* activity,
                                      const ShardParts& parts) {
  Phase phase(activity, parameter_count(config));
  const std::vector<std::vector<Module>> files = split(config, most, parts);
  std::vector<std::string> names;
  Json index = Json::object();
  uint64_t total = 0;
  for (size_t i = 0; i < files.size(); i++) {
    names.push_back(files.size() == 1 ? kSingleFile : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size()));
    std::vector<TensorSpec> specs;
    for (const Module& m : files[i])
      for (TensorSpec& spec : parts.specs(m)) specs.push_back(std::move(spec));
    SafetensorsWriter writer(to / names.back(), specs);
    for (const TensorInfo& t : writer.order()) index[t.name] = names.back(), total += t.end - t.begin;
    for (const Module& m : files[i]) {
      parts.write(m, writer);
      phase.advance(m.rows * std::max<int64_t>(m.cols, 1));
    }
    writer.commit();
  }
  if (files.size() > 1) {
    write_json(to / kIndexFile,
               {{"metadata", {{"total_size", total}, {"total_parameters", parameter_count(config)}}}, {"weight_map", index}});
    names.emplace_back(kIndexFile);
  }
  return names;
}

void write_dense(MergedWeights& weights, const Module& module, SafetensorsWriter* writer) {
  const DType type = weights.dtype().type;
  const int64_t step = MergedWeights::rows_of_piece(module);
  const int64_t row_bytes = std::max<int64_t>(module.cols, 1) * static_cast<int64_t>(dtype_bytes(type));
  std::vector<std::byte> piece;
  for (int64_t row = 0; row < module.rows; row += step) {
    const int64_t n = std::min(step, module.rows - row);
    piece.resize(static_cast<size_t>(n * row_bytes));
    weights.read_rows(module, row, n, type, piece.data());
    if (writer) writer->put(module.name + ".weight", static_cast<uint64_t>(row * row_bytes), piece.data(), piece.size());
  }
}

void write_bias(const MergedWeights& weights, const Module& module, SafetensorsWriter* writer) {
  const DType type = weights.dtype().type;
  std::vector<std::byte> values(static_cast<size_t>(module.rows) * dtype_bytes(type));
  weights.read(module.name + ".bias", 0, module.rows, type, values.data());
  if (writer) writer->put(module.name + ".bias", 0, values.data(), values.size());
}

fs::path output_file(const Options& options, const ModelSource& source, const std::string& name) {
  const bool in_directory = fs::is_directory(options.output) || options.output.extension() != ".gguf";
  fs::path file = in_directory ? options.output / name : options.output;
  std::error_code none;
  if (fs::is_directory(file)) fail(kExitUsage, "--output {} is a directory; name a file", file.string());
  if (fs::equivalent(file, source.directory, none) || fs::equivalent(file, options.model, none))
    fail(kExitUsage, "--output {} is the file of the model; choose another, so that the model stays as it is", file.string());
  if (is_gguf(source.directory)) {
    const GgufModel model(source.directory);
    for (const GgufFile& part : model.files())
      if (fs::equivalent(file, part.path(), none))
        fail(kExitUsage, "--output {} is a file of the model; choose another, so that the model stays as it is", file.string());
  }
  if (fs::exists(file) && !options.overwrite)
    fail(kExitUsage, "{} is there already; choose another --output, or --overwrite to replace it", file.string());
  return file;
}

Exported write_output_file(const fs::path& file, std::vector<std::string> notes, const std::function<void()>& write) {
  const fs::path directory = file.parent_path();
  const bool made = !directory.empty() && fs::create_directories(directory);
  try {
    write();
  } catch (...) {
    std::error_code none;
    if (made) fs::remove(directory, none);  // only if it is empty
    throw;
  }
  return {.directory = directory, .files = {file.filename().string()}, .notes = std::move(notes)};
}

}  // namespace tll
