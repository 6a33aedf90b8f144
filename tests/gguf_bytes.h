// GGUF files, made in the test: the bytes as the format has them, right or wrong.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/files/gguf_types.h"
#include "src/files/model_files.h"

namespace tll {

template <class T>
std::string gguf_raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
inline std::string gguf_string(std::string_view text) { return gguf_raw(uint64_t{text.size()}) + std::string(text); }
template <class T>
std::string raw_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct GgufBytes {
  uint32_t version = 3, alignment = 32;
  std::vector<std::pair<std::string, std::string>> pairs;  // key; type and value as they lie in the file
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;  // as Hugging Face has it
    uint32_t type;
    std::string data;
  };
  std::vector<Tensor> tensors;

  void put(const std::string& key, std::string value) {
    for (auto& [name, old] : pairs)
      if (name == key) return void(old = std::move(value));
    pairs.emplace_back(key, std::move(value));
  }
  void remove(const std::string& key) {
    std::erase_if(pairs, [&](const auto& pair) { return pair.first == key; });
  }
  void text(const std::string& key, std::string_view value) { put(key, gguf_raw(8u) + gguf_string(value)); }
  void u32(const std::string& key, uint32_t value) { put(key, gguf_raw(4u) + gguf_raw(value)); }
  void u16(const std::string& key, uint16_t value) { put(key, gguf_raw(2u) + gguf_raw(value)); }
  void f32(const std::string& key, float value) { put(key, gguf_raw(6u) + gguf_raw(value)); }
  void flag(const std::string& key, bool value) { put(key, gguf_raw(7u) + gguf_raw(value)); }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    std::string all = gguf_raw(9u) + gguf_raw(8u) + gguf_raw(uint64_t{values.size()});
    for (const std::string& value : values) all += gguf_string(value);
    put(key, all);
  }
  void i32s(const std::string& key, const std::vector<int32_t>& values) {
    put(key, gguf_raw(9u) + gguf_raw(5u) + gguf_raw(uint64_t{values.size()}) + raw_of(values));
  }
  void f32s(const std::string& key, const std::vector<float>& values) {
    put(key, gguf_raw(9u) + gguf_raw(6u) + gguf_raw(uint64_t{values.size()}) + raw_of(values));
  }
  void tensor(const std::string& name, const std::vector<int64_t>& shape, GgufType type, std::string data) {
    tensors.push_back({name, shape, static_cast<uint32_t>(type), std::move(data)});
  }

  std::string bytes() const {
    std::string out = "GGUF" + gguf_raw(version) + gguf_raw(uint64_t{tensors.size()}) + gguf_raw(uint64_t{pairs.size()});
    for (const auto& [key, value] : pairs) out += gguf_string(key) + value;
    const auto pad = [&](std::string& to) { to.resize((to.size() + alignment - 1) / alignment * alignment, '\0'); };
    std::string data;
    for (const Tensor& t : tensors) {
      out += gguf_string(t.name) + gguf_raw(static_cast<uint32_t>(t.shape.size()));
      for (size_t i = t.shape.size(); i-- > 0;) out += gguf_raw(t.shape[i]);
      out += gguf_raw(t.type) + gguf_raw(uint64_t{data.size()});
      data += t.data;
      pad(data);
    }
    pad(out);
    return out + data;
  }
};

// A Hugging Face directory of a small model as llama.cpp's converter writes it, without a tokenizer. Matrices in `matrices`,
// which has no blocks; vectors in F32.
inline GgufBytes gguf_of(const std::filesystem::path& directory, const LlamaConfig& config, GgufType matrices) {
  GgufBytes g;
  const std::string a(gguf_architecture(config));
  g.text("general.architecture", a);
  g.text("general.type", "model");
  g.u32(a + ".block_count", static_cast<uint32_t>(config.layers));
  g.u32(a + ".context_length", static_cast<uint32_t>(config.max_positions));
  g.u32(a + ".embedding_length", static_cast<uint32_t>(config.hidden));
  g.u32(a + ".feed_forward_length", static_cast<uint32_t>(config.intermediate));
  g.u32(a + ".attention.head_count", static_cast<uint32_t>(config.heads));
  g.u32(a + ".attention.head_count_kv", static_cast<uint32_t>(config.kv_heads));
  g.u32(a + ".attention.key_length", static_cast<uint32_t>(config.head_dim));
  g.u32(a + ".attention.value_length", static_cast<uint32_t>(config.head_dim));
  g.f32(a + ".attention.layer_norm_rms_epsilon", static_cast<float>(config.rms_eps));
  g.f32(a + ".rope.freq_base", static_cast<float>(config.rope.theta));
  g.u32(a + ".rope.dimension_count", static_cast<uint32_t>(config.rotary_dim()));
  if (config.any_window() > 0) g.u32(a + ".attention.sliding_window", static_cast<uint32_t>(config.any_window()));
  if (config.rope.type == RopeType::longrope) {
    g.u32(a + ".rope.scaling.original_context_length", static_cast<uint32_t>(config.rope.original_max));
    for (const auto& [name, factors] : {std::pair("rope_factors_long.weight", config.rope.long_factor),
                                        {"rope_factors_short.weight", config.rope.short_factor}})
      g.tensor(name, {static_cast<int64_t>(factors.size())}, GgufType::F32,
               raw_of(std::vector<float>(factors.begin(), factors.end())));
  }
  g.u32(a + ".vocab_size", static_cast<uint32_t>(config.vocab_size));
  if (config.bos) g.u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*config.bos));
  if (!config.eos.empty()) g.u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(config.eos[0]));
  const ModelFiles files(directory, config);
  for (const WeightSpec& spec : weight_specs(config)) {
    const GgufType type = spec.shape.size() == 1 ? GgufType::F32 : matrices;
    const DType as = type == GgufType::F32 ? DType::f32 : type == GgufType::F16 ? DType::f16 : DType::bf16;
    const int64_t count = element_count(spec.shape), rows = spec.shape[0];
    std::string values(static_cast<size_t>(count) * dtype_bytes(as), '\0'), data = values;
    files.load(spec.name, values.data(), as, 0, count);
    const size_t row_bytes = values.size() / static_cast<size_t>(rows);
    for (int64_t row = 0; row < rows; row++) {
      // Two halves of a head become pairs.
      const int64_t half = config.head_dim / 2, in_head = row % config.head_dim;
      const bool turned =
          a == "llama" && (spec.name.find("q_proj") != std::string::npos || spec.name.find("k_proj") != std::string::npos);
      const int64_t to = turned ? row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1) : row;
      std::memcpy(data.data() + static_cast<size_t>(to) * row_bytes, values.data() + static_cast<size_t>(row) * row_bytes,
                  row_bytes);
    }
    g.tensor(gguf_tensor_name(config, spec.name), spec.shape, type, data);
  }
  return g;
}

}  // namespace tll
