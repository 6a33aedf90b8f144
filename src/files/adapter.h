// LoRA adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors.
//
//   y = W x + scale · B (A x)      A [r, in], B [out, r];   scale = alpha / r, or alpha / √r with use_rslora
//
// Source: PEFT 0.21, tuners/lora/config.py, tuners/tuners_utils.py, utils/save_and_load.py. PEFT takes an adapter whose names do
// not fit for an untrained one and only warns; here that is an error.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/files/config.h"

namespace tll {

// adapter_config.json.
struct AdapterConfig {
  int32_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool rslora = false;
  std::string base_model;
  // A module is a target if its name equals an entry or ends with "." + entry; or, where target_pattern is given, if that
  // regular expression matches the whole name ("all-linear": every linear layer but the head). Exclusions win.
  std::set<std::string, std::less<>> target_modules = {"q_proj", "v_proj"}, exclude_modules;
  std::string target_pattern, exclude_pattern;
  std::optional<std::set<int64_t>> layers;  // layers_to_transform: restricts entries that are not full names
  std::vector<std::string> layers_pattern;
  // Regular expressions for the end of a name; the first that matches, in the order of the file, gives the value.
  std::vector<std::pair<std::string, double>> rank_pattern, alpha_pattern;
  std::vector<std::string> warnings;
};

// The scale of a module's product.
double lora_scale(double alpha, int rank, bool rslora);

// "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"
std::string peft_name(const Module& module, bool is_b);

// One adapted linear layer.
struct AdapterModule {
  Module module;
  int rank;
  double alpha, scale;
  std::vector<float> a;  // (r, in)
  std::vector<float> b;  // (out, r)
};

struct Adapter {
  AdapterConfig config;
  std::vector<AdapterModule> modules;  // in the order of adaptable_modules()
  std::vector<std::string> warnings;
};

AdapterConfig parse_adapter_config(std::string_view text, const std::string& where);

// Which of a model's adaptable modules the configuration names. Refused: none, or others (lm_head, embed_tokens).
std::vector<bool> targets_among(const std::vector<Module>& adaptable, const AdapterConfig& adapter, const std::string& where);

// Reads both files and checks them against the model and against each other: every target has A and B of fitting shapes, and
// nothing else is in the file. Ranks come from the tensors; where the configuration says otherwise, that is a warning.
Adapter read_adapter(const std::filesystem::path& directory, const LlamaConfig& model);

// What is to be written; a and b are the caller's.
struct AdapterPart {
  Module module;
  int rank;
  double alpha;
  const float* a;  // (r, in)
  const float* b;  // (out, r)
};
struct AdapterHeader {
  std::string base_model;
  double dropout = 0;
  bool rslora = false;
  int layers = 0;  // of the model: decides whether short names ("q_proj") say it all
};
// Writes adapter_model.safetensors (float) and adapter_config.json, each atomically, into an existing directory. The
// configuration holds only keys that every version of PEFT since 0.5 understands.
void write_adapter(const std::filesystem::path& directory, const AdapterHeader& header, const std::vector<AdapterPart>& parts);

}  // namespace tll
