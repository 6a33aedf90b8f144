#include "src/files/known_models.h"

#include "src/base/spelling.h"

namespace tll {
namespace {

struct Shape {
  std::vector<std::string_view> names;
  const Architecture* architecture;
  int32_t vocab_size, hidden, intermediate, layers, heads, kv_heads, head_dim;
  bool tied;
  int32_t max_positions;
  int32_t window = 0;        // of every layer
  int32_t original_max = 0;  // longrope; 0: the frequencies do not depend on the length
};

const std::vector<Shape>& shapes() {
  // clang-format off
  static const std::vector<Shape> all = {
      {{"meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"}, &kLlama, 32000, 4096, 11008, 32, 32, 32, 128, false, 4096},
      {{"meta-llama/Llama-2-13b-hf", "meta-llama/Llama-2-13b-chat-hf"}, &kLlama, 32000, 5120, 13824, 40, 40, 40, 128, false, 4096},
      {{"meta-llama/Llama-2-70b-hf", "meta-llama/Llama-2-70b-chat-hf"}, &kLlama, 32000, 8192, 28672, 80, 64, 8, 128, false, 4096},
      {{"meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct"},
       &kLlama, 128256, 4096, 14336, 32, 32, 8, 128, false, 8192},
      {{"meta-llama/Meta-Llama-3-70B", "meta-llama/Meta-Llama-3-70B-Instruct"},
       &kLlama, 128256, 8192, 28672, 80, 64, 8, 128, false, 8192},
      {{"meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B",
        "meta-llama/Meta-Llama-3.1-8B-Instruct"}, &kLlama, 128256, 4096, 14336, 32, 32, 8, 128, false, 131072},
      {{"meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-70B-Instruct", "meta-llama/Meta-Llama-3.1-70B",
        "meta-llama/Meta-Llama-3.1-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"},
       &kLlama, 128256, 8192, 28672, 80, 64, 8, 128, false, 131072},
      {{"meta-llama/Llama-3.1-405B", "meta-llama/Llama-3.1-405B-Instruct"},
       &kLlama, 128256, 16384, 53248, 126, 128, 8, 128, false, 131072},
      {{"meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"}, &kLlama, 128256, 2048, 8192, 16, 32, 8, 64, true, 131072},
      {{"meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-3B-Instruct"}, &kLlama, 128256, 3072, 8192, 28, 24, 8, 128, true, 131072},
      {{"TinyLlama/TinyLlama-1.1B-Chat-v1.0", "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T", "TinyLlama/TinyLlama_v1.1"},
       &kLlama, 32000, 2048, 5632, 22, 32, 4, 64, false, 2048},
      {{"HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct"}, &kLlama, 49152, 576, 1536, 30, 9, 3, 64, true, 8192},
      {{"HuggingFaceTB/SmolLM2-360M", "HuggingFaceTB/SmolLM2-360M-Instruct"}, &kLlama, 49152, 960, 2560, 32, 15, 5, 64, true, 8192},
      {{"HuggingFaceTB/SmolLM2-1.7B", "HuggingFaceTB/SmolLM2-1.7B-Instruct"},
       &kLlama, 49152, 2048, 8192, 24, 32, 32, 64, true, 8192},
      {{"mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-Instruct-v0.1"},
       &kMistral, 32000, 4096, 14336, 32, 32, 8, 128, false, 32768, 4096},
      {{"mistralai/Mistral-7B-Instruct-v0.2"}, &kMistral, 32000, 4096, 14336, 32, 32, 8, 128, false, 32768},
      {{"mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"},
       &kMistral, 32768, 4096, 14336, 32, 32, 8, 128, false, 32768},
      {{"Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct"}, &kQwen2, 151936, 896, 4864, 24, 14, 2, 64, true, 32768},
      {{"Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B-Instruct"}, &kQwen2, 151936, 1536, 8960, 28, 12, 2, 128, true, 32768},
      {{"Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-3B-Instruct"}, &kQwen2, 151936, 2048, 11008, 36, 16, 2, 128, true, 32768},
      {{"Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"}, &kQwen2, 152064, 3584, 18944, 28, 28, 4, 128, false, 32768},
      {{"Qwen/Qwen2.5-14B", "Qwen/Qwen2.5-14B-Instruct"}, &kQwen2, 152064, 5120, 13824, 48, 40, 8, 128, false, 32768},
      {{"Qwen/Qwen2.5-32B", "Qwen/Qwen2.5-32B-Instruct"}, &kQwen2, 152064, 5120, 27648, 64, 40, 8, 128, false, 32768},
      {{"Qwen/Qwen2.5-72B", "Qwen/Qwen2.5-72B-Instruct"}, &kQwen2, 152064, 8192, 29568, 80, 64, 8, 128, false, 32768},
      {{"Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base"}, &kQwen3, 151936, 1024, 3072, 28, 16, 8, 128, true, 40960},
      {{"Qwen/Qwen3-1.7B", "Qwen/Qwen3-1.7B-Base"}, &kQwen3, 151936, 2048, 6144, 28, 16, 8, 128, true, 40960},
      {{"Qwen/Qwen3-4B", "Qwen/Qwen3-4B-Base"}, &kQwen3, 151936, 2560, 9728, 36, 32, 8, 128, true, 40960},
      {{"Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base"}, &kQwen3, 151936, 4096, 12288, 36, 32, 8, 128, false, 40960},
      {{"Qwen/Qwen3-14B", "Qwen/Qwen3-14B-Base"}, &kQwen3, 151936, 5120, 17408, 40, 40, 8, 128, false, 40960},
      {{"Qwen/Qwen3-32B"}, &kQwen3, 151936, 5120, 25600, 64, 64, 8, 128, false, 40960},
      {{"microsoft/Phi-3-mini-4k-instruct"}, &kPhi3, 32064, 3072, 8192, 32, 32, 32, 96, false, 4096, 2047},
      {{"microsoft/Phi-3-mini-128k-instruct", "microsoft/Phi-3.5-mini-instruct"},
       &kPhi3, 32064, 3072, 8192, 32, 32, 32, 96, false, 131072, 262144, 4096},
  };
  // clang-format on
  return all;
}

std::string_view without_owner(std::string_view name) { return name.substr(name.find('/') + 1); }

}  // namespace

std::optional<KnownModel> known_model(std::string_view name) {
  const std::string wanted = lower_case(name);
  for (const Shape& s : shapes())
    for (const std::string_view known : s.names) {
      if (wanted != lower_case(known) && wanted != lower_case(without_owner(known))) continue;
      LlamaConfig c;
      c.architecture = s.architecture;
      c.vocab_size = s.vocab_size, c.hidden = s.hidden, c.intermediate = s.intermediate, c.layers = s.layers;
      c.heads = s.heads, c.kv_heads = s.kv_heads, c.head_dim = s.head_dim;
      c.tie_embeddings = s.tied, c.max_positions = s.max_positions;
      if (s.window > 0) c.windows.assign(static_cast<size_t>(s.layers), s.window);
      if (s.original_max > 0) c.rope.type = RopeType::longrope, c.rope.original_max = s.original_max;
      return KnownModel{std::string(known), c};
    }
  return std::nullopt;
}

const std::vector<std::string_view>& known_model_names() {
  static const std::vector<std::string_view> all = [] {
    std::vector<std::string_view> names;
    for (const Shape& s : shapes()) names.insert(names.end(), s.names.begin(), s.names.end());
    return names;
  }();
  return all;
}

}  // namespace tll
