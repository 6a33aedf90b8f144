#include "src/commands/source.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <set>

#include "data/prepare.h"
#include "data/template.h"
#include "src/base/check.h"
#include "src/commands/from_options.h"
#include "src/files/find_files.h"
#include "src/files/gguf_model.h"
#include "src/files/known_models.h"
#include "src/options/nearest.h"
#include "src/options/option_table.h"
#include "src/train/checkpoint.h"

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

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) fmt::print(stderr, "note: {}\n", note);
}

namespace {

// A name of the Hub, of which there is no directory here.
bool is_published(const std::filesystem::path& model) {
  std::error_code none;
  return !model.empty() && !std::filesystem::exists(model, none) && std::distance(model.begin(), model.end()) <= 2 &&
         model.is_relative() && *model.begin() != "." && *model.begin() != "..";
}
KnownModel published(const std::string& name) {
  if (auto known = known_model(name)) return *known;
  std::vector<std::string_view> names = known_model_names();
  for (const std::string_view full : known_model_names()) names.push_back(full.substr(full.find('/') + 1));
  fail(kExitUsage,
       "--model {}: there is no such directory, and no published model of this name is known{}; for other models give "
       "--config FILE, a config.json",
       in_quotes(name), did_you_mean(nearest(name, names)));
}

// What the files say of quantised weights, where they are there, counts more than config.json.
void read_quantization(ModelSource& source, const Options& options) {
  const bool weighs = options.command != Command::kPrepare && options.command != Command::kShow &&
                      options.command != Command::kTokenize && options.init == InitOption::kPretrained;
  if (!weighs || !source.config.quantization || !has_weights(source.directory)) return;
  auto found = std::make_shared<Quantization>(ModelFiles(source.directory, source.config).quantization());
  source.config.quantization = found->tensors.empty() ? nullptr : std::move(found);
}

std::optional<TemplateName> template_named(std::string_view word) {
  const std::vector<std::string_view>& words = template_names();
  const auto found = std::find(words.begin(), words.end(), word);
  return found == words.end() ? std::nullopt : std::optional(static_cast<TemplateName>(found - words.begin()));
}

// generation_config.json does not always name the mark that ends a turn.
void add_end_marks(ModelSource& source, std::optional<TemplateName> name) {
  for (const std::string_view mark : name ? end_marks(*name) : std::vector<std::string_view>()) {
    const auto id = source.tokenizer ? source.tokenizer->special_id(mark) : std::nullopt;
    if (id && std::find(source.eos.begin(), source.eos.end(), *id) == source.eos.end()) source.eos.push_back(*id);
  }
}

void grow_vocabulary(ModelSource& source, int64_t rows, const std::string& owner) {
  if (rows <= source.config.vocab_size) return;
  if (rows > std::numeric_limits<int32_t>::max()) bad_file("{} has {} tokens, more than ids can count", owner, rows);
  if (source.rows_in_files == 0) source.rows_in_files = source.config.vocab_size;
  source.config.vocab_size = static_cast<int32_t>(rows);
  fmt::print(stderr, "note: {} has {} tokens, and the model {}: embedding and head grow by as many rows as are missing\n", owner,
             rows, source.rows_in_files);
}

bool has_tokenizer_file(const std::filesystem::path& directory) {
  if (is_gguf(directory)) return gguf_has_tokenizer(GgufModel(directory));
  return std::filesystem::exists(directory / "tokenizer.json") || std::filesystem::exists(directory / "tokenizer.model");
}

}  // namespace

TextFiles tokenizer_files(const std::filesystem::path& model, std::vector<std::string>* notes) {
  if (!is_gguf(model)) return model;
  const GgufModel gguf(model);
  std::map<std::string, std::string> files = gguf_config_files(gguf);
  files.merge(gguf_tokenizer_files(gguf, notes));
  return {model, std::move(files)};
}

std::optional<TemplateName> template_in_force(const Options& options, const ModelSource& source, const Dataset& data) {
  if (options.chat_template != TemplateName::kAuto) return options.chat_template;
  return data.template_name.empty() ? recognise_template(source.chat_template) : template_named(data.template_name);
}

