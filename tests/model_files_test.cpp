#include "src/files/model_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>

#include "src/base/check.h"
#include "src/base/json.h"
#include "tests/mutated_bytes.h"
#include "tests/quantized_files.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

LlamaConfig tiny(bool tied) {
  LlamaConfig c;
  c.vocab_size = 10, c.hidden = 4, c.intermediate = 6, c.layers = 2, c.heads = 2, c.kv_heads = 1, c.head_dim = 2,
  c.tie_embeddings = tied;
  return c;
}

class ModelFilesTest : public testing::Test {
 protected:
  using Tensors = std::map<std::string, TensorSpec>;

  static Tensors all_of(const LlamaConfig& config) {
    Tensors tensors;
    for (const WeightSpec& spec : weight_specs(config)) tensors[spec.name] = {spec.name, FileDtype::BF16, spec.shape};
    return tensors;
  }
  // Every byte of a tensor is `fill`.
  void write(const std::string& file, const Tensors& tensors, const std::map<std::string, char>& fill = {}) const {
    std::vector<TensorSpec> specs;
    for (const auto& [name, spec] : tensors) specs.push_back(spec);
    SafetensorsWriter writer(dir / file, specs);
    for (const TensorInfo& t : writer.order()) {
      const auto byte = fill.find(t.name);
      const std::string data(t.end - t.begin, byte == fill.end() ? '\1' : byte->second);
      writer.append(data.data(), data.size());
    }
    writer.commit();
  }
  void write_index(const std::map<std::string, std::string>& weight_map) const {
    write_file_atomic(dir / "model.safetensors.index.json",
                      Json{{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}}.dump());
  }
  std::string refusal(const LlamaConfig& config) const {
    return message_of([&] { ModelFiles(dir, config); });
  }
  void expect_refused(const LlamaConfig& config, const std::string& why) const { EXPECT_TRUE(says(refusal(config), why)); }
  void expect_refused(const Tensors& tensors, const LlamaConfig& config, const std::string& why) const {
    write("model.safetensors", tensors);
    expect_refused(config, why);
  }

  const TemporaryDirectory dir;
};

TEST_F(ModelFilesTest, OneFile) {
  for (const FileDtype dtype : {FileDtype::BF16, FileDtype::F16, FileDtype::F32}) {
    Tensors tensors = all_of(tiny(false));
    for (auto& [name, spec] : tensors) spec.dtype = dtype;
    write("model.safetensors", tensors);
    const ModelFiles files(dir, tiny(false));
    EXPECT_TRUE(files.warnings().empty());
    EXPECT_EQ(files.tensor("lm_head.weight").shape, (std::vector<int64_t>{10, 4}));
    EXPECT_EQ(files.tensor("lm_head.weight").dtype, dtype);
    EXPECT_THROW(files.tensor("nothing"), Error);
  }
}

