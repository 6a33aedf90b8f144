#include "src/commands/source.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "src/base/check.h"

namespace tll {

std::filesystem::path demo_directory() {
  std::error_code none;
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe", none).parent_path();
  const std::filesystem::path places[] = {"data/demo", here / "data/demo", here.parent_path() / "share/train_llama_lora/demo"};
  for (const std::filesystem::path& place : places)
    if (std::filesystem::exists(place / "config.json")) return place;
  bad_file("the demo model was not found in {}; name a model with --model DIR",
           fmt::join(std::vector<std::string>{places[0].string(), places[1].string(), places[2].string()}, ", "));
}

ModelSource open_model(const Options& options, TokenizerNeed need) {
  ModelSource source;
  const bool bare = options.model.empty() && !options.config.empty();
  if (!bare) {
    source.directory = options.model.empty() ? demo_directory() : options.model;
    if (!std::filesystem::exists(source.directory))
      bad_file("{}: no such directory; --model takes one with config.json, model.safetensors and a tokenizer",
               source.directory.string());
  }
  source.config_file = options.config.empty() ? source.directory / "config.json" : options.config;
  source.config = load_config(source.config_file);
  source.eos = bare ? source.config.eos : load_generation_eos(source.directory, source.config);
  for (const std::string& warning : source.config.warnings) fmt::print(stderr, "note: {}\n", warning);
  const bool has_tokenizer = !bare && (std::filesystem::exists(source.directory / "tokenizer.json") ||
                                       std::filesystem::exists(source.directory / "tokenizer.model"));
  if (need == TokenizerNeed::none || (need == TokenizerNeed::wanted && !has_tokenizer)) return source;
  if (bare) fail(kExitUsage, "a tokenizer is needed: name its directory with --model");
  source.tokenizer = Tokenizer::load(source.directory);
  for (const std::string& warning : source.tokenizer->warnings()) fmt::print(stderr, "note: {}\n", warning);
  if (source.tokenizer->vocab_size() > source.config.vocab_size)
    bad_file("{}: the tokenizer has ids up to {}, the model's vocab_size is {}", source.directory.string(),
             source.tokenizer->vocab_size() - 1, source.config.vocab_size);
  for (const int32_t id : source.tokenizer->end_ids())
    if (std::find(source.eos.begin(), source.eos.end(), id) == source.eos.end()) source.eos.push_back(id);
  return source;
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