void add_end_marks(ModelSource& source, const Dataset& data) { add_end_marks(source, template_named(data.template_name)); }

ModelSource open_model(Options& options, TokenizerNeed need, const std::filesystem::path& adapter) {
  ModelSource source;
  if (options.train_embeddings && need == TokenizerNeed::none) need = TokenizerNeed::wanted;  // its size counts
  if (options.command == Command::kPlan && options.config.empty() && is_published(options.model) &&
      hub_name_of(options.model).empty()) {
    const KnownModel known = published(options.model.string());
    source.name = known.name, source.config = known.config;
    take_targets(options, source.config);
    take_16_bits(options, source.config, {});
    return source;
  }
  const bool bare = options.model.empty() && !options.config.empty();
  if (!bare) {
    source.directory = options.model.empty() ? demo_directory() : options.model;
    // A tokenizer's file stands for the directory that it is in.
    if (std::filesystem::is_regular_file(source.directory) && source.directory.stem() == "tokenizer")
      source.directory = source.directory.has_parent_path() ? source.directory.parent_path() : ".";
    // With a config.json of its own, the directory need not have one.
    if (options.config.empty()) source.directory = find_model(source.directory);
  }
  source.config_file = !options.config.empty()     ? options.config
                       : is_gguf(source.directory) ? source.directory
                                                   : source.directory / "config.json";
  source.config = load_config(source.config_file);
  if (!bare) read_quantization(source, options);
  if (find_row("weights")->taken_by(options.command)) take_quantization(options, source.config);
  if (find_row("targets")->taken_by(options.command)) take_targets(options, source.config);
  const std::filesystem::path& named = options.adapter.empty() ? options.init_adapter : options.adapter;
  const std::filesystem::path& with = adapter.empty() ? named : adapter;
  const int64_t adapter_rows = adapter_vocabulary(with);
  grow_vocabulary(source, adapter_rows, with.string());
  // An adapter's own embedding is in fp32, and may not be rounded.
  if (find_row("weights")->taken_by(options.command) && adapter_rows == 0) take_16_bits(options, source.config, source.directory);
  source.eos = bare ? source.config.eos : load_generation_eos(source.directory, source.config);
  print_notes(source.config.warnings);
  const bool has_tokenizer = !bare && has_tokenizer_file(source.directory);
  if (need == TokenizerNeed::none || (need == TokenizerNeed::wanted && !has_tokenizer)) return source;
  if (bare) fail(kExitUsage, "a tokenizer is needed: name its directory with --model");
  std::vector<std::string> notes;
  const TextFiles files = tokenizer_files(source.directory, &notes);
  print_notes(notes);
  source.tokenizer = has_tokenizer ? Tokenizer::read(files) : Tokenizer::load(source.directory);
  const int32_t tokens = source.tokenizer->vocab_size();
  if (options.train_embeddings)
    grow_vocabulary(source, tokens, "the tokenizer");
  else if (tokens > source.config.vocab_size && find_row("train-embeddings")->taken_by(options.command) && !options.quiet)
    fmt::print(stderr, "note: --train-embeddings gives the model rows for the tokens from id {} on, and trains them\n",
               source.config.vocab_size);
  source.tokenizer->limit_to_model(source.config.vocab_size);
  print_notes(source.tokenizer->warnings());
  for (const int32_t id : source.tokenizer->end_ids())
    if (std::find(source.eos.begin(), source.eos.end(), id) == source.eos.end()) source.eos.push_back(id);
  source.chat_template = read_chat_template(files);
  add_end_marks(source, options.chat_template != TemplateName::kAuto ? std::optional(options.chat_template)
                                                                     : recognise_template(source.chat_template));
  return source;
}

TokenizerSource open_tokenizer(Options& options) {
  const std::filesystem::path& path = options.model;
  const bool alone = !is_gguf(path) && (std::filesystem::is_regular_file(path) ||
                                        (has_tokenizer_file(path) && !std::filesystem::exists(path / "config.json")));
  if (path.empty() || !options.config.empty() || !alone) {
    ModelSource source = open_model(options, TokenizerNeed::required);
    return {std::move(source.tokenizer), std::move(source.chat_template)};
  }
  TokenizerSource source{Tokenizer::load(path),
                         read_chat_template(std::filesystem::is_directory(path) ? path : path.parent_path())};
  print_notes(source.tokenizer->warnings());
  return source;
}

