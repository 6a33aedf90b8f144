// Covers: src/files/config.cpp src/base/json_object.cpp
#include "src/files/config.h"

#include "dev/fuzz/fuzz.h"
#include "dev/fuzz/mutate.h"
#include "src/files/adapter.h"
#include "src/model/flops.h"
#include "src/model/llama.h"
#include "src/train/optimizer.h"

namespace tll::fuzz {

constexpr const char* kWords[] = {"model_type",
                                  "llama",
                                  "architectures",
                                  "LlamaForCausalLM",
                                  "vocab_size",
                                  "hidden_size",
                                  "intermediate_size",
                                  "num_hidden_layers",
                                  "num_attention_heads",
                                  "num_key_value_heads",
                                  "head_dim",
                                  "max_position_embeddings",
                                  "rms_norm_eps",
                                  "tie_word_embeddings",
                                  "attention_bias",
                                  "mlp_bias",
                                  "hidden_act",
                                  "silu",
                                  "swish",
                                  "attention_dropout",
                                  "rope_theta",
                                  "rope_scaling",
                                  "rope_parameters",
                                  "type",
                                  "rope_type",
                                  "default",
                                  "linear",
                                  "llama3",
                                  "dynamic",
                                  "yarn",
                                  "longrope",
                                  "factor",
                                  "low_freq_factor",
                                  "high_freq_factor",
                                  "original_max_position_embeddings",
                                  "beta_fast",
                                  "beta_slow",
                                  "mscale",
                                  "attention_factor",
                                  "bos_token_id",
                                  "eos_token_id",
                                  "pad_token_id",
                                  "torch_dtype",
                                  "dtype",
                                  "bfloat16",
                                  "quantization_config",
                                  "partial_rotary_factor",
                                  "no_rope_layers"};

std::string mutated(const std::string& bytes, Random& random) { return mutated_json(bytes, random, kWords); }

// Plans a training run with an adapter on every layer, and where that is small, fills the tables of positions.
void read(std::string_view bytes) {
  const LlamaConfig config = parse_config(bytes, "config.json");
  check_lines(config.warnings);
  for (const int32_t id : config.eos) TLL_CHECK(id >= 0 && id < config.vocab_size, "eos {}", id);
  ModelOptions options;
  options.max_tokens = options.max_positions = 64;
  for (const Module& module : adaptable_modules(config)) options.lora.push_back({module, 8, lora_scale(16, 8, false)});
  Llama<float> model(config, options);
  Optimizer optimizer(OptimizerOptions{});
  Arena arena;
  const auto place = [&] {
    model.place_parameters(arena);
    optimizer.place(arena, nullptr, model.trained().name, model.trained().tensors);
    model.place_activations(arena);
  };
  place();
  TLL_CHECK(arena.total() > 0 && step_flops(config, options).of(64, 64) > 0, "{} bytes", arena.total());
  constexpr int64_t kSmall = 1 << 20;
  if (arena.total() > kSmall) return;
  arena.allocate();
  place();
  arena.seal();
  model.initialize(Device{});
}

}  // namespace tll::fuzz