TEST_F(ModelFilesTest, MissingWrongAndUnexpectedTensors) {
  expect_refused(tiny(true), "found neither");
  write_file_atomic(dir / "pytorch_model.bin", "x");
  expect_refused(tiny(true), "converted to safetensors");

  const Tensors good = all_of(tiny(true));
  Tensors tensors = good;
  tensors.erase("model.layers.1.mlp.up_proj.weight");
  expect_refused(tensors, tiny(true), "\"model.layers.1.mlp.up_proj.weight\" is missing");

  tensors = good;
  tensors["model.norm.weight"].shape = {5};
  expect_refused(tensors, tiny(true), "model.norm.weight: expected shape [4] by config.json, found [5]");

  tensors = good;
  tensors["model.norm.weight"].dtype = FileDtype::U8;
  expect_refused(tensors, tiny(true), "expected BF16, F16 or F32, found U8");

  expect_refused(good, tiny(false), "\"lm_head.weight\" is missing");  // transformers would invent one

  tensors = good;
  for (const char* name : {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.q_proj.bias"})
    tensors[name] = {name, FileDtype::F32, {1}};
  write("model.safetensors", tensors);
  const ModelFiles files(dir, tiny(true));
  ASSERT_EQ(files.warnings().size(), 1u);
  EXPECT_TRUE(says(files.warnings()[0], "q_proj.bias"));

  for (int i = 0; i < 20; i++) {
    const std::string name = fmt::format("more.{}", i);
    tensors[name] = {name, FileDtype::F32, {1}};
  }
  write("model.safetensors", tensors);
  const ModelFiles many(dir, tiny(true));
  ASSERT_EQ(many.warnings().size(), 6u);
  EXPECT_TRUE(says(many.warnings()[5], "and 16 more such tensors"));

  tensors = good;
  tensors["model.norm.weight"].dtype = FileDtype::F8_E4M3;
  expect_refused(tensors, tiny(true), "found F8_E4M3, as quantised weights have");
  tensors.clear();
  tensors["transformer.wte.weight"] = {"transformer.wte.weight", FileDtype::BF16, {1}};
  expect_refused(tensors, tiny(true), "is missing from the model's files; they have tensors such as \"transformer.wte.weight\"");
  expect_refused(Tensors{}, tiny(true), "is missing from the model's files, which have none");
}

TEST_F(ModelFilesTest, QuantisedWeightsAreRefusedByTheirTool) {
  const std::string at = "model.layers.0.mlp.up_proj.";
  const std::pair<const char*, const char*> tools[] = {
      {"g_idx", "GPTQ"}, {"qweight", "GPTQ or AWQ"}, {"weight_scale_inv", "FP8"}, {"weight_packed", "compressed-tensors"},
      {"W_q", "HQQ"},    {"q_weight", "EXL2"},       {"trellis", "EXL3"},         {"codebooks", "AQLM"},
      {"scales", "MLX"}};
  for (const auto& [name, tool] : tools) {
    Tensors tensors = all_of(tiny(true));
    tensors[at + name] = {at + name, FileDtype::U8, {4}};
    expect_refused(tensors, tiny(true), std::string("quantised by ") + tool);
  }
}

// Sizes of which some products are odd.
LlamaConfig quantized_config() {
  LlamaConfig c;
  c.vocab_size = 10, c.hidden = 9, c.intermediate = 80, c.layers = 1, c.heads = 3, c.kv_heads = 1, c.head_dim = 2;
  c.quantization = std::make_shared<const Quantization>();
  return c;
}

TEST_F(ModelFilesTest, QuantisedTensorsAreReadAsTheyAre) {
  const LlamaConfig config = quantized_config();
  const std::string at = "model.layers.0.";
  for (const int block : {32, 64, 4096})
    for (const bool nested : {false, true}) {
      FileTensors tensors = random_tensors(config);
      std::map<std::string, std::vector<float>> expected;
      for (const char* module : {"self_attn.k_proj", "mlp.up_proj", "mlp.down_proj"})
        expected[at + module + ".weight"] = quantize_4bit(tensors, at + module, block, nested);
      expected[at + "mlp.gate_proj.weight"] = quantize_8bit(tensors, at + "mlp.gate_proj");
      expected["lm_head.weight"] = quantize_4bit(tensors, "lm_head", block, nested);
      FileTensor& down = tensors.at(at + "mlp.down_proj.weight");  // its bytes may be called elements of another type
      down.dtype = FileDtype::F16, down.shape = {int64_t(down.data.size()) / 2, 1};
      write_tensors(dir / "model.safetensors", tensors);
      const ModelFiles files(dir, config);
      EXPECT_TRUE(files.warnings().empty());
      EXPECT_EQ(files.quantization().tensors.size(), 5u);
      EXPECT_EQ(files.quantization().books.size(), 3u) << "equal ones once";
      EXPECT_EQ(files.quantization().maps.size(), nested ? 3u : 0u);
      EXPECT_EQ(files.quantized(at + "self_attn.q_proj.weight"), nullptr);
      for (const auto& [name, values] : expected) {
        const auto count = static_cast<int64_t>(values.size());
        // Whole, and from the middle of a block.
        for (const int64_t first : {int64_t{0}, count / 3}) {
          std::vector<float> loaded(static_cast<size_t>(count - first));
          files.load(name, loaded.data(), DType::f32, first, count - first);
          EXPECT_EQ(loaded, std::vector<float>(values.begin() + first, values.end())) << name << " from " << first;
          std::vector<bf16> rounded(loaded.size());
          files.load(name, rounded.data(), DType::bf16, first, count - first);
          for (size_t i = 0; i < loaded.size(); i++) ASSERT_EQ(rounded[i].bits, round_to_bf16(loaded[i]).bits);
        }
      }
    }
}

// A tensor of several pieces.
TEST_F(ModelFilesTest, LoadsQuantisedTensorsInPieces) {
  LlamaConfig config = quantized_config();
  config.hidden = 1011, config.heads = 3, config.intermediate = 3001;
  FileTensors tensors = random_tensors(config);
  const std::string up = "model.layers.0.mlp.up_proj", down = "model.layers.0.mlp.down_proj";
  const std::vector<float> expected = quantize_4bit(tensors, up, 32, true), expected_8bit = quantize_8bit(tensors, down);
  write_tensors(dir / "model.safetensors", tensors);
  const ModelFiles files(dir, config);
  std::vector<float> loaded(expected.size());
  files.load(up + ".weight", loaded.data(), DType::f32, 0, static_cast<int64_t>(loaded.size()));
  EXPECT_TRUE(loaded == expected);
  files.load(down + ".weight", loaded.data(), DType::f32, 0, static_cast<int64_t>(loaded.size()));
  EXPECT_TRUE(loaded == expected_8bit);
  EXPECT_EQ(files.quantization().tensors.at(down + ".weight").block, 3001);
}

// Of a file that is mapped, by /proc/self/smaps.
int64_t resident_bytes(const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/smaps");
  int64_t kib = 0;
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(file.string()) != std::string::npos) here = true;
    if (!here || !line.starts_with("Rss:")) continue;
    kib += std::stoll(line.substr(4));
    here = false;
  }
  return kib * 1024;
}

