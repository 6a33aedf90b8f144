// A small model with a byte-level tokenizer and an adapter, to export, for tests. Weights, A, B and the scale are small multiples
// of powers of two, so that W + scale · B · A is exact in fp32 in any order of summation: what is expected are bits.
#pragma once

#include <gtest/gtest.h>

#include "src/base/file.h"
#include "src/commands/commands.h"
#include "src/files/adapter.h"
#include "tests/quantized_files.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"
#include "tests/words.h"

namespace tll {

class ExportTest : public testing::Test {
 protected:
  static Json small_config() {
    return {
        {"model_type", "llama"},       {"vocab_size", 300},        {"hidden_size", 64},        {"intermediate_size", 96},
        {"num_hidden_layers", 2},      {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"max_position_embeddings", 64},
        {"tie_word_embeddings", true}, {"dtype", "bfloat16"},      {"rms_norm_eps", 1e-5},     {"bos_token_id", 257},
        {"eos_token_id", 258}};
  }

  // MODEL with these keys besides those of small_config().
  std::filesystem::path write_model(const std::string& name, const Json& keys = Json::object()) {
    const std::filesystem::path model = directory_ / name;
    std::filesystem::create_directories(model);
    Json config = small_config();
    config.update(keys);
    write_file_atomic(model / "config.json", config.dump());
    config_ = load_config(model);
    values_.clear();
    FileTensors tensors;
    int64_t seed = 1;
    for (const WeightSpec& spec : weight_specs(config_)) {
      std::vector<float>& values = values_[spec.name];
      for (int64_t i = 0; i < element_count(spec.shape); i++) values.push_back(sixteenths(seed++));
      std::vector<uint16_t> rounded;
      for (const float x : values) rounded.push_back(round_to_bf16(x).bits);
      tensors[spec.name] = {FileDtype::BF16, spec.shape, bytes_of(rounded)};
    }
    write_tensors(model / "model.safetensors", tensors);
    write_file_atomic(model / "tokenizer.json", tokenizer_json().dump());
    write_file_atomic(model / "tokenizer_config.json",
                      R"({"bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": "{{ messages }}"})");
    write_file_atomic(model / "generation_config.json", R"({"eos_token_id": 258})");
    return model;
  }

  // All bytes, one merge, and three added tokens: 257 and 258 are special, 259 is a word. 260 … 299 are missing.
  static Json tokenizer_json() {
    Json vocab = Json::object();
    const auto spelled = [](int byte) {
      std::string text;
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      int code = byte;
      if (!printable) {
        code = 256;
        for (int b = 0; b < byte; b++) code += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
      }
      if (code < 128)
        text += static_cast<char>(code);
      else
        text += static_cast<char>(0xC0 | code >> 6), text += static_cast<char>(0x80 | (code & 63));
      return text;
    };
    for (int b = 0; b < 256; b++) vocab[spelled(b)] = b;
    vocab["he"] = 256;
    const auto added = [](int id, const char* content, bool special) {
      return Json{{"id", id}, {"content", content}, {"special", special}, {"normalized", false}};
    };
    return {{"version", "1.0"},
            {"added_tokens", {added(257, "<|begin|>", true), added(258, "<|end|>", true), added(259, "<tool>", false)}},
            {"normalizer", nullptr},
            {"pre_tokenizer",
             {{"type", "Sequence"},
              {"pretokenizers",
               {{{"type", "Digits"}, {"individual_digits", true}},
                {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}}},
            {"post_processor", nullptr},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h e"}}}}};
  }

  // On these modules, by their short names, in every layer. Ranks and alphas differ: scales are 2, 1 and 1/2.
  std::filesystem::path write_adapter_of(const std::string& name, const std::vector<std::string>& targets, bool rslora = false) {
    const std::filesystem::path adapter = directory_ / name;
    std::filesystem::create_directories(adapter);
    adapter_.clear();
    std::vector<std::unique_ptr<std::vector<float>>> kept;
    std::vector<AdapterPart> parts;
    int64_t seed = 5;
    for (const Module& m : adaptable_modules(config_)) {
      if (!m.is_among(targets)) continue;
      const int rank = parts.size() % 2 == 0 ? 4 : 2;
      const double alpha = parts.size() % 3 == 0 ? 8 : 2;
      for (const int64_t count : {rank * m.cols, m.rows * rank}) {
        kept.push_back(std::make_unique<std::vector<float>>());
        for (int64_t i = 0; i < count; i++) kept.back()->push_back(sixteenths(seed++));
      }
      parts.push_back({m, rank, alpha, (*(kept.end() - 2))->data(), kept.back()->data()});
      adapter_[m.name] = {*kept[kept.size() - 2], *kept.back(), rank, lora_scale(alpha, rank, rslora)};
    }
    write_adapter(adapter, {.base_model = "base", .dropout = 0, .rslora = rslora, .layers = config_.layers}, parts);
    return adapter;
  }

  // W + scale · B · A of "MODULE.weight", or any other tensor as it is.
  std::vector<float> expected(const std::string& tensor) const {
    std::vector<float> w = values_.at(tensor);
    const auto found = adapter_.find(tensor.substr(0, tensor.rfind('.')));
    if (found == adapter_.end() || !tensor.ends_with(".weight")) return w;
    const Lora& l = found->second;
    const size_t rank = static_cast<size_t>(l.rank), cols = l.a.size() / rank, rows = l.b.size() / rank;
    for (size_t i = 0; i < rows; i++)
      for (size_t j = 0; j < cols; j++)
        for (size_t k = 0; k < rank; k++) w[i * cols + j] += static_cast<float>(l.scale) * l.b[i * rank + k] * l.a[k * cols + j];
    return w;
  }

  // What the command prints to standard output.
  std::string run_export(const std::string& arguments, int code = kExitDone) const {
    Options options = parse_options(words("export --device cpu --threads 2 " + arguments));
    testing::internal::CaptureStdout();
    int result = -1;
    try {
      result = command_export(options);
    } catch (...) {
      testing::internal::GetCapturedStdout();
      throw;
    }
    const std::string said = testing::internal::GetCapturedStdout();
    EXPECT_EQ(result, code) << said;
    return said;
  }

  struct Lora {
    std::vector<float> a, b;
    int rank;
    double scale;
  };
  const TemporaryDirectory directory_;
  LlamaConfig config_;                                // of the model that was written last
  std::map<std::string, std::vector<float>> values_;  // its tensors
  std::map<std::string, Lora> adapter_;               // by module

 private:
  // -15/16 … 15/16, exact in bf16 too.
  static float sixteenths(int64_t seed) { return static_cast<float>((seed * seed * 7 + seed * 3) % 31 - 15) / 16; }
};

}  // namespace tll
