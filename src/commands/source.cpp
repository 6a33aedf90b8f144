#include "src/commands/source.h"

#include <algorithm>

#include "src/base/check.h"

namespace tll {

std::filesystem::path demo_directory() {
  const std::filesystem::path here = "data/demo";
  if (std::filesystem::exists(here / "config.json")) return here;
  std::error_code none;
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe", none).parent_path() / "data" / "demo";
  if (std::filesystem::exists(beside / "config.json")) return beside;
  bad_file("the demo model was not found in {} or {}; name a model with --model DIR", here.string(), beside.string());
}

namespace {

bool has_tokenizer_file(const std::filesystem::path& directory) {
  return std::filesystem::exists(directory / "tokenizer.json") || std::filesystem::exists(directory / "tokenizer.model");
}

void print_notes(const Tokenizer& tokenizer) {
  for (const std::string& warning : tokenizer.warnings()) fmt::print(stderr, "note: {}\n", warning);
}

}  // namespace

ModelSource open_model(const Options& options, TokenizerNeed need) {
  ModelSource source;
  const bool bare = options.model.empty() && !options.config.empty();
  if (!bare) {
    source.directory = options.model.empty() ? demo_directory() : options.model;
    if (std::filesystem::is_regular_file(source.directory) && source.directory.stem() == "tokenizer")
      source.directory.replace_filename("");
    if (!std::filesystem::exists(source.directory))
      bad_file("{}: no such directory; --model takes one with config.json, model.safetensors and a tokenizer",
               source.directory.string());
  }
  source.config_file = options.config.empty() ? source.directory / "config.json" : options.config;
  source.config = load_config(source.config_file);
  source.eos = bare ? source.config.eos : load_generation_eos(source.directory, source.config);
  for (const std::string& warning : source.config.warnings) fmt::print(stderr, "note: {}\n", warning);
  const bool has_tokenizer = !bare && has_tokenizer_file(source.directory);
  if (need == TokenizerNeed::none || (need == TokenizerNeed::wanted && !has_tokenizer)) return source;
  if (bare) fail(kExitUsage, "a tokenizer is needed: name its directory with --model");
  source.tokenizer = Tokenizer::load(source.directory);
  source.tokenizer->limit_to_model(source.config.vocab_size);
  print_notes(*source.tokenizer);
  for (const int32_t id : source.tokenizer->end_ids())
    if (std::find(source.eos.begin(), source.eos.end(), id) == source.eos.end()) source.eos.push_back(id);
  return source;
}

std::unique_ptr<Tokenizer> open_tokenizer(const Options& options) {
  const std::filesystem::path& path = options.model;
  const bool alone =
      std::filesystem::is_regular_file(path) || (has_tokenizer_file(path) && !std::filesystem::exists(path / "config.json"));
  if (path.empty() || !options.config.empty() || !alone) return open_model(options, TokenizerNeed::required).tokenizer;
  std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(path);
  print_notes(*tokenizer);
  return tokenizer;
}

AdapterSource open_adapter(const Options& options, const LlamaConfig& config, const std::filesystem::path& directory) {
  AdapterSource source;
  if (!directory.empty()) {
    source.loaded = read_adapter(directory, config);
    for (const AdapterModule& m : source.loaded->modules) source.targets.push_back({m.module, m.rank, m.scale});
    return source;
  }
  const double scale = lora_scale(options.alpha, static_cast<int>(options.rank), options.rslora);
  for (const Module& module : adaptable_modules(config))
    if (std::find(options.targets.begin(), options.targets.end(), module.short_name()) != options.targets.end())
      source.targets.push_back({module, static_cast<int>(options.rank), scale});
  return source;
}

AdapterSource open_named_adapter(const Options& options, const LlamaConfig& config) {
  return options.adapter.empty() ? AdapterSource{} : open_adapter(options, config, options.adapter);
}

}  // namespace tll