// Neither what is dequantised nor what is copied stays in memory.
TEST_F(ModelFilesTest, QuantisedTensorsLeaveMemoryAsTheyAreRead) {
  LlamaConfig config = quantized_config();
  config.hidden = 2048, config.heads = 4, config.intermediate = 8192;
  FileTensors tensors = random_tensors(config);
  const std::string plain = "model.layers.0.mlp.up_proj", nested = "model.layers.0.mlp.gate_proj",
                    eight = "model.layers.0.mlp.down_proj";
  quantize_4bit(tensors, plain, 32, false), quantize_4bit(tensors, nested, 32, true), quantize_8bit(tensors, eight);
  write_tensors(dir / "model.safetensors", tensors);
  const ModelFiles files(dir, config);
  // What one fault reads ahead, of each part; the codes alone are 8 MiB and 16.
  constexpr int64_t kFew = 1 << 20;
  for (const std::string& name : {plain + ".weight", nested + ".weight", eight + ".weight"}) {
    const QuantizedTensor& tensor = *files.quantized(name);
    std::vector<bf16> values(static_cast<size_t>(tensor.count()));
    files.load(name, values.data(), DType::bf16, 0, tensor.count());
    EXPECT_LT(resident_bytes(dir / "model.safetensors"), kFew) << name;
    std::vector<std::byte> copy(tensor.codes.size());
    tensor.copy(copy.data(), tensor.codes, 0, static_cast<int64_t>(copy.size()));
    EXPECT_LT(resident_bytes(dir / "model.safetensors"), kFew) << name;
    EXPECT_TRUE(std::equal(copy.begin(), copy.end(), tensor.codes.begin()));
    tensor.copy(copy.data(), tensor.codes, 5, 7);
    EXPECT_TRUE(std::equal(copy.begin(), copy.begin() + 7, tensor.codes.begin() + 5));
    EXPECT_LT(resident_bytes(dir / "model.safetensors"), kFew) << name;
    if (tensor.format.nested) continue;
    std::vector<float> scales(static_cast<size_t>(tensor.format.blocks(tensor.count())));
    tensor.read_scales(scales.data(), 0, static_cast<int64_t>(scales.size()));
    EXPECT_LT(resident_bytes(dir / "model.safetensors"), kFew) << name;
  }
}

