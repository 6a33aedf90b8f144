// config.json of a Hugging Face model of one of the architectures in modules.h.
//
// Source: transformers 4.46 and 5.24, models/{llama,mistral,qwen2,qwen3,phi3}/configuration_*.py and modeling_rope_utils.py. The
// keys of both versions are read: rope_theta, rope_scaling and torch_dtype (4), rope_parameters and dtype (5). What an absent key
// means depends on the architecture; in several it is another thing than null.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/files/modules.h"

namespace tll {

struct Quantization;  // src/files/quantization.h

enum class RopeType : uint8_t { plain, linear, llama3, dynamic, yarn, longrope };  // plain is "default" in the file
const char* rope_type_name(RopeType);                                              // as in the file

struct RopeConfig {
  RopeType type = RopeType::plain;
  double theta = 10000;
  double factor = 1;                              // all but plain
  double low = 1, high = 4;                       // llama3: low_freq_factor, high_freq_factor
  int32_t original_max = 8192;                    // llama3, yarn, longrope: original_max_position_embeddings
  double beta_fast = 32, beta_slow = 1;           // yarn
  double mscale = 0, mscale_all_dim = 0;          // yarn; 0: not given
  bool truncate = true;                           // yarn
  std::optional<double> attention_factor;         // yarn, longrope
  std::vector<double> short_factor, long_factor;  // longrope, (D/2)
  // Of a head's values the first int(partial · D) are turned, the others are as they are. Only Phi-3 has other than 1.
  double partial = 1;
  // dynamic: documents with more positions have other frequencies, which depend on each one's length. 0: no such limit.
  int32_t longest = 0;
};

struct LlamaConfig {
  const Architecture* architecture = &kLlama;
  int32_t vocab_size = 0;
  int32_t hidden = 0;
  int32_t intermediate = 0;
  int32_t layers = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t rotary_dim() const { return static_cast<int32_t>(head_dim * rope.partial); }
  int32_t max_positions = 2048;
  double rms_eps = 1e-6;
  bool tie_embeddings = false;
  bool attention_bias = false;  // on q, k, v and o
  bool mlp_bias = false;        // on gate, up and down
  // Of each layer: the keys that a query attends to, its own among them; 0: all up to its own. Empty: 0 for all layers. The
  // layers that have a window have the same.
  std::vector<int32_t> windows;
  int32_t window(int layer) const { return windows.empty() ? 0 : windows[static_cast<size_t>(layer)]; }
  int32_t any_window() const { return windows.empty() ? 0 : *std::max_element(windows.begin(), windows.end()); }
  RopeConfig rope;
  std::optional<int32_t> bos = 1, pad;
  std::vector<int32_t> eos = {2};
  std::string dtype;  // "bfloat16", "float16", "float32" or empty; tensors have their own dtype
  // How the checkpoint's weights are quantised: by quantization_config, or by the files, once they were opened. Null: they are
  // not.
  std::shared_ptr<const Quantization> quantization;
  std::vector<std::string> warnings;  // one line each: keys that are unknown or not used
};

// Reads config.json; the argument is the file, its directory, or a GGUF file (src/files/gguf_model.h). Error (kExitBadFile) with
// file and key for another architecture, a missing size, a wrong type ("48" is not an integer, 48.0 is), sizes that contradict
// each other or overflow, and every known key that changes the mathematics in a way that is not implemented.
LlamaConfig load_config(const std::filesystem::path& directory_or_file);
// The same from text. `where` is the file's name in errors.
LlamaConfig parse_config(std::string_view text, const std::string& where);

// Ids that end a generated text: those of config.json, then those of generation_config.json if the directory, or GGUF file, has
// one.
std::vector<int32_t> load_generation_eos(const std::filesystem::path& directory, const LlamaConfig& config);

}  // namespace tll
