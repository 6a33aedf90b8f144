// What training leaves for other programs: an adapter that PEFT loads, or a whole model that transformers loads.
#pragma once

#include <filesystem>

#include "src/base/json.h"
#include "src/commands/source.h"
#include "src/files/safetensors.h"
#include "src/model/llama.h"

namespace tll {

inline constexpr const char* kModelFiles[] = {"model.safetensors", "config.json"};
inline constexpr const char* kGenerationSettings = "generation_config.json";
inline constexpr const char* kTokenizerFiles[] = {"tokenizer.json",          "tokenizer.model",   "tokenizer_config.json",
                                                  "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
                                                  kGenerationSettings};

// adapter_model.safetensors (float) and adapter_config.json, as PEFT loads them. An adapter that was loaded keeps its own ranks
// and scales.
void save_adapter(const std::filesystem::path& directory, const Options& options, const AdapterSource& source,
                  const LlamaConfig& config, const std::vector<NamedTensor>& tensors, const float* values);

// model.safetensors in this type, and config.json with that type named.
void save_model(const std::filesystem::path& directory, const std::filesystem::path& config_file,
                const std::vector<NamedTensor>& tensors, const float* values, FileDtype dtype);

// A model's config.json, or that of a GGUF file, as both generations of transformers read it, for weights that are dense and of
// this type: "bfloat16", …
Json config_for_transformers(const std::filesystem::path& config_file, const std::string& dtype);
// With the size that the vocabulary has grown to.
Json config_for_transformers(const ModelSource& source, const std::string& dtype);

// The tokenizer's files and, of a whole model, generation_config.json, whichever exist.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to, bool whole_model = true);

// What the result names as its base model: --base-name; else the Hub's name if --model is one, or lies in the Hub's cache; else
// the path of --model, or of the demo model.
std::string base_name(const Options& options);

}  // namespace tll
