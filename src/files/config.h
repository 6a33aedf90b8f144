// config.json of a Hugging Face Llama, and what follows from it: the list of tensors of the model and their names.
//
// Source: transformers 4.46 and 5.23, models/llama/configuration_llama.py and modeling_rope_utils.py. Both generations of
// keys are read: rope_theta + rope_scaling + torch_dtype (4), rope_parameters + dtype (5).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

enum class RopeType : uint8_t { plain, linear, llama3 };  // plain is "default" in the file

struct RopeConfig {
  RopeType type = RopeType::plain;
  double theta = 10000;
  double factor = 1;            // linear, llama3
  double low = 1, high = 4;     // llama3: low_freq_factor, high_freq_factor
  int32_t original_max = 8192;  // llama3: original_max_position_embeddings
};

struct LlamaConfig {
  int32_t vocab_size = 0;
  int32_t hidden = 0;
  int32_t intermediate = 0;
  int32_t layers = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t max_positions = 2048;
  double rms_eps = 1e-6;
  bool tie_embeddings = false;
  bool attention_bias = false;  // on q, k, v and o
  bool mlp_bias = false;        // on gate, up and down
  RopeConfig rope;
  std::optional<int32_t> bos = 1, pad;
  std::vector<int32_t> eos = {2};
  std::string dtype;                  // "bfloat16", "float16", "float32" or empty; each tensor's own dtype rules
  std::vector<std::string> warnings;  // one line each: keys that were not understood or not used
};

// Reads config.json, given itself or its directory. Refused (Error, kExitBadFile, naming file and key): other architectures,
// missing sizes, wrong types (48.0 and "48" are no integers), sizes that contradict each other or overflow, and every key known
// to change the mathematics in a way that is not implemented.
LlamaConfig load_config(const std::filesystem::path& directory_or_file);
// The same from text; `where` is the file's name in errors.
LlamaConfig parse_config(std::string_view text, const std::string& where);

// Ids that end a generated text: those of config.json, then those of generation_config.json where the directory has one.
std::vector<int32_t> load_generation_eos(const std::filesystem::path& directory, const LlamaConfig& config);

// The linear layers of a block, in the order in which everything here lists them.
enum class Target : uint8_t { q, k, v, o, gate, up, down };
inline constexpr const char* kTargetNames[] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
inline constexpr Target kAllTargets[] = {Target::q, Target::k, Target::v, Target::o, Target::gate, Target::up, Target::down};
// "model.layers.3.self_attn.q_proj"
std::string module_path(int layer, Target target);
// y = W x with W [out, in].
struct LinearShape {
  int64_t out, in;
};
LinearShape linear_shape(const LlamaConfig& config, Target target);

// A tensor of the checkpoint. The list is complete and in the order of the forward pass; lm_head only when it is not tied.
struct WeightSpec {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<WeightSpec> weight_specs(const LlamaConfig& config);
int64_t element_count(const std::vector<int64_t>& shape);
int64_t parameter_count(const LlamaConfig& config);

}  // namespace tll
