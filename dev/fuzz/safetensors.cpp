// Covers: src/files/safetensors.cpp src/files/model_files.cpp src/files/quantization.cpp
#include "src/files/safetensors.h"

#include "dev/fuzz/fuzz.h"
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/tiny.h"
#include "src/files/adapter.h"
#include "src/files/model_files.h"

namespace tll::fuzz {
namespace {

constexpr const char* kWords[] = {"dtype",
                                  "shape",
                                  "data_offsets",
                                  "__metadata__",
                                  "format",
                                  "pt",
                                  "F32",
                                  "BF16",
                                  "F16",
                                  "F64",
                                  "I64",
                                  "U8",
                                  "F4",
                                  "BOOL",
                                  "model.embed_tokens.weight",
                                  "lm_head.weight",
                                  "model.norm.weight",
                                  "model.layers.0.self_attn.q_proj.weight",
                                  "model.layers.0.self_attn.q_proj.bias",
                                  "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                                  "base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight",
                                  "base_model.model.lm_head.weight",
                                  "I8",
                                  "model.layers.0.self_attn.q_proj.weight.absmax",
                                  "model.layers.0.self_attn.q_proj.weight.quant_map",
                                  "model.layers.0.self_attn.q_proj.weight.nested_absmax",
                                  "model.layers.0.self_attn.q_proj.weight.nested_quant_map",
                                  "model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4",
                                  "model.layers.0.self_attn.q_proj.SCB",
                                  "x.absmax",
                                  "x.qweight",
                                  "model.layers.0.rotary_emb.inv_freq"};
constexpr size_t kMaxData = 4096;

// Lays the tensors of the header one after another, and gives the data the size that they need.
void repair(Json& header, std::string& data) {
  uint64_t at = 0;
  for (auto& [name, tensor] : header.items()) {
    if (!tensor.is_object() || name == "__metadata__") continue;
    const Json dtype = tensor.value("dtype", Json());
    uint64_t bytes = dtype == "F32" ? 4 : dtype == "F64" ? 8 : dtype == "U8" || dtype == "I8" ? 1 : 2;
    const Json shape = tensor.value("shape", Json());
    for (const Json& size : shape)
      if (size.is_number_unsigned())
        bytes = std::min<uint64_t>(kMaxData, bytes * std::min<uint64_t>(kMaxData, size.get<uint64_t>()));
    tensor["data_offsets"] = {at, at + bytes};
    at += bytes;
  }
  if (at <= kMaxData) data.resize(at, '\0');
}

std::string joined(const std::string& header, const std::string& data) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = char(uint64_t(header.size()) >> (8 * i));
  return file + header + data;
}

}  // namespace

std::string mutated(const std::string& bytes, Random& random) {
  uint64_t size = 0;
  for (size_t i = 0; i < 8 && i < bytes.size(); ++i) size |= uint64_t(uint8_t(bytes[i])) << (8 * i);
  if (bytes.size() < 8 || size > bytes.size() - 8 || random.below(6) == 0) return mutated_bytes(bytes);
  std::string header = bytes.substr(8, size), data = bytes.substr(8 + size);
  if (random.below(6) == 0) return joined(header, mutated_bytes(data));
  header = mutated_json(header, random, kWords);
  Json parsed = Json::parse(header, nullptr, false);
  if (parsed.is_object() && random.below(3)) {
    repair(parsed, data);
    header = parsed.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return joined(header, data);
}

void read(std::string_view bytes) {
  static const TemporaryDirectory directory;
  static const LlamaConfig config = tiny_model();
  static const auto model = directory / "model.safetensors";
  static const bool once = [] {
    put(directory / "adapter_config.json", R"({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "v_proj"]})");
    std::filesystem::create_symlink(model, directory / "adapter_model.safetensors");
    return true;
  }();
  (void)once;
  put(model, bytes);
  const SafetensorsFile file(model);
  uint64_t sum = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    TLL_CHECK(file.find(tensor.name) == &tensor, "{} is not found", tensor.name);
    for (const std::byte byte : file.bytes(tensor)) sum += uint64_t(byte);
    file.forget(tensor);
  }
  TLL_CHECK(sum <= 255 * bytes.size(), "sum {}", sum);
  completes([&] {
    const ModelFiles files(directory, config);
    check_lines(files.warnings());
    for (const WeightSpec& spec : weight_specs(config)) {
      std::vector<float> values(size_t(element_count(spec.shape)));
      for (const DType to : {DType::f32, DType::bf16, DType::f16})
        completes([&] { files.load(spec.name, values.data(), to, 0, int64_t(values.size())); });
    }
  });
  completes([&] { check_lines(read_adapter(directory, config).warnings); });
}

}  // namespace tll::fuzz
