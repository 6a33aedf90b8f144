#include "src/files/modules.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/files/config.h"

namespace tll {
namespace {

using Config = LlamaConfig;
int64_t hidden(const Config& c) { return c.hidden; }
int64_t intermediate(const Config& c) { return c.intermediate; }
int64_t vocabulary(const Config& c) { return c.vocab_size; }
int64_t queries(const Config& c) { return int64_t(c.heads) * c.head_dim; }
int64_t keys(const Config& c) { return int64_t(c.kv_heads) * c.head_dim; }
int64_t queries_keys_values(const Config& c) { return queries(c) + 2 * keys(c); }
int64_t gates_and_ups(const Config& c) { return 2 * int64_t(c.intermediate); }
int64_t head_dim(const Config& c) { return c.head_dim; }
int64_t untied_vocabulary(const Config& c) { return c.tie_embeddings ? 0 : c.vocab_size; }
bool attention_bias(const Config& c) { return c.attention_bias; }
bool mlp_bias(const Config& c) { return c.mlp_bias; }
bool always(const Config&) { return true; }

constexpr ModuleRow kEmbedding[] = {{"model.embed_tokens", Joint::embed, vocabulary, hidden}};
constexpr ModuleRow kLlamaBlock[] = {
    {"input_layernorm", Joint::norm1, hidden},
    {"self_attn.q_proj", Joint::qkv, queries, hidden, attention_bias, true},
    {"self_attn.k_proj", Joint::qkv, keys, hidden, attention_bias, true},
    {"self_attn.v_proj", Joint::qkv, keys, hidden, attention_bias, true},
    {"self_attn.o_proj", Joint::o, hidden, queries, attention_bias, true},
    {"post_attention_layernorm", Joint::norm2, hidden},
    {"mlp.gate_proj", Joint::gate_up, intermediate, hidden, mlp_bias, true},
    {"mlp.up_proj", Joint::gate_up, intermediate, hidden, mlp_bias, true},
    {"mlp.down_proj", Joint::down, hidden, intermediate, mlp_bias, true},
};
constexpr ModuleRow kQwen2Block[] = {
    {"input_layernorm", Joint::norm1, hidden},
    {"self_attn.q_proj", Joint::qkv, queries, hidden, always, true},
    {"self_attn.k_proj", Joint::qkv, keys, hidden, always, true},
    {"self_attn.v_proj", Joint::qkv, keys, hidden, always, true},
    {"self_attn.o_proj", Joint::o, hidden, queries, nullptr, true},
    {"post_attention_layernorm", Joint::norm2, hidden},
    {"mlp.gate_proj", Joint::gate_up, intermediate, hidden, nullptr, true},
    {"mlp.up_proj", Joint::gate_up, intermediate, hidden, nullptr, true},
    {"mlp.down_proj", Joint::down, hidden, intermediate, nullptr, true},
};
constexpr ModuleRow kQwen3Block[] = {
    {"input_layernorm", Joint::norm1, hidden},
    {"self_attn.q_proj", Joint::qkv, queries, hidden, attention_bias, true},
    {"self_attn.k_proj", Joint::qkv, keys, hidden, attention_bias, true},
    {"self_attn.v_proj", Joint::qkv, keys, hidden, attention_bias, true},
    {"self_attn.q_norm", Joint::q_norm, head_dim},
    {"self_attn.k_norm", Joint::k_norm, head_dim},
    {"self_attn.o_proj", Joint::o, hidden, queries, attention_bias, true},
    {"post_attention_layernorm", Joint::norm2, hidden},
    {"mlp.gate_proj", Joint::gate_up, intermediate, hidden, nullptr, true},
    {"mlp.up_proj", Joint::gate_up, intermediate, hidden, nullptr, true},
    {"mlp.down_proj", Joint::down, hidden, intermediate, nullptr, true},
};
constexpr ModuleRow kPhi3Block[] = {
    {"input_layernorm", Joint::norm1, hidden},
    {"self_attn.qkv_proj", Joint::qkv, queries_keys_values, hidden, nullptr, true, "q_proj k_proj v_proj"},
    {"self_attn.o_proj", Joint::o, hidden, queries, nullptr, true},
    {"post_attention_layernorm", Joint::norm2, hidden},
    {"mlp.gate_up_proj", Joint::gate_up, gates_and_ups, hidden, nullptr, true, "gate_proj up_proj"},
    {"mlp.down_proj", Joint::down, hidden, intermediate, nullptr, true},
};
constexpr ModuleRow kHead[] = {{"model.norm", Joint::final_norm, hidden}, {"lm_head", Joint::head, untied_vocabulary, hidden}};

constexpr const Architecture* kArchitectures[] = {&kLlama, &kMistral, &kQwen2, &kQwen3, &kPhi3};

std::string_view last_part(std::string_view name) { return name.substr(name.rfind('.') + 1); }

void add(std::vector<Module>& to, const Config& config, std::span<const ModuleRow> rows, int layer) {
  const size_t begin = to.size();
  const std::string prefix = layer >= 0 ? fmt::format("model.layers.{}.", layer) : "";
  for (const ModuleRow& row : rows) {
    const int64_t height = row.rows(config);
    if (height == 0) continue;
    int64_t first_row = 0;
    for (size_t i = begin; i < to.size(); i++)
      if (to[i].joint == row.joint) first_row = to[i].first_row + to[i].rows;
    to.push_back({prefix + std::string(row.name), layer, row.joint, first_row, height, row.cols ? row.cols(config) : 0,
                  row.bias && row.bias(config), row.adaptable, row.parts});
  }
}

}  // namespace

constinit const Architecture kLlama = {"llama", "LlamaForCausalLM", kEmbedding, kLlamaBlock, kHead};
constinit const Architecture kMistral = {"mistral", "MistralForCausalLM", kEmbedding, kLlamaBlock, kHead};
constinit const Architecture kQwen2 = {"qwen2", "Qwen2ForCausalLM", kEmbedding, kQwen2Block, kHead};
constinit const Architecture kQwen3 = {"qwen3", "Qwen3ForCausalLM", kEmbedding, kQwen3Block, kHead};
constinit const Architecture kPhi3 = {"phi3", "Phi3ForCausalLM", kEmbedding, kPhi3Block, kHead};

std::span<const Architecture* const> architectures() { return kArchitectures; }

const Architecture* architecture_of(std::string_view model_type) {
  for (const Architecture* architecture : kArchitectures)
    if (architecture->model_type == model_type) return architecture;
  return nullptr;
}

const char* joint_name(Joint joint) {
  constexpr const char* names[] = {"embed", "norm1",   "qkv",  "q_norm",     "k_norm", "o",
                                   "norm2", "gate_up", "down", "final_norm", "head"};
  return names[static_cast<size_t>(joint)];
}

const std::vector<std::string_view>& adaptable_names() {
  static const std::vector<std::string_view> all = [] {
    std::vector<std::string_view> names;
    for (const Architecture* architecture : kArchitectures)
      for (const std::string_view name : adaptable_names(*architecture))
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    return names;
  }();
  return all;
}

std::vector<std::string_view> adaptable_names(const Architecture& architecture) {
  std::vector<std::string_view> names;
  for (const ModuleRow& row : architecture.block)
    if (row.adaptable) names.push_back(last_part(row.name));
  return names;
}

std::string_view Module::short_name() const { return last_part(name); }

std::vector<std::string_view> Module::part_names() const {
  std::vector<std::string_view> names;
  for (std::string_view rest = parts; !rest.empty();) {
    const size_t end = std::min(rest.size(), rest.find(' '));
    names.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(rest.size(), end + 1));
  }
  return names;
}

