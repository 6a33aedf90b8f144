// The list of the model's tensors. It is written once, here: loading, planning and saving walk it.
#include "src/base/check.h"
#include "src/files/config.h"

namespace tll {

std::string module_path(int layer, Target target) {
  const char* part = target <= Target::o ? "self_attn" : "mlp";
  return fmt::format("model.layers.{}.{}.{}", layer, part, kTargetNames[size_t(target)]);
}

LinearShape linear_shape(const LlamaConfig& c, Target target) {
  const int64_t q = int64_t(c.heads) * c.head_dim, kv = int64_t(c.kv_heads) * c.head_dim;
  switch (target) {
    case Target::q:
      return {q, c.hidden};
    case Target::k:
    case Target::v:
      return {kv, c.hidden};
    case Target::o:
      return {c.hidden, q};
    case Target::gate:
    case Target::up:
      return {c.intermediate, c.hidden};
    case Target::down:
      return {c.hidden, c.intermediate};
  }
  check_failed("a known target", __FILE__, __LINE__, fmt::format("{}", int(target)));
}

std::vector<WeightSpec> weight_specs(const LlamaConfig& c) {
  std::vector<WeightSpec> specs;
  const auto linear = [&](int layer, Target target, bool bias) {
    const LinearShape shape = linear_shape(c, target);
    specs.push_back({module_path(layer, target) + ".weight", {shape.out, shape.in}});
    if (bias) specs.push_back({module_path(layer, target) + ".bias", {shape.out}});
  };
  specs.push_back({"model.embed_tokens.weight", {c.vocab_size, c.hidden}});
  for (int layer = 0; layer < c.layers; layer++) {
    specs.push_back({fmt::format("model.layers.{}.input_layernorm.weight", layer), {c.hidden}});
    for (const Target target : {Target::q, Target::k, Target::v, Target::o}) linear(layer, target, c.attention_bias);
    specs.push_back({fmt::format("model.layers.{}.post_attention_layernorm.weight", layer), {c.hidden}});
    for (const Target target : {Target::gate, Target::up, Target::down}) linear(layer, target, c.mlp_bias);
  }
  specs.push_back({"model.norm.weight", {c.hidden}});
  if (!c.tie_embeddings) specs.push_back({"lm_head.weight", {c.vocab_size, c.hidden}});
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