TEST_F(ModelFilesTest, DamagedQuantisationIsRefused) {
  const LlamaConfig config = quantized_config();
  const std::string module = "model.layers.0.mlp.up_proj", name = module + ".weight";
  const std::string state = name + ".quant_state.bitsandbytes__nf4";
  const auto with = [&](bool nested, const auto& damage) {
    FileTensors tensors = random_tensors(config);
    quantize_4bit(tensors, module, 64, nested);
    damage(tensors);
    write_tensors(dir / "model.safetensors", tensors);
    return refusal(config);
  };
  EXPECT_EQ(with(true, [](FileTensors&) {}), "");
  EXPECT_EQ(with(false, [](FileTensors&) {}), "");
  // Tensors.
  for (const char* part : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"}) {
    EXPECT_TRUE(says(with(true, [&](FileTensors& t) { t.erase(name + part); }), "is missing"));
    EXPECT_TRUE(says(with(true,
                          [&](FileTensors& t) {
                            t[name + part].shape[0]--;
                            t[name + part].data.resize(t[name + part].data.size() -
                                                       size_t(file_dtype_bits(t[name + part].dtype)) / 8);
                          }),
                     std::string(part) + "\": expected "));
  }
  const auto nan = bytes_of(std::vector<float>{NAN});
  for (const char* part : {".quant_map", ".nested_absmax", ".nested_quant_map"})
    EXPECT_TRUE(says(with(true, [&](FileTensors& t) { t[name + part].data.replace(0, 4, nan); }), "not finite"));
  EXPECT_TRUE(says(with(true, [&](FileTensors& t) { t.erase(state); }), "no quant_state beside it"));
  EXPECT_TRUE(
      says(with(true, [&](FileTensors& t) { t[name + ".quant_state.bitsandbytes__fp4"] = t[state]; }), "two quant_states"));
  EXPECT_TRUE(says(with(true, [&](FileTensors& t) { t[name + ".zero_point"] = t[state]; }), "knows no such part"));
  EXPECT_TRUE(says(with(true,
                        [&](FileTensors& t) {
                          t[name + ".quant_state.other"] = t[state];
                          t.erase(state);
                        }),
                   "expected weights in nf4 or fp4"));
  EXPECT_TRUE(says(with(false, [&](FileTensors& t) { t[name + ".nested_absmax"] = t[name + ".absmax"]; }),
                   "says nothing of double quantisation"));
  EXPECT_TRUE(says(with(true,
                        [&](FileTensors& t) {
                          t[name].data.pop_back();
                          t[name].shape[0]--;
                        }),
                   "bytes of codes, and shape [80, 9] has 360"));
  EXPECT_TRUE(says(with(true, [&](FileTensors& t) { t[name].dtype = FileDtype::I8; }), "expected codes in U8"));
  // The text of the state.
  const std::string good = R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [80, 9])";
  const auto with_text = [&](const std::string& text) {
    return with(false, [&](FileTensors& t) { t[state] = {FileDtype::U8, {int64_t(text.size())}, text}; });
  };
  EXPECT_EQ(with_text(good + "}"), "");
  const std::pair<const char*, const char*> texts[] = {
      {"", "JSON"},
      {"[]", "object"},
      {"{", "JSON"},
      {"{}", "quant_type"},
      {R"({"quant_type": "fp4", "blocksize": 64, "dtype": "bfloat16", "shape": [80, 9]})", "expected \"nf4\""},
      {R"({"quant_type": 4, "blocksize": 64, "dtype": "bfloat16", "shape": [80, 9]})", "quant_type"},
      {R"({"quant_type": "nf4", "blocksize": 63, "dtype": "bfloat16", "shape": [80, 9]})", "power of two"},
      {R"({"quant_type": "nf4", "blocksize": 8192, "dtype": "bfloat16", "shape": [80, 9]})", "power of two"},
      {R"({"quant_type": "nf4", "blocksize": -64, "dtype": "bfloat16", "shape": [80, 9]})", "blocksize"},
      {R"({"quant_type": "nf4", "blocksize": 1e30, "dtype": "bfloat16", "shape": [80, 9]})", "blocksize"},
      {R"({"quant_type": "nf4", "blocksize": 64, "dtype": "int8", "shape": [80, 9]})", "found \"int8\""},
      {R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [9, 80]})", "expected shape [80, 9]"},
      {R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [80, 9, 1]})", "expected shape [80, 9]"},
      {R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16"})", "expected shape [80, 9]"},
      {R"({"quant_type": "nf4", "blocksize": 64, "blocksize": 64, "dtype": "bfloat16", "shape": [80, 9]})", "blocksize"}};
  for (const auto& [text, why] : texts) EXPECT_TRUE(says(with_text(text), why)) << text;
  for (const char* nested :
       {R"(, "nested_blocksize": 128, "nested_dtype": "float32", "nested_offset": 0.5})",
        R"(, "nested_blocksize": 256, "nested_dtype": "float16", "nested_offset": 0.5})",
        R"(, "nested_blocksize": 256, "nested_dtype": "float32"})",
        R"(, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 1e39})", R"(, "nested_offset": 0.5})"})
    EXPECT_TRUE(says(with_text(good + nested), "nested_")) << nested;
  EXPECT_TRUE(says(with_text(std::string(1 << 20, '[')), "are no quant_state"));
}

