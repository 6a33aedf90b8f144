// export --format gguf and gguf-adapter: every tensor by bit, in llama.cpp's order of rows, and the metadata that it needs.
#include <cmath>

#include "src/base/phase.h"
#include "src/files/gguf_file.h"
#include "src/files/gguf_quantize.h"
#include "tests/export_files.h"

namespace tll {
namespace {

class ExportGguf : public ExportTest {
 protected:
  std::string arguments(const std::filesystem::path& model, const std::filesystem::path& adapter, const std::string& more) const {
    return fmt::format("--format gguf --model {} {} --output {} {}", model.string(),
                       adapter.empty() ? "" : "--adapter " + adapter.string(), (directory_ / "out.gguf").string(), more);
  }
  // The values of a tensor in the order of the file. Row h·D + 2i + p of q and k is row h·D + p·D/2 + i of Hugging Face's.
  std::vector<float> in_file_order(const std::string& name, std::vector<float> values, bool paired) const {
    const bool turned = name.find("q_proj") != name.npos || name.find("k_proj") != name.npos;
    if (!turned || !paired) return values;
    const size_t dim = static_cast<size_t>(config_.head_dim);
    const std::string module = name.substr(0, name.rfind('.'));
    size_t rows = 0;
    for (const Module& m : modules(config_))
      if (m.name == module) rows = static_cast<size_t>(m.rows);
    const size_t cols = values.size() / rows;
    std::vector<float> out(values.size());
    for (size_t h = 0; h < rows / dim; h++)
      for (size_t i = 0; i < dim / 2; i++)
        for (size_t p = 0; p < 2; p++)
          for (size_t j = 0; j < cols; j++)
            out[(h * dim + 2 * i + p) * cols + j] = values[(h * dim + p * dim / 2 + i) * cols + j];
    return out;
  }
  static std::vector<std::byte> bytes_in(GgufType type, const std::vector<float>& values) {
    std::vector<std::byte> out(static_cast<size_t>(gguf_bytes(type, static_cast<int64_t>(values.size()))));
    GgufFit fit;
    gguf_quantize(type, values.data(), static_cast<int64_t>(values.size()), out.data(), fit);
    return out;
  }
  // Every tensor of the model is in the file, in this type where it is a matrix.
  void check_tensors(const GgufFile& file, GgufType matrices, bool paired = true) const {
    for (const auto& [name, unused] : values_) {
      const GgufTensor* t = file.find(gguf_tensor_name(config_, name));
      ASSERT_NE(t, nullptr) << name;
      const std::vector<float> want = expected(name);
      const bool vector = t->shape.size() == 1;
      const bool head = name == (config_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
      GgufType type = vector ? GgufType::F32 : head && matrices == GgufType::Q4_0 ? GgufType::Q8_0 : matrices;
      if (t->shape.back() % gguf_type_row(type).block != 0) type = GgufType::F16;
      ASSERT_EQ(t->type, type) << name;
      const std::vector<std::byte> bytes = bytes_in(type, in_file_order(name, want, paired));
      const auto made = file.bytes(*t);
      ASSERT_TRUE(std::equal(made.begin(), made.end(), bytes.begin(), bytes.end())) << name;
    }
  }
};

const std::vector<std::string> kAll = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

TEST_F(ExportGguf, HoldsEveryTensorInEveryType) {
  const std::pair<const char*, GgufType> types[] = {{"f32", GgufType::F32},
                                                    {"f16", GgufType::F16},
                                                    {"bf16", GgufType::BF16},
                                                    {"q8_0", GgufType::Q8_0},
                                                    {"q4_0", GgufType::Q4_0}};
  const int64_t numbers[] = {0, 1, 32, 7, 2};
  for (size_t i = 0; i < std::size(types); i++)
    for (const bool tied : {true, false}) {
      SCOPED_TRACE(types[i].first);
      const auto model = write_model("model", {{"tie_word_embeddings", tied}, {"attention_bias", true}});
      const auto adapter = write_adapter_of("adapter", kAll);
      run_export(arguments(model, adapter, fmt::format("--quiet --overwrite --gguf-type {}", types[i].first)));
      const GgufFile file(directory_ / "out.gguf");
      check_tensors(file, types[i].second);
      EXPECT_EQ(file.tensors().size(), values_.size());
      EXPECT_EQ(file.integer("general.file_type"), numbers[i]);
    }
}

TEST_F(ExportGguf, SaysWhatLlamaCppNeeds) {
  const auto model = write_model("model", {{"rope_theta", 5e5}, {"head_dim", 32}});
  run_export(arguments(model, {}, "--quiet --base-name org/Small-1B"));
  const GgufFile file(directory_ / "out.gguf");
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.text("general.type"), "model");
  EXPECT_EQ(file.text("general.name"), "Small-1B");
  EXPECT_EQ(file.text("general.base_model.0.repo_url"), "https://huggingface.co/org/Small-1B");
  EXPECT_EQ(file.integer("general.quantization_version"), 2);
  const std::pair<const char*, int64_t> numbers[] = {{"block_count", 2},           {"context_length", 64},
                                                     {"embedding_length", 64},     {"feed_forward_length", 96},
                                                     {"attention.head_count", 4},  {"attention.head_count_kv", 2},
                                                     {"attention.key_length", 32}, {"attention.value_length", 32},
                                                     {"rope.dimension_count", 32}, {"vocab_size", 300}};
  for (const auto& [key, number] : numbers) EXPECT_EQ(file.integer(std::string("llama.") + key), number) << key;
  EXPECT_FLOAT_EQ(static_cast<float>(*file.number("llama.attention.layer_norm_rms_epsilon")), 1e-5f);
  EXPECT_EQ(file.number("llama.rope.freq_base"), 5e5);
  EXPECT_FALSE(file.has("llama.rope.scaling.type"));
  EXPECT_EQ(file.text("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(file.text("tokenizer.ggml.pre"), "smollm");
  const auto tokens = file.texts("tokenizer.ggml.tokens");
  const auto types = file.integers("tokenizer.ggml.token_type");
  ASSERT_EQ(tokens.size(), 300u);
  ASSERT_EQ(types.size(), 300u);
  const auto token = [&](size_t id) { return std::pair(std::string(tokens[id]), types[id]); };
  EXPECT_EQ(token('a'), std::pair(std::string("a"), int64_t{1}));
  EXPECT_EQ(token(' '), std::pair(std::string("\u0120"), int64_t{1}));
  EXPECT_EQ(token(256), std::pair(std::string("he"), int64_t{1}));
  EXPECT_EQ(token(258), std::pair(std::string("<|end|>"), int64_t{3}));
  EXPECT_EQ(token(299), std::pair(std::string("[PAD299]"), int64_t{5}));
  EXPECT_EQ(token(259), std::pair(std::string("<tool>"), int64_t{4}));
  EXPECT_EQ(file.texts("tokenizer.ggml.merges"), std::vector<std::string_view>{"h e"});
  EXPECT_EQ(file.integer("tokenizer.ggml.bos_token_id"), 257);
  EXPECT_EQ(file.integer("tokenizer.ggml.eos_token_id"), 258);
  EXPECT_FALSE(file.has("tokenizer.ggml.padding_token_id"));
  EXPECT_EQ(file.flag("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(file.text("tokenizer.chat_template"), "{{ messages }}");
}

// Rows that are no multiple of a block of 32 have no such type.
TEST_F(ExportGguf, RowsWithoutWholeBlocksStayF16) {
  const auto model = write_model("model", {{"intermediate_size", 80}});
  const Json said = parse_json(run_export(arguments(model, {}, "--json --gguf-type q8_0")), "stdout");
  ASSERT_EQ(said.at("notes").size(), 1u);
  EXPECT_TRUE(says(said.at("notes")[0].get<std::string>(), "2 matrices have rows that are no multiple of 32"));
  const GgufFile file(directory_ / "out.gguf");
  EXPECT_EQ(file.find("blk.0.ffn_down.weight")->type, GgufType::F16);
  EXPECT_EQ(file.find("blk.0.ffn_up.weight")->type, GgufType::Q8_0);
  check_tensors(file, GgufType::Q8_0);
}

// Llama 3's scaled frequencies are divisors in the file: with theta 5e5, D 64, factor 32, original length 8192 (Llama 3.2 1B)
// frequency 14 is kept, 15 is 0.001290547928209264 in place of 0.0021311195369, and 18 and above are divided by 32.
TEST_F(ExportGguf, ScaledFrequenciesAreDivisors) {
  const Json rope = {{"rope_type", "llama3"},
                     {"factor", 32.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 8192}};
  const auto model = write_model("model", {{"rope_theta", 5e5}, {"head_dim", 64}, {"rope_scaling", rope}});
  run_export(arguments(model, {}, "--quiet"));
  const GgufFile file(directory_ / "out.gguf");
  const GgufTensor* t = file.find("rope_freqs.weight");
  ASSERT_NE(t, nullptr);
  ASSERT_EQ(t->shape, std::vector<int64_t>{32});
  std::vector<float> divisors(32);
  std::memcpy(divisors.data(), file.bytes(*t).data(), 128);
  EXPECT_EQ(divisors[0], 1);
  EXPECT_EQ(divisors[14], 1);
  EXPECT_NEAR(divisors[15], 0.0021311195369 / 0.001290547928209264, 1e-6);
  EXPECT_EQ(divisors[18], 32);
  EXPECT_EQ(divisors[31], 32);
  check_tensors(file, GgufType::F16);
  const auto linear = write_model("linear", {{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}});
  run_export(arguments(linear, {}, "--quiet --overwrite"));
  const GgufFile other(directory_ / "out.gguf");
  EXPECT_EQ(other.text("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(other.number("llama.rope.scaling.factor"), 4);
  EXPECT_EQ(other.find("rope_freqs.weight"), nullptr);
}

TEST_F(ExportGguf, NamesTheRuleByWhichTextsAreCut) {
  const auto pre = [&](const Json& pre_tokenizer, const Json& normalizer = nullptr) {
    const auto model = write_model("model");
    Json json = tokenizer_json();
    json["pre_tokenizer"] = pre_tokenizer;
    json["normalizer"] = normalizer;
    write_file_atomic(model / "tokenizer.json", json.dump());
    run_export(arguments(model, {}, "--quiet --overwrite"));
    return std::string(*GgufFile(directory_ / "out.gguf").text("tokenizer.ggml.pre"));
  };
  const auto split = [](const std::string& digits) {
    const std::string regex = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits +
                              R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    return Json{{"type", "Sequence"},
                {"pretokenizers", {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}}, bytes}}};
  };
  EXPECT_EQ(pre(split(R"(\p{N}{1,3})")), "llama-bpe");
  EXPECT_EQ(pre(split(R"(\p{N})"), {{"type", "NFC"}}), "qwen2");
  EXPECT_EQ(pre({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}), "gpt-2");
  EXPECT_TRUE(says(refusal_of([&] {
                     pre({{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}});
                   }),
                   "none that llama.cpp has a name for"));
  EXPECT_TRUE(says(refusal_of([&] {
                     pre({{"type", "ByteLevel"}, {"add_prefix_space", false}}, {{"type", "NFC"}});
                   }),
                   "its normalizer is none"));
}

// What SentencePiece's file says of each piece. The demo model has such a file.
TEST_F(ExportGguf, SentencePieceKeepsItsScores) {
  run_export(fmt::format("--format gguf --quiet --model data/demo --output {}", (directory_ / "out.gguf").string()));
  const GgufFile file(directory_ / "out.gguf");
  EXPECT_EQ(file.text("tokenizer.ggml.model"), "llama");
  const auto tokens = file.texts("tokenizer.ggml.tokens");
  const auto scores = file.floats("tokenizer.ggml.scores");
  const auto types = file.integers("tokenizer.ggml.token_type");
  ASSERT_EQ(tokens.size(), static_cast<size_t>(load_config("data/demo").vocab_size));
  ASSERT_EQ(scores.size(), tokens.size());
  EXPECT_EQ(tokens[0], "<unk>");
  EXPECT_EQ(types[0], 2);
  EXPECT_EQ(types[1], 3);
  EXPECT_TRUE(std::find(types.begin(), types.end(), 6) != types.end()) << "bytes";
  EXPECT_TRUE(file.has("tokenizer.ggml.add_space_prefix"));
  EXPECT_FALSE(file.has("tokenizer.ggml.merges"));
  // Scores fall with the id among pieces that merging made.
  std::vector<float> normal;
  for (size_t i = 0; i < tokens.size(); i++)
    if (types[i] == 1 && scores[i] < 0) normal.push_back(scores[i]);
  ASSERT_GT(normal.size(), 100u);
  EXPECT_TRUE(std::is_sorted(normal.rbegin(), normal.rend()));
}

TEST_F(ExportGguf, WhatIsInTheWayStays) {
  const auto model = write_model("model");
  run_export(arguments(model, {}, "--quiet"));
  const std::string before = read_file(directory_ / "out.gguf");
  EXPECT_TRUE(says(refusal_of([&] { run_export(arguments(model, {}, "")); }, kExitUsage), "is there already"));
  struct Ends : PhaseView {
    void show(const char*, int64_t done, int64_t) override {
      if (done > 0) throw Stopped("writing GGUF");
    }
    void end() override {}
  } ends;
  PhaseView* const view = set_phase_view(&ends);
  run_export(arguments(model, {}, "--overwrite --gguf-type f32"), kExitInterrupted);
  run_export(fmt::format("--format gguf --model {} --output {}", model.string(), (directory_ / "new").string()),
             kExitInterrupted);
  set_phase_view(view);
  EXPECT_EQ(read_file(directory_ / "out.gguf"), before);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "new"));
  // A directory gets a file with a name of its own.
  const Json said = parse_json(run_export(fmt::format("--format gguf --gguf-type q8_0 --json --model {} --output {}",
                                                      model.string(), (directory_ / "new").string())),
                               "stdout");
  EXPECT_EQ(said.at("files"), Json({"model-Q8_0.gguf"}));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "new/model-Q8_0.gguf"));
  EXPECT_TRUE(says(said.at("load").at("Ollama").get<std::string>(), "FROM %s"));
}

TEST_F(ExportGguf, ValuesThatDoNotFitAreRefused) {
  const auto model = write_model("model");
  FileTensors tensors = read_tensors(model / "model.safetensors");
  const std::string k = "model.layers.1.self_attn.k_proj.weight";
  tensors.at(k).data.replace(10, 2, std::string("\x00\x7f", 2));  // 2^127 in bf16
  write_tensors(model / "model.safetensors", tensors);
  EXPECT_TRUE(says(refusal_of([&] { run_export(arguments(model, {}, "")); }), k + ": a value is too large for F16"));
  run_export(arguments(model, {}, "--quiet --gguf-type bf16"));
  tensors.at(k).data.replace(10, 2, "\xc0\x7f");  // NaN
  write_tensors(model / "model.safetensors", tensors);
  EXPECT_TRUE(says(refusal_of([&] { run_export(arguments(model, {}, "--overwrite --gguf-type bf16")); }), "not finite"));
}

// B is turned like the rows that it adds to, A is not; one alpha serves all, so B holds what scales differ by.
TEST_F(ExportGguf, AnAdapterByItself) {
  for (const bool rslora : {false, true}) {
    const auto model = write_model("model");
    const auto adapter = write_adapter_of("adapter", kAll, rslora);
    run_export(fmt::format("--format gguf-adapter --overwrite --quiet --model {} --adapter {} --output {}", model.string(),
                           adapter.string(), (directory_ / "lora.gguf").string()));
    const GgufFile file(directory_ / "lora.gguf");
    EXPECT_EQ(file.text("general.type"), "adapter");
    EXPECT_EQ(file.text("general.architecture"), "llama");
    EXPECT_EQ(file.text("adapter.type"), "lora");
    EXPECT_EQ(file.tensors().size(), 2 * adapter_.size());
    const double alpha = *file.number("adapter.lora.alpha");
    for (const auto& [module, lora] : adapter_) {
      const std::string name = gguf_tensor_name(config_, module + ".weight");
      const GgufTensor *a = file.find(name + ".lora_a"), *b = file.find(name + ".lora_b");
      ASSERT_TRUE(a && b) << name;
      const auto rank = static_cast<int64_t>(lora.rank);
      EXPECT_EQ(a->shape, (std::vector<int64_t>{rank, static_cast<int64_t>(lora.a.size()) / rank}));
      EXPECT_EQ(b->shape, (std::vector<int64_t>{static_cast<int64_t>(lora.b.size()) / rank, rank}));
      EXPECT_EQ(std::memcmp(file.bytes(*a).data(), lora.a.data(), 4 * lora.a.size()), 0);
      std::vector<float> made(lora.b.size());
      std::memcpy(made.data(), file.bytes(*b).data(), 4 * made.size());
      const std::vector<float> want = in_file_order(module + ".weight", lora.b, true);
      // Alpha and B are rounded to floats: a relative 2^-24 each. Without rsLoRA all are powers of two, and exact.
      for (size_t i = 0; i < want.size(); i++)
        ASSERT_NEAR(alpha / lora.rank * made[i], lora.scale * want[i], rslora ? 1.3e-7 * lora.scale * std::abs(want[i]) : 0)
            << name;
    }
  }
}

TEST_F(ExportGguf, AnAdapterNeedsOne) {
  const auto model = write_model("model", {{"tie_word_embeddings", false}});
  const std::string out = " --output " + (directory_ / "lora.gguf").string();
  EXPECT_TRUE(says(refusal_of([&] { run_export("--format gguf-adapter --model " + model.string() + out); }, kExitUsage),
                   "--adapter DIR"));
  const auto adapter = write_adapter_of("adapter", {"v_proj"});
  FileTensors tensors = read_tensors(adapter / "adapter_model.safetensors");
  tensors["base_model.model.lm_head.weight"] = {FileDtype::F32, {300, 64}, bytes_of(std::vector<float>(300 * 64, 0.25f))};
  write_tensors(adapter / "adapter_model.safetensors", tensors);
  EXPECT_TRUE(says(
      refusal_of([&] { run_export("--format gguf-adapter --model " + model.string() + " --adapter " + adapter.string() + out); }),
      "lm_head.weight differs from the base model's, and a GGUF adapter cannot hold it"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "lora.gguf"));
}

}  // namespace
}  // namespace tll