void take_targets(Options& options, const LlamaConfig& config) {
  const std::vector<std::string_view> names = adaptable_names(*config.architecture);
  const std::vector<Module> all = adaptable_modules(config);
  const std::vector<Module> block(all.begin(), all.begin() + static_cast<ptrdiff_t>(names.size()));
  const bool every = options.targets.size() == adaptable_names().size();
  for (const std::string& target : every ? std::vector<std::string>() : options.targets)
    if (std::none_of(block.begin(), block.end(), [&](const Module& m) { return m.is_among({target}); }))
      fail(kExitUsage, "--targets {}: {} has no such layer; it has {}", target, config.architecture->causal_lm,
           fmt::join(names, ", "));
  std::vector<std::string> meant;
  for (const Module& m : block)
    if (m.is_among(options.targets)) meant.emplace_back(m.short_name());
  // A layer that was named by a part of it alone.
  for (const Module& m : block) {
    const auto named = [&](std::string_view name) {
      return std::find(options.targets.begin(), options.targets.end(), name) != options.targets.end();
    };
    const std::vector<std::string_view> parts = m.part_names();
    if (!every && !options.quiet && !named(m.short_name()) && std::any_of(parts.begin(), parts.end(), named) &&
        !std::all_of(parts.begin(), parts.end(), named))
      fmt::print(stderr, "note: {} are one layer of this model, {}, and its adapter changes all of them\n",
                 fmt::join(parts, ", "), m.short_name());
  }
  options.targets = meant;
}