// Whatever the bytes of the header, the states and the tables are: a model that loads, or one line.
TEST_F(ModelFilesTest, AnyDamageIsRefusedOrHarmless) {
  const LlamaConfig config = quantized_config();
  FileTensors tensors = random_tensors(config);
  quantize_4bit(tensors, "model.layers.0.mlp.up_proj", 64, true);
  quantize_4bit(tensors, "model.layers.0.mlp.down_proj", 32, false);
  quantize_8bit(tensors, "model.layers.0.self_attn.q_proj");
  write_tensors(dir / "good.safetensors", tensors);
  const std::string good = read_file(dir / "good.safetensors");
  const std::vector<Edit> edits = {[](std::string& bytes, size_t at) { bytes[at] ^= 1; },
                                   [](std::string& bytes, size_t at) { bytes[at] = '9'; },
                                   [](std::string& bytes, size_t at) { bytes[at] = static_cast<char>(0xff); },
                                   [](std::string& bytes, size_t at) { bytes[at] = '"'; }};
  std::mt19937 random(9);
  std::vector<float> out(80 * 9);
  int loads = 0;
  for (int i = 0; i < 600; i++) {
    std::ofstream(dir / "model.safetensors", std::ios::binary) << mutated(good, random, 3, edits);
    loads += message_of([&] {
               const ModelFiles files(dir, config);
               for (const auto& [name, format] : files.quantization().tensors)
                 files.load(name, out.data(), DType::f32, 0, format.code == WeightCode::int8 ? 6 * 9 : 80 * 9);
             }) == "";
  }
  EXPECT_GT(loads, 40);
  EXPECT_LT(loads, 560);
}

