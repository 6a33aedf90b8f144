#include "src/files/gguf_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <span>
#include <string>
#include <utility>

namespace tll {
namespace {

constexpr GgufTypeRow kTypes[] = {
    {GgufType::F32, "F32", 1, 4},       {GgufType::F16, "F16", 1, 2},       {GgufType::Q4_0, "Q4_0", 32, 18},
    {GgufType::Q4_1, "Q4_1", 32, 20},   {GgufType::Q5_0, "Q5_0", 32, 22},   {GgufType::Q5_1, "Q5_1", 32, 24},
    {GgufType::Q8_0, "Q8_0", 32, 34},   {GgufType::Q4_K, "Q4_K", 256, 144}, {GgufType::Q5_K, "Q5_K", 256, 176},
    {GgufType::Q6_K, "Q6_K", 256, 210}, {GgufType::BF16, "BF16", 1, 2}};

// Types that are not read, and places that had a type which ggml withdrew.
constexpr std::pair<uint32_t, std::string_view> kOthers[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},   {10, "Q2_K"},   {11, "Q3_K"},       {15, "Q8_K"},       {16, "IQ2_XXS"},
    {17, "IQ2_XS"},   {18, "IQ3_XXS"},  {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},      {22, "IQ2_S"},      {23, "IQ4_XS"},
    {24, "I8"},       {25, "I16"},      {26, "I32"},   {27, "I64"},    {28, "F64"},        {29, "IQ1_M"},      {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {34, "TQ1_0"}, {35, "TQ2_0"},  {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"},
    {39, "MXFP4"},    {40, "NVFP4"},    {41, "Q1_0"}};

// A module of Hugging Face's, and GGUF's name of it; in a block without "model.layers.N." and "blk.N.".
struct NameRow {
  std::string_view hf, gguf;
};
constexpr NameRow kOutside[] = {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr NameRow kBlock[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},      {"self_attn.qkv_proj", "attn_qkv"},  {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"}, {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},           {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"}};
constexpr std::string_view kLayers = "model.layers.", kBlocks = "blk.";

// The module and what follows its last dot: "weight" or "bias".
std::pair<std::string_view, std::string_view> split_last(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::pair(name, std::string_view()) : std::pair(name.substr(0, dot), name.substr(dot));
}

// "3.rest" to {3, "rest"}; the number without leading zeros and below the count of layers.
std::optional<std::pair<int, std::string_view>> layer_of(std::string_view text, int layers) {
  int layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  const auto digits = static_cast<size_t>(end - text.data());
  if (error != std::errc() || layer < 0 || layer >= layers || digits >= text.size() || *end != '.') return std::nullopt;
  if (digits > 1 && text[0] == '0') return std::nullopt;
  return std::pair(layer, text.substr(digits + 1));
}

bool has_module(std::span<const ModuleRow> rows, std::string_view name) {
  return std::any_of(rows.begin(), rows.end(), [&](const ModuleRow& row) { return row.name == name; });
}
bool is_outside(const LlamaConfig& config, std::string_view name) {
  return has_module(config.architecture->outside_first, name) || has_module(config.architecture->outside_last, name);
}

}  // namespace

const GgufTypeRow* gguf_type_row(uint32_t number) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const GgufTypeRow& row) { return static_cast<uint32_t>(row.type) == number; });
  return found == std::end(kTypes) ? nullptr : found;
}

const GgufTypeRow& gguf_type_row(GgufType type) { return *gguf_type_row(static_cast<uint32_t>(type)); }

std::string_view gguf_type_name(uint32_t number) {
  if (const GgufTypeRow* row = gguf_type_row(number)) return row->name;
  for (const auto& [other, name] : kOthers)
    if (other == number) return name;
  return "";
}

std::string_view gguf_architecture(const LlamaConfig& config) {
  return config.architecture == &kMistral ? kLlama.model_type : config.architecture->model_type;
}

std::string gguf_tensor_name(const LlamaConfig& config, std::string_view name) {
  const auto [module, suffix] = split_last(name);
  if (!module.starts_with(kLayers)) {
    for (const NameRow& row : kOutside)
      if (row.hf == module && is_outside(config, module)) return std::string(row.gguf) + std::string(suffix);
    return "";
  }
  const auto layer = layer_of(module.substr(kLayers.size()), config.layers);
  if (!layer || !has_module(config.architecture->block, layer->second)) return "";
  for (const NameRow& row : kBlock)
    if (row.hf == layer->second) return fmt::format("{}{}.{}{}", kBlocks, layer->first, row.gguf, suffix);
  return "";
}

std::string hf_tensor_name(const LlamaConfig& config, std::string_view gguf_name) {
  const auto [module, suffix] = split_last(gguf_name);
  if (!module.starts_with(kBlocks)) {
    for (const NameRow& row : kOutside)
      if (row.gguf == module && is_outside(config, row.hf)) return std::string(row.hf) + std::string(suffix);
    return "";
  }
  const auto layer = layer_of(module.substr(kBlocks.size()), config.layers);
  if (!layer) return "";
  for (const NameRow& row : kBlock)
    if (row.gguf == layer->second && has_module(config.architecture->block, row.hf))
      return fmt::format("{}{}.{}{}", kLayers, layer->first, row.hf, suffix);
  return "";
}

bool gguf_rows_are_paired(const LlamaConfig& config, std::string_view name) {
  const std::string_view module = split_last(name).first;
  return gguf_architecture(config) == kLlama.model_type &&
         (module.ends_with("self_attn.q_proj") || module.ends_with("self_attn.k_proj"));
}

}  // namespace tll