AdapterSource open_adapter(const Options& options, const LlamaConfig& config, const std::filesystem::path& directory) {
  AdapterSource source;
  if (!directory.empty()) {
    const auto checkpoint = newest_checkpoint(directory);
    if (checkpoint && !std::filesystem::exists(directory / kAdapterSettings) &&
        std::filesystem::exists(checkpoint->path / kAdapterSettings))
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
    if (module.is_among(options.targets)) source.targets.push_back({module, static_cast<int>(options.rank), scale});
  return source;
}

ModelFiles open_files(const ModelSource& source) {
  LlamaConfig of_files = source.config;
  if (source.rows_in_files > 0) of_files.vocab_size = source.rows_in_files;
  ModelFiles files(source.directory, of_files);
  for (const Module& m : source.rows_in_files > 0 ? modules(source.config) : std::vector<Module>()) {
    if (m.joint != Joint::embed && m.joint != Joint::head) continue;
    if (files.quantized(m.name + ".weight"))
      bad_file("{}: {} is quantised, and no rows can be added to it; give a model whose embedding and head are not",
               source.directory.string(), m.name);
    files.add_mean_rows(m.name + ".weight", source.config.vocab_size);
  }
  return files;
}

ModelFiles open_weights(const ModelSource& source, const AdapterSource& adapter, Replaces replaces) {
  ModelFiles files = open_files(source);
  print_notes(files.warnings());
  std::vector<std::string> replaced;
  for (const BaseTensor& tensor : adapter.loaded ? adapter.loaded->base_tensors : std::vector<BaseTensor>()) {
    const SafetensorsFile& file = *adapter.loaded->file;
    const bool tied = source.config.tie_embeddings && tensor.name == "lm_head.weight";
    const std::string name = tied ? "model.embed_tokens.weight" : tensor.name;
    if (!files.replace(name, file, *tensor.info)) continue;
    const bool outside = name == "model.embed_tokens.weight" || name == "lm_head.weight";
    if (tensor.only_equal || replaces == Replaces::none || (replaces == Replaces::trained && !outside))
      bad_file("{}: {} differs from the base model's, {}", file.path().string(), tensor.name,
               tensor.only_equal
                   ? "where embedding and head are one tensor, and modules_to_save makes two of it; merge the adapter "
                     "into the model with PEFT, and use the result"
               : outside ? "and is trained here only with --train-embeddings: add it, or use the model that export "
                           "--format merged makes"
                         : "and an adapter that is trained here has no place for it; merge the adapter into the model with "
                           "export --format merged, and use the result");
    replaced.push_back(tensor.name);
  }
  if (!replaced.empty())
    fmt::print(stderr, "note: {}: {}{} used in place of the base model's\n", adapter.loaded->file->path().string(), replaced[0],
               replaced.size() == 1 ? " is" : fmt::format(" and {} more are", replaced.size() - 1));
  return files;
}

AdapterSource open_named_adapter(const Options& options, const LlamaConfig& config) {
  return options.adapter.empty() ? AdapterSource{} : open_adapter(options, config, options.adapter);
}

void print_notes(const Options& options, const PrepareReport& report) {
  if (options.quiet) return;
  for (const std::string& note : report.notes()) fmt::print(stderr, "note: {}\n", note);
}

void refuse_other_choices(const Options& options, const std::filesystem::path& path, const Dataset& data) {
  if (!is_prepared_file(path)) return;
  const bool same_template = options.chat_template == TemplateName::kAuto ||
                             template_names()[static_cast<size_t>(options.chat_template)] == data.template_name;
  const bool of_data = options.command != Command::kExport;  // whose --format is that of the result
  const std::pair<const char*, bool> choices[] = {{"format", !of_data || options.data_format == data.format},
                                                  {"columns", options.columns.empty()},
                                                  {"template", same_template},
                                                  {"system", options.system.empty()},
                                                  {"template-date", false},
                                                  {"train-on", options.train_on == data.train_on},
                                                  {"long", options.long_samples == data.long_samples},
                                                  {"parse-special", false}};
  for (const auto& [name, same] : choices) {
    if (options.given(name) && !same)
      fail(kExitUsage,
           "--{} changes nothing in {}, which is prepared (template {}, trained on {}); run `prepare` with it, or leave it out",
           name, path.string(), data.template_name.empty() ? "none" : data.template_name,
           train_on_names()[static_cast<size_t>(data.train_on)]);
  }
}

void refuse_output_over_inputs(const Options& options, const std::filesystem::path& output, const char* option) {
  namespace fs = std::filesystem;
  std::error_code none;
  if (!fs::exists(output, none)) return;
  const auto refuse = [&](const fs::path& file, const char* of) {
    if (fs::equivalent(output, file, none))
      fail(kExitUsage, "--{} is a file of --{}, {}, which would be lost; name another file", option, of, file.string());
  };
  refuse(options.data, "data"), refuse(options.valid_data, "valid-data"), refuse(options.config, "config");
  const std::pair<const char*, fs::path> places[] = {{"model", options.model.empty() ? fs::path("data/demo") : options.model},
                                                     {"adapter", options.adapter},
                                                     {"init-adapter", options.init_adapter}};
  for (const auto& [of, place] : places) {
    refuse(place, of);
    for (const auto& entry : fs::directory_iterator(place, none)) refuse(entry.path(), of);
  }
}

void adopt_adapter(Options& options, const Adapter& adapter) {
  std::set<std::string> ranks, alphas, modules;
  for (const AdapterModule& m : adapter.modules) {
    ranks.insert(std::to_string(m.rank));
    alphas.insert(fmt::format("{}", m.alpha));
    modules.emplace(m.module.short_name());
  }
  const auto require = [&](const char* option, const std::set<std::string>& asked, const std::set<std::string>& has) {
    if (options.given(option) && asked != has)
      fail(kExitUsage, "--{} {} was asked for, and the adapter to start from has {}: leave --{} out, or start a new adapter",
           option, fmt::join(asked, ","), fmt::join(has, ","), option);
  };
  require("rank", {std::to_string(options.rank)}, ranks);
  require("alpha", {fmt::format("{}", options.alpha)}, alphas);
  require("targets", {options.targets.begin(), options.targets.end()}, modules);
  const bool rslora = adapter.config.rslora;
  require("rslora", {options.rslora ? "on" : "off"}, {rslora ? "on" : "off"});
  const AdapterModule& first = adapter.modules.front();
  options.rank = first.rank, options.alpha = first.alpha, options.rslora = rslora;
  std::erase_if(options.targets, [&](const std::string& name) { return !modules.contains(name); });
}

}  // namespace tll