TEST_F(ModelFilesTest, DamagedEightBitsAreRefused) {
  LlamaConfig config = quantized_config();
  const std::string module = "model.layers.0.mlp.up_proj";
  const auto with = [&](const auto& damage) {
    FileTensors tensors = random_tensors(config);
    quantize_8bit(tensors, module);
    damage(tensors);
    write_tensors(dir / "model.safetensors", tensors);
    return refusal(config);
  };
  EXPECT_EQ(with([](FileTensors&) {}), "");
  EXPECT_EQ(with([&](FileTensors& t) { t.erase(module + ".weight_format"); }), "");
  EXPECT_TRUE(says(with([&](FileTensors& t) { t[module + ".weight_format"].data[0] = 2; }), "found layout 2"));
  EXPECT_TRUE(says(with([&](FileTensors& t) { t[module + ".weight"].dtype = FileDtype::U8; }), "expected I8"));
  EXPECT_TRUE(says(with([&](FileTensors& t) { t[module + ".weight"].shape = {9, 80}; }), "expected I8 of shape [80, 9]"));
  EXPECT_TRUE(says(with([&](FileTensors& t) { t[module + ".SCB"].dtype = FileDtype::I32; }), "expected 80 of F32"));
  config.quantization = nullptr;
  EXPECT_TRUE(says(with([](FileTensors&) {}), "config.json has no quantization_config"));
  // A scale that is not finite is found when it is read.
  config.quantization = std::make_shared<const Quantization>();
  EXPECT_EQ(with([&](FileTensors& t) { t[module + ".SCB"].data.replace(4, 4, bytes_of(std::vector<float>{INFINITY})); }), "");
  const ModelFiles files(dir, config);
  std::vector<float> out(80 * 9);
  EXPECT_TRUE(says(refusal_of([&] { files.load(module + ".weight", out.data(), DType::f32, 0, 80 * 9); }), "not finite"));
}

// LlamaModel's files: transformers reads them into the whole model.
TEST_F(ModelFilesTest, ABodyWithoutPrefix) {
  const auto bare = [](const Tensors& whole) {
    Tensors tensors;
    for (auto [name, spec] : whole) {
      if (name.starts_with("model.")) spec.name = name.substr(6);
      tensors[spec.name] = spec;
    }
    return tensors;
  };
  write("model.safetensors", bare(all_of(tiny(true))), {{"norm.weight", '\2'}});
  const ModelFiles files(dir, tiny(true));
  EXPECT_TRUE(files.warnings().empty());
  EXPECT_EQ(files.tensor("model.norm.weight").data[0], std::byte{2});
  write("model.safetensors", bare(all_of(tiny(false))));
  EXPECT_EQ(refusal(tiny(false)), "");  // with a head
  expect_refused(bare(all_of(tiny(true))), tiny(false), "a body without a head (LlamaModel)");
  // A classifier: the body with its prefix, and another head.
  Tensors classifier = all_of(tiny(true));
  classifier["score.weight"] = {"score.weight", FileDtype::BF16, {2, 4}};
  expect_refused(classifier, tiny(false), "\"lm_head.weight\" is missing");
}

TEST_F(ModelFilesTest, OtherWeightsAreNamed) {
  expect_refused(tiny(true), "found neither");
  for (const auto& [file, why] : {std::pair("model.gguf", "GGUF"), std::pair("weights.safetensors", "is its name right"),
                                  std::pair("consolidated.00.pth", "Meta's format"),
                                  std::pair("pytorch_model.bin.index.json", "converted to safetensors")}) {
    write_file_atomic(dir / file, "x");
    expect_refused(tiny(true), why);
    std::filesystem::remove(dir / file);
  }
}

TEST_F(ModelFilesTest, ATensorIsReplacedByAnEqualShape) {
  write("model.safetensors", all_of(tiny(false)));
  ModelFiles files(dir, tiny(false));
  std::vector<float> same(40);
  files.load("lm_head.weight", same.data(), DType::f32, 0, 40);
  const std::vector<float> other(40, 2.0f);
  const auto file = [&](const char* name, const std::vector<float>& values) {
    write_safetensors(dir / name, {{{"t", FileDtype::F32, {10, 4}}, std::as_bytes(std::span(values))}});
    return SafetensorsFile(dir / name);
  };
  const SafetensorsFile equal = file("equal", same), different = file("different", other);
  EXPECT_FALSE(files.replace("lm_head.weight", equal, *equal.find("t")));  // fp32 of the same values
  EXPECT_TRUE(files.replace("lm_head.weight", different, *different.find("t")));
  EXPECT_EQ(files.tensor("lm_head.weight").data.data(), different.bytes("t").data());
  EXPECT_FALSE(files.replace("lm_head.weight", different, *different.find("t")));
  const std::vector<std::byte> bytes(40);
  write_safetensors(dir / "u8", {{{"t", FileDtype::U8, {10, 4}}, bytes}});
  const SafetensorsFile u8(dir / "u8");
  EXPECT_TRUE(says(refusal_of([&] { files.replace("lm_head.weight", u8, *u8.find("t")); }), "found U8"));
}

