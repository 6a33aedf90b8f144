// LoRA adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors.
//
//   y = W x + scale · B (A x)      A [r, in], B [out, r];   scale = alpha / r, or alpha / √r with use_rslora
//
// Source: PEFT 0.21, tuners/lora/config.py, tuners/tuners_utils.py, utils/save_and_load.py. If the names in an adapter do not fit
// the model, PEFT warns and uses an untrained adapter; here that is an error.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/files/config.h"
#include "src/files/safetensors.h"

namespace tll {

inline constexpr const char kAdapterTensors[] = "adapter_model.safetensors", kAdapterSettings[] = "adapter_config.json";

// adapter_config.json.
struct AdapterConfig {
  int32_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool rslora = false;
  std::string base_model;
  // A module is a target if its name equals an entry or ends with "." + entry. With target_pattern it is a target if that
  // regular expression matches its whole name; "all-linear" means every linear layer except the head. Exclusions take precedence.
  std::set<std::string, std::less<>> target_modules = {"q_proj", "v_proj"}, exclude_modules;
  std::string target_pattern, exclude_pattern;
  std::optional<std::set<int64_t>> layers;   // layers_to_transform; does not restrict full names
  std::vector<std::string> layers_pattern;   // regular expressions for what stands before a layer's number
  std::vector<std::string> modules_to_save;  // ends of names: their weights are in the file as a whole
  bool ensure_weight_tying = false;          // PEFT 0.18: a saved embedding and the head that is tied to it stay one tensor
  // Regular expressions for the end of a name. The first that matches, in the order of the file, gives the value.
  std::vector<std::pair<std::string, double>> rank_pattern, alpha_pattern;
  std::vector<std::string> warnings;
};

// alpha / rank, or alpha / √rank with rslora.
double lora_scale(double alpha, int rank, bool rslora);

// "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"
std::string peft_name(const Module& module, bool is_b);
// Of a tensor of the base model that is in the adapter as a whole: "base_model.model.lm_head.weight".
std::string peft_name(const std::string& base_tensor);

// One adapted linear layer.
struct AdapterModule {
  Module module;
  int rank;
  double alpha, scale;
  std::vector<float> a;  // (r, in)
  std::vector<float> b;  // (out, r)
  bool b_is_zero = false;
};

// A tensor of the adapter's file that PEFT loads over one of the base model's: an embedding or head that was resized or trained
// (modules_to_save, save_embedding_layers), or a trained bias.
struct BaseTensor {
  std::string name;        // of the base model: "lm_head.weight"
  const TensorInfo* info;  // in Adapter::file
  bool only_equal;         // PEFT makes two tensors of a tied embedding and head here, which is not implemented
};

struct Adapter {
  AdapterConfig config;
  std::vector<AdapterModule> modules;  // in the order of adaptable_modules()
  std::shared_ptr<const SafetensorsFile> file;
  std::vector<BaseTensor> base_tensors;
  std::vector<std::string> warnings;
  void drop_values();  // empties a and b of all modules
};

AdapterConfig parse_adapter_config(std::string_view text, const std::string& where);

// Which of a model's adaptable modules the configuration names. Error (kExitBadFile) if it names none of them, or lm_head or
// embed_tokens.
std::vector<bool> targets_among(const std::vector<Module>& adaptable, const AdapterConfig& adapter, const std::string& where);

// Reads both files and checks them against the model and against each other: every target has A and B with the right shapes, and
// besides these the file holds tensors of the base model only. Ranks come from the tensors; if the configuration has other ranks,
// that is a warning. (PEFT refuses that, also where it is to blame: it changes the order of patterns when it saves them.)
Adapter read_adapter(const std::filesystem::path& directory, const LlamaConfig& model);

// Rows of the embedding or head that the directory's adapter has as a whole: the vocabulary that it was trained with. 0: it has
// none, or there is no adapter.
int64_t adapter_vocabulary(const std::filesystem::path& directory);

// An adapted layer to write. a and b belong to the caller.
struct AdapterPart {
  Module module;
  int rank;
  double alpha;
  const float* a;  // (r, in)
  const float* b;  // (out, r)
};
// A tensor of the base model, of F32, that was trained as a whole.
struct WholeTensor {
  std::string name;  // of the base model: "model.embed_tokens.weight"
  std::vector<int64_t> shape;
  const float* values;  // belong to the caller
};
struct AdapterHeader {
  std::string base_model;
  double dropout = 0;
  bool rslora = false;
  int layers = 0;  // of the model: where every module is adapted in all of them, short names are written
  // The embedding, and the head if it is another tensor: modules_to_save. Of a tied model the one tensor is written under both
  // names, as PEFT does with ensure_weight_tying, and PEFT before 0.18 reads two equal ones.
  std::vector<WholeTensor> whole = {};
  bool tied = false;
};
// Writes adapter_model.safetensors (float) and adapter_config.json, each atomically, into an existing directory. The
// configuration holds only keys that every version of PEFT since 0.5 understands; with the embedding of a tied model
// ensure_weight_tying too, which versions before 0.14 refuse.
void write_adapter(const std::filesystem::path& directory, const AdapterHeader& header, const std::vector<AdapterPart>& parts);

}  // namespace tll
