#include "src/commands/source.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/files/find_files.h"
#include "src/train/checkpoint.h"

namespace tll {

std::filesystem::path demo_directory() {
  const std::filesystem::path here = "data/demo";
  if (std::filesystem::exists(here / "config.json")) return here;
  std::error_code none;
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe", none).parent_path() / "data" / "demo";
  if (std::filesystem::exists(beside / "config.json")) return beside;
  bad_file("the demo model was not found in {} or {}; name a model with --model DIR", here.string(), beside.string());
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) fmt::print(stderr, "note: {}\n", note);
}

ModelSource open_model(const Options& options, TokenizerNeed need) {
  ModelSource source;
  const bool bare = options.model.empty() && !options.config.empty();
  if (!bare) {
    source.directory = options.model.empty() ? demo_directory() : options.model;
    // With a config.json of its own, the directory need not have one.
    if (options.config.empty()) source.directory = find_model(source.directory);
  }
  source.config_file = options.config.empty() ? source.directory / "config.json" : options.config;
  source.config = load_config(source.config_file);
  source.eos = bare ? source.config.eos : load_generation_eos(source.directory, source.config);
  print_notes(source.config.warnings);
  const bool has_tokenizer = !bare && (std::filesystem::exists(source.directory / "tokenizer.json") ||
                                       std::filesystem::exists(source.directory / "tokenizer.model"));
  if (need == TokenizerNeed::none || (need == TokenizerNeed::wanted && !has_tokenizer)) return source;
  if (bare) fail(kExitUsage, "a tokenizer is needed: name its directory with --model");
  source.tokenizer = Tokenizer::load(source.directory);
  print_notes(source.tokenizer->warnings());
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
    const auto checkpoint = newest_checkpoint(directory);
    if (checkpoint && !std::filesystem::exists(directory / "adapter_config.json") &&
        std::filesystem::exists(checkpoint->path / "adapter_config.json"))
      bad_file(
          "{}: there is no adapter, since its run did not end; finish the run with --resume, or give its newest checkpoint: {}",
          directory.string(), checkpoint->path.string());
    source.loaded = read_adapter(directory, config);
    print_notes(source.loaded->warnings);
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