TEST_F(ModelFilesTest, TiedHead) {
  const Tensors both = all_of(tiny(false));
  write("model.safetensors", both);
  EXPECT_EQ(refusal(tiny(true)), "");  // equal: it is the embedding
  EXPECT_TRUE(ModelFiles(dir, tiny(true)).warnings().empty());
  write("model.safetensors", both, {{"lm_head.weight", '\2'}});
  expect_refused(tiny(true), "tie_word_embeddings is true, but lm_head.weight differs");
  EXPECT_EQ(refusal(tiny(false)), "");
  Tensors head_only = both;
  head_only.erase("model.embed_tokens.weight");
  write("model.safetensors", head_only, {{"lm_head.weight", '\3'}});
  EXPECT_EQ(ModelFiles(dir, tiny(true)).tensor("model.embed_tokens.weight").data[0], std::byte{3});
  expect_refused(tiny(false), "embed_tokens");
}

TEST_F(ModelFilesTest, Shards) {
  const std::string one = "model-00001-of-00002.safetensors", two = "model-00002-of-00002.safetensors";
  std::map<std::string, std::string> map;
  Tensors first, second;
  for (const auto& [name, spec] : all_of(tiny(false))) {
    const bool in_first = name.find("layers.0") != std::string::npos;
    (in_first ? first : second)[name] = spec;
    map[name] = in_first ? one : two;
  }
  write(one, first);
  write(two, second, {{"model.norm.weight", '\7'}});
  write_index(map);
  EXPECT_EQ(refusal(tiny(false)), "");
  EXPECT_EQ(ModelFiles(dir, tiny(false)).tensor("model.norm.weight").data[0], std::byte{7});

  const auto write_index_with_norm_in = [&](const std::string& file) {
    auto changed = map;
    changed["model.norm.weight"] = file;
    write_index(changed);
  };
  for (const char* name : {"../model-00001-of-00002.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\\b"}) {
    write_index_with_norm_in(name);
    expect_refused(tiny(false), "not a plain file name");
  }
  write_index_with_norm_in(one);
  expect_refused(tiny(false), "is not in \"" + one);
  write_index_with_norm_in("model-00003-of-00003.safetensors");
  expect_refused(tiny(false), "no such file");
  auto unmapped = map;
  unmapped.erase("model.norm.weight");
  write_index(unmapped);
  expect_refused(tiny(false), "\"model.norm.weight\" is missing");
  write_index(map);
  first["model.norm.weight"] = second["model.norm.weight"];
  write(one, first);
  expect_refused(tiny(false), "is in two files");
  for (const char* text : {"{}", "[]", "{\"weight_map\": []}", "{\"weight_map\": {\"a\": 1}}", "{", "{\"weight_map\": {}}"}) {
    write_file_atomic(dir / "model.safetensors.index.json", text);
    EXPECT_NE(refusal(tiny(false)), "") << text;
  }
}