bool Module::is_among(const std::vector<std::string>& names) const {
  const std::vector<std::string_view> all = part_names();
  const auto is_part = [&](std::string_view name) { return std::find(all.begin(), all.end(), name) != all.end(); };
  const std::string_view own = short_name();
  return std::any_of(names.begin(), names.end(), [&](const std::string& n) { return n == own || is_part(n); });
}

std::vector<Module> modules(const LlamaConfig& config) {
  std::vector<Module> all;
  add(all, config, config.architecture->outside_first, -1);
  for (int layer = 0; layer < config.layers; layer++) add(all, config, config.architecture->block, layer);
  add(all, config, config.architecture->outside_last, -1);
  return all;
}

std::vector<Module> adaptable_modules(const LlamaConfig& config) {
  std::vector<Module> found = modules(config);
  std::erase_if(found, [](const Module& m) { return !m.adaptable; });
  return found;
}

std::vector<WeightSpec> weight_specs(const LlamaConfig& config) {
  std::vector<WeightSpec> specs;
  for (const Module& m : modules(config)) {
    specs.push_back({m.name + ".weight", m.shape()});
    if (m.bias) specs.push_back({m.name + ".bias", {m.rows}});
  }
  return specs;
}

int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

int64_t parameter_count(const LlamaConfig& config) {
  int64_t count = 0;
  for (const WeightSpec& spec : weight_specs(config)) count += element_count(spec.shape);
  return count;
}

}  // namespace tll
