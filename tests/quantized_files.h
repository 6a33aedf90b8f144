// A checkpoint in memory whose linear layers may be quantised as bitsandbytes writes them, for tests to write, or to damage
// first.
#pragma once

#include <cstring>
#include <map>
#include <random>

#include "src/files/model_files.h"

namespace tll {

struct FileTensor {
  FileDtype dtype;
  std::vector<int64_t> shape;
  std::string data;
};
using FileTensors = std::map<std::string, FileTensor>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

inline void write_tensors(const std::filesystem::path& file, const FileTensors& tensors) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, t] : tensors) entries.push_back({{name, t.dtype, t.shape}, std::as_bytes(std::span(t.data))});
  write_safetensors(file, entries);
}

inline FileTensors read_tensors(const std::filesystem::path& path) {
  FileTensors tensors;
  const SafetensorsFile file(path);
  for (const TensorInfo& t : file.tensors()) {
    const auto data = file.bytes(t);
    tensors[t.name] = {t.dtype, t.shape, {reinterpret_cast<const char*>(data.data()), data.size()}};
  }
  return tensors;
}

// Random values in fp32.
inline FileTensors random_tensors(const LlamaConfig& config) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 0.3f);
  FileTensors tensors;
  for (const WeightSpec& spec : weight_specs(config)) {
    std::vector<float> values(static_cast<size_t>(element_count(spec.shape)));
    for (float& x : values) x = normal(random);
    tensors[spec.name] = {FileDtype::F32, spec.shape, bytes_of(values)};
  }
  return tensors;
}

// Random codes and scales in place of MODULE.weight (rows, cols). Returns the values that they mean, by the definition.
inline std::vector<float> quantize_4bit(FileTensors& tensors, const std::string& module, int block, bool nested) {
  const std::string name = module + ".weight";
  const std::vector<int64_t> shape = tensors.at(name).shape;
  const int64_t count = element_count(shape), blocks = (count + block - 1) / block, groups = (blocks + 255) / 256;
  std::mt19937 random(static_cast<uint32_t>(count));
  std::uniform_int_distribution<int> byte(0, 255);
  std::uniform_real_distribution<float> scale(0.1f, 2);
  const auto floats = [&](int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& x : values) x = scale(random);
    return values;
  };
  std::vector<uint8_t> codes(static_cast<size_t>((count + 1) / 2)), scale_codes(static_cast<size_t>(blocks));
  for (uint8_t& c : codes) c = static_cast<uint8_t>(byte(random));
  for (uint8_t& c : scale_codes) c = static_cast<uint8_t>(byte(random));
  // Other tables than bitsandbytes', so that those of the file must have been used.
  const std::vector<float> plain = floats(blocks), nested_absmax = floats(groups), book = floats(16), map = floats(256);
  const float offset = 0.375f;
  std::string text =
      fmt::format(R"({{"quant_type": "nf4", "blocksize": {}, "dtype": "bfloat16", "shape": [{}, {}])", block, shape[0], shape[1]);
  if (nested) text += R"(, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.375)";
  text += "}";
  tensors[name] = {FileDtype::U8, {static_cast<int64_t>(codes.size()), 1}, bytes_of(codes)};
  tensors[name + ".absmax"] =
      nested ? FileTensor{FileDtype::U8, {blocks}, bytes_of(scale_codes)} : FileTensor{FileDtype::F32, {blocks}, bytes_of(plain)};
  tensors[name + ".quant_map"] = {FileDtype::F32, {16}, bytes_of(book)};
  if (nested) {
    tensors[name + ".nested_absmax"] = {FileDtype::F32, {groups}, bytes_of(nested_absmax)};
    tensors[name + ".nested_quant_map"] = {FileDtype::F32, {256}, bytes_of(map)};
  }
  tensors[name + ".quant_state.bitsandbytes__nf4"] = {FileDtype::U8, {static_cast<int64_t>(text.size())}, text};
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i++) {
    const size_t b = static_cast<size_t>(i / block);
    const float product = map[scale_codes[b]] * nested_absmax[b / 256];
    const uint8_t pair = codes[static_cast<size_t>(i / 2)];
    values[static_cast<size_t>(i)] = book[i % 2 == 0 ? pair >> 4 : pair & 15] * (nested ? product + offset : plain[b]);
  }
  return values;
}

// The same in 8 bits, as LLM.int8() has it.
inline std::vector<float> quantize_8bit(FileTensors& tensors, const std::string& module) {
  FileTensor& t = tensors.at(module + ".weight");
  const int64_t rows = t.shape[0], cols = t.shape[1];
  std::vector<int8_t> codes(static_cast<size_t>(rows * cols));
  std::vector<float> scales(static_cast<size_t>(rows)), values(codes.size());
  for (size_t r = 0; r < scales.size(); r++) scales[r] = 0.5f + 0.25f * static_cast<float>(r);
  for (size_t i = 0; i < codes.size(); i++) {
    codes[i] = static_cast<int8_t>(static_cast<int>(i * 37 % 255) - 127);
    values[i] = static_cast<float>(codes[i]) * (scales[i / static_cast<size_t>(cols)] * (1.0f / 127));
  }
  t = {FileDtype::I8, {rows, cols}, bytes_of(codes)};
  tensors[module + ".SCB"] = {FileDtype::F32, {rows}, bytes_of(scales)};
  tensors[module + ".weight_format"] = {FileDtype::U8, {}, std::string(1, '\0')};
  return values;
}

}  // namespace tll