// Every half and every bf16, and floats around every rounding boundary, against the arithmetic of double.
TEST(ConvertTensor, RoundsToNearestEven) {
  std::vector<uint16_t> codes(65536);
  for (size_t i = 0; i < codes.size(); i++) codes[i] = uint16_t(i);
  const auto view = [](const auto& values, FileDtype dtype) { return TensorView{dtype, {}, std::as_bytes(std::span(values))}; };
  std::vector<float> from_half(codes.size()), from_bf16(codes.size());
  convert_tensor(view(codes, FileDtype::F16), from_half.data(), DType::f32, "t");
  convert_tensor(view(codes, FileDtype::BF16), from_bf16.data(), DType::f32, "t");
  for (size_t i = 0; i < codes.size(); i++) {
    const int exponent = (i >> 10) & 31, mantissa = i & 1023;
    const double sign = i >> 15 ? -1 : 1;
    const double expected = exponent == 31
                                ? (mantissa ? NAN : sign * INFINITY)
                                : sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(from_half[i])) << i;
    } else {
      EXPECT_EQ(from_half[i], expected) << i;
    }
    uint32_t bits;
    std::memcpy(&bits, &from_bf16[i], 4);
    EXPECT_EQ(bits, uint32_t(i) << 16) << i;
  }

  // Between neighbours: the middle goes to the even code, anything nearer to one of them goes there.
  const auto check = [&](const std::vector<float>& exact, size_t last, DType to) {
    std::vector<float> values;
    std::vector<uint16_t> expected;
    for (size_t i = 0; i < last; i++) {
      const float low = exact[i], high = exact[i + 1];
      const float middle = float((double(low) + double(high)) / 2);  // exact: one more bit than the code has
      values.insert(values.end(), {low, std::nextafter(middle, low), middle, std::nextafter(middle, high)});
      expected.insert(expected.end(), {uint16_t(i), uint16_t(i), uint16_t(i + i % 2), uint16_t(i + 1)});
    }
    std::vector<uint16_t> got(values.size());
    convert_tensor(view(values, FileDtype::F32), got.data(), to, "t");
    EXPECT_EQ(got, expected);
  };
  check(from_half, 0x7bff, DType::f16);
  check(from_bf16, 0x7f7f, DType::bf16);
  std::vector<float> special = {-0.0f, INFINITY, -INFINITY, NAN};
  std::vector<uint16_t> got(4);
  convert_tensor(view(special, FileDtype::F32), got.data(), DType::f16, "t");
  EXPECT_EQ(got[0], 0x8000);
  EXPECT_EQ(got[1], 0x7c00);
  EXPECT_EQ(got[2], 0xfc00);
  EXPECT_GT(got[3] & 0x7fff, 0x7c00);
}

TEST(ConvertTensor, UnalignedAndTooLarge) {
  const std::vector<float> values = {1.5f, -2.25f, 65519.0f};
  std::vector<std::byte> shifted(values.size() * 4 + 1);
  std::memcpy(shifted.data() + 1, values.data(), values.size() * 4);
  const TensorView view{FileDtype::F32, {3}, std::span(shifted).subspan(1)};
  std::vector<float> same(3);
  convert_tensor(view, same.data(), DType::f32, "t");
  EXPECT_EQ(same, values);
  std::vector<half> halves(3);
  convert_tensor(view, halves.data(), DType::f16, "t");
  EXPECT_EQ(to_acc(halves[2]), 65504.0f);
  const std::vector<float> large = {65520.0f};
  EXPECT_THROW(convert_tensor({FileDtype::F32, {1}, std::as_bytes(std::span(large))}, halves.data(), DType::f16, "t"), Error);
}

// A tensor of several pieces: nothing is lost at their bounds.
TEST_F(ModelFilesTest, LoadsInPieces) {
  LlamaConfig config = tiny(true);
  config.vocab_size = 150'001, config.hidden = 8, config.head_dim = 4;
  std::vector<TensorEntry> entries;
  std::map<std::string, std::vector<float>> values;
  for (const WeightSpec& spec : weight_specs(config)) {
    std::vector<float>& v = values[spec.name];
    v.resize(size_t(element_count(spec.shape)));
    for (size_t i = 0; i < v.size(); i++) v[i] = float(i % 251) - 125;
    entries.push_back({{spec.name, FileDtype::F32, spec.shape}, std::as_bytes(std::span(v))});
  }
  write_safetensors(dir / "model.safetensors", entries);
  const ModelFiles files(dir, config);
  const std::string name = "model.embed_tokens.weight";
  std::vector<bf16> loaded(values[name].size());
  files.load(name, loaded.data(), DType::bf16, 0, static_cast<int64_t>(loaded.size()));
  int64_t wrong = 0;
  for (size_t i = 0; i < loaded.size(); i++) wrong += to_acc(loaded[i]) != values[name][i];
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace tll
