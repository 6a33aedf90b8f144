#include "src/commands/save.h"

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "src/files/find_files.h"
#include "src/files/gguf_model.h"

namespace tll {
namespace {

// What was read leniently is written as transformers has it. Both of its generations find what they look for: 4 reads rope_theta,
// rope_scaling and torch_dtype, 5 rope_parameters and dtype.
void write_for_transformers(Json& config, const LlamaConfig& read, const std::string& dtype) {
  config["model_type"] = read.architecture->model_type;
  config["architectures"] = {read.architecture->causal_lm};
  config["hidden_act"] = "silu";
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "max_position_embeddings", "original_max_position_embeddings", "sliding_window", "max_window_layers"})
    if (config.contains(key) && config[key].is_number_float()) config[key] = config[key].get<int64_t>();  // 64.0
  // Null is an error of transformers 5 in some architectures, where this program takes the default.
  if (config.contains("head_dim")) config["head_dim"] = read.head_dim;
  config["num_key_value_heads"] = read.kv_heads;
  config["torch_dtype"] = config["dtype"] = dtype;
  config.erase("quantization_config");
  const RopeConfig& rope = read.rope;
  Json scaling = Json::object();
  for (const char* key : {"rope_parameters", "rope_scaling"})  // the later wins, if it is not empty
    if (config.contains(key) && config[key].is_object() && !config[key].empty()) scaling = config[key];
  for (const char* key : {"type", "rope_theta"}) scaling.erase(key);
  scaling["rope_type"] = rope_type_name(rope.type);
  if (rope.type == RopeType::llama3 || rope.type == RopeType::yarn || rope.type == RopeType::longrope)
    scaling["original_max_position_embeddings"] = rope.original_max;
  config["rope_theta"] = rope.theta;
  config["rope_scaling"] = rope.type == RopeType::plain ? Json() : scaling;
  if (read.architecture == &kPhi3) {
    config["partial_rotary_factor"] = scaling["partial_rotary_factor"] = rope.partial;
    if (rope.type == RopeType::longrope) {
      // Both read the original length beside the object. transformers 4 wants these three keys in it, and no others.
      config["original_max_position_embeddings"] = rope.original_max;
      Json& old = config["rope_scaling"];
      old["type"] = old["rope_type"];
      for (const char* key : {"rope_type", "original_max_position_embeddings", "partial_rotary_factor"}) old.erase(key);
    }
  }
  scaling["rope_theta"] = rope.theta;
  config["rope_parameters"] = scaling;
}

}  // namespace

void save_adapter(const std::filesystem::path& directory, const Options& options, const AdapterSource& source,
                  const LlamaConfig& config, const std::vector<NamedTensor>& tensors, const float* values) {
  const auto find = [&](const LoraTarget& t, bool is_b) {
    return values + find_tensor(tensors, peft_name(t.module, is_b)).offset;
  };
  std::vector<AdapterPart> parts;
  for (size_t i = 0; i < source.targets.size(); i++) {
    const LoraTarget& t = source.targets[i];
    const double alpha = source.loaded ? source.loaded->modules[i].alpha : options.alpha;
    parts.push_back({t.module, t.rank, alpha, find(t, false), find(t, true)});
  }
  AdapterHeader header = {.base_model = base_name(options),
                          .dropout = options.dropout,
                          .rslora = source.loaded ? source.loaded->config.rslora : options.rslora,
                          .layers = config.layers,
                          .tied = config.tie_embeddings};
  for (const WeightSpec& spec : options.train_embeddings ? weight_specs(config) : std::vector<WeightSpec>())
    for (const NamedTensor& t : tensors)
      if (t.name == peft_name(spec.name)) header.whole.push_back({spec.name, t.shape, values + t.offset});
  write_adapter(directory, header, parts);
}

void save_model(const std::filesystem::path& directory, const std::filesystem::path& config_file,
                const std::vector<NamedTensor>& tensors, const float* values, FileDtype dtype) {
  TLL_CHECK(dtype == FileDtype::F32 || dtype == FileDtype::BF16, "models are written in F32 or BF16");
  std::vector<TensorSpec> specs;
  for (const NamedTensor& t : tensors) specs.push_back({t.name, dtype, t.shape});
  SafetensorsWriter writer(directory / "model.safetensors", specs);
  std::vector<bf16> rounded;
  for (const TensorInfo& info : writer.order()) {
    const NamedTensor& t = find_tensor(tensors, info.name);
    const float* from = values + t.offset;
    if (dtype == FileDtype::F32) {
      writer.append(from, static_cast<size_t>(t.size()) * sizeof(float));
      continue;
    }
    rounded.resize(static_cast<size_t>(t.size()));
    for (size_t i = 0; i < rounded.size(); i++) rounded[i] = round_to_bf16(from[i]);
    writer.append(rounded.data(), rounded.size() * sizeof(bf16));
  }
  writer.commit();
  write_json(directory / "config.json", config_for_transformers(config_file, dtype == FileDtype::F32 ? "float32" : "bfloat16"));
}

Json config_for_transformers(const std::filesystem::path& config_file, const std::string& dtype) {
  const std::string text =
      is_gguf(config_file) ? gguf_config_files(GgufModel(config_file)).at("config.json") : read_file(config_file);
  Json config = parse_json(text, config_file.string());
  write_for_transformers(config, parse_config(text, config_file.string()), dtype);
  return config;
}

Json config_for_transformers(const ModelSource& source, const std::string& dtype) {
  Json config = config_for_transformers(source.config_file, dtype);
  if (source.rows_in_files > 0) config["vocab_size"] = source.config.vocab_size;
  return config;
}

void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to, bool whole_model) {
  const auto wanted = [&](std::string_view name) { return whole_model || name != kGenerationSettings; };
  if (is_gguf(from)) {
    for (const auto& [name, text] : hugging_face_files(GgufModel(from)))
      if (name != "config.json" && wanted(name)) write_file_atomic(to / name, text);
    return;
  }
  for (const char* name : kTokenizerFiles) {
    if (!wanted(name)) continue;
    if (!from.empty() && std::filesystem::exists(from / name)) write_file_atomic(to / name, read_file(from / name));
  }
}

std::string base_name(const Options& options) {
  if (!options.base_name.empty()) return options.base_name;
  const std::filesystem::path model = options.model.empty() ? demo_directory() : options.model;
  const std::string name = hub_name_of(model);
  return name.empty() ? model.string() : name;
}

}  // namespace tll
