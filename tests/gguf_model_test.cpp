#include "src/files/gguf_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>

#include "kernels/elementwise.h"
#include "src/base/json.h"
#include "src/files/gguf_blocks.h"
#include "tests/gguf_bytes.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

const std::filesystem::path kGoldens = "tests/goldens";

class GgufModelTest : public testing::Test {
 protected:
  GgufBytes golden(const std::string& name, GgufType matrices = GgufType::F32) {
    config_ = load_config(kGoldens / name);
    GgufBytes g = gguf_of(kGoldens / name, config_, matrices);
    if (name == "llama3_rope") g.tensor("rope_freqs.weight", {10}, GgufType::F32, raw_of(llama3_divisors(config_)));
    return g;
  }
  // As the converter computes them.
  static std::vector<float> llama3_divisors(const LlamaConfig& c) {
    std::vector<float> divisors;
    for (int i = 0; i < c.head_dim / 2; i++) {
      const auto frequency =
          static_cast<float>(1 / std::pow(c.rope.theta, static_cast<double>(2 * i) / static_cast<double>(c.head_dim)));
      const float length = static_cast<float>(2 * std::numbers::pi) / frequency;
      const auto original = static_cast<float>(c.rope.original_max), factor = static_cast<float>(c.rope.factor);
      const float t = (original / length - 1) / 3;
      divisors.push_back(length < original / 4 ? 1 : length > original ? factor : 1 / ((1 - t) / factor + t));
    }
    return divisors;
  }
  std::filesystem::path write(const GgufBytes& g, const std::string& name = "m.gguf") const {
    return dir.write(name, g.bytes()) / name;
  }
  LlamaConfig config_of(const GgufBytes& g) const { return load_config(write(g)); }
  std::string refusal(const GgufBytes& g) const {
    return refusal_of([&] {
      const std::filesystem::path path = write(g);
      ModelFiles(path, load_config(path));
    });
  }
  // A file of every key but those of rope_freqs; the sizes of gqa_tied.
  GgufBytes plain() { return golden("gqa_tied"); }

  TemporaryDirectory dir;
  LlamaConfig config_;
};

TEST_F(GgufModelTest, ConfigEqualsTheDirectorys) {
  for (const char* name : {"gqa_tied", "llama3_rope", "mha_biases"}) {
    const LlamaConfig c = config_of(golden(name)), &d = config_;
    EXPECT_EQ(c.architecture, d.architecture);
    EXPECT_EQ(std::tie(c.vocab_size, c.hidden, c.intermediate, c.layers, c.heads, c.kv_heads, c.head_dim, c.max_positions),
              std::tie(d.vocab_size, d.hidden, d.intermediate, d.layers, d.heads, d.kv_heads, d.head_dim, d.max_positions))
        << name;
    EXPECT_EQ(std::tie(c.rms_eps, c.tie_embeddings, c.attention_bias, c.mlp_bias, c.bos, c.eos),
              std::tie(d.rms_eps, d.tie_embeddings, d.attention_bias, d.mlp_bias, d.bos, d.eos))
        << name;
    EXPECT_EQ(std::tie(c.rope.type, c.rope.theta, c.rope.factor, c.rope.low, c.rope.high),
              std::tie(d.rope.type, d.rope.theta, d.rope.factor, d.rope.low, d.rope.high))
        << name;
    EXPECT_TRUE(d.rope.type != RopeType::llama3 || c.rope.original_max == d.rope.original_max) << c.rope.original_max;
    EXPECT_EQ(c.warnings, std::vector<std::string>{}) << name;
  }
}

// Rows of q and k back in their places, biases too; any range of elements; each type.
TEST_F(GgufModelTest, WeightsEqualTheDirectorys) {
  for (const char* name : {"gqa_tied", "llama3_rope", "mha_biases"}) {
    for (const GgufType type : {GgufType::F32, GgufType::F16, GgufType::BF16}) {
      const std::filesystem::path path = write(golden(name, type));
      const ModelFiles files(path, load_config(path)), of(kGoldens / name, config_);
      for (const WeightSpec& spec : weight_specs(config_)) {
        const auto count = static_cast<size_t>(element_count(spec.shape));
        std::vector<float> expected(count), values(count);
        of.load(spec.name, expected.data(), DType::f32, 0, static_cast<int64_t>(count));
        if (spec.shape.size() > 1 && type != GgufType::F32)  // as they were rounded
          for (float& v : expected) v = type == GgufType::F16 ? to_acc(from_acc<half>(v)) : to_acc(from_acc<bf16>(v));
        files.load(spec.name, values.data(), DType::f32, 0, static_cast<int64_t>(count));
        EXPECT_EQ(values, expected) << name << " " << spec.name;
        const size_t first = count / 3, n = count / 2;
        std::vector<float> part(n);
        files.load(spec.name, part.data(), DType::f32, static_cast<int64_t>(first), static_cast<int64_t>(n));
        EXPECT_TRUE(std::equal(part.begin(), part.end(), expected.begin() + static_cast<ptrdiff_t>(first))) << spec.name;
        std::vector<bf16> rounded(count);
        files.load(spec.name, rounded.data(), DType::bf16, 0, static_cast<int64_t>(count));
        for (size_t i = 0; i < count; i++) ASSERT_EQ(rounded[i].bits, from_acc<bf16>(expected[i]).bits);
        const DType own = spec.shape.size() == 1 || type == GgufType::F32 ? DType::f32
                          : type == GgufType::F16                         ? DType::f16
                                                                          : DType::bf16;
        EXPECT_EQ(files.dtype(spec.name), own);
      }
    }
  }
}

// Blocks move with their rows, and any range of elements may begin and end in a block.
TEST_F(GgufModelTest, RowsOfBlocks) {
  LlamaConfig c;
  c.vocab_size = 5, c.hidden = 512, c.intermediate = 256, c.layers = 1, c.heads = 2, c.kv_heads = 1, c.head_dim = 4;
  c.tie_embeddings = true;
  std::mt19937 random(4);
  const GgufType types[] = {GgufType::Q4_0, GgufType::Q4_1, GgufType::Q5_0, GgufType::Q5_1,
                            GgufType::Q8_0, GgufType::Q4_K, GgufType::Q5_K, GgufType::Q6_K};
  size_t next = 0;
  GgufBytes g;
  std::map<std::string, std::vector<float>> expected;
  for (const WeightSpec& spec : weight_specs(c)) {
    const bool blocks = spec.shape.size() == 2 && spec.shape[1] % kLargestGgufBlock == 0;
    const GgufTypeRow& row = gguf_type_row(blocks ? types[next++ % std::size(types)] : GgufType::F32);
    const auto count = static_cast<size_t>(element_count(spec.shape));
    std::string data(count / static_cast<size_t>(row.block) * static_cast<size_t>(row.bytes), '\0');
    for (char& byte : data) byte = static_cast<char>(random() & 0x3B);  // no scale is infinite or NaN
    std::vector<float> values(count);
    if (!blocks)
      std::memcpy(values.data(), data.data(), data.size());
    else
      for (size_t i = 0; i * static_cast<size_t>(row.block) < count; i++)
        gguf_dequantize_block(row.type, reinterpret_cast<const std::byte*>(data.data()) + i * static_cast<size_t>(row.bytes),
                              values.data() + i * static_cast<size_t>(row.block));
    if (spec.name.find("q_proj") != std::string::npos || spec.name.find("k_proj") != std::string::npos) {
      // Of 4 rows of a head the file has 0, 2, 1, 3.
      std::vector<float> turned(count);
      for (size_t r = 0; r < count / 512; r++) {
        constexpr size_t kPlace[] = {0, 2, 1, 3};
        std::copy_n(values.begin() + static_cast<ptrdiff_t>((r / 4 * 4 + kPlace[r % 4]) * 512), 512,
                    turned.begin() + static_cast<ptrdiff_t>(r * 512));
      }
      values = turned;
    }
    expected[spec.name] = values;
    g.tensor(gguf_tensor_name(c, spec.name), spec.shape, row.type, data);
  }
  EXPECT_GE(next, std::size(types) - 1);
  const GgufWeights weights(write(g), c);
  for (const auto& [name, values] : expected) {
    for (int i = 0; i < 20; i++) {
      const size_t first = random() % values.size(), n = 1 + random() % (values.size() - first);
      std::vector<float> part(n);
      weights.load(name, part.data(), DType::f32, static_cast<int64_t>(first), static_cast<int64_t>(n));
      ASSERT_EQ(std::memcmp(part.data(), values.data() + first, n * sizeof(float)), 0) << name << " from " << first << ", " << n;
    }
  }
}

TEST_F(GgufModelTest, RopeScalings) {
  GgufBytes g = plain();
  g.text("llama.rope.scaling.type", "linear");
  g.f32("llama.rope.scaling.factor", 2.5F);
  LlamaConfig c = config_of(g);
  EXPECT_EQ(c.rope.type, RopeType::linear);
  EXPECT_EQ(c.rope.factor, 2.5);
  g.text("llama.rope.scaling.type", "none");
  EXPECT_EQ(config_of(g).rope.type, RopeType::plain);
  g.text("llama.rope.scaling.type", "yarn");
  g.u32("llama.rope.scaling.original_context_length", 77);
  c = config_of(g);
  EXPECT_EQ(c.rope.type, RopeType::yarn);
  EXPECT_EQ(c.rope.original_max, 77);
  g.f32("llama.rope.scaling.yarn_ext_factor", 0.5F);
  EXPECT_TRUE(says(refusal(g), "yarn_ext_factor\" is 0.5: it changes what the model computes"));
  g.remove("llama.rope.scaling.yarn_ext_factor");
  g.text("llama.rope.scaling.type", "ntk");
  EXPECT_TRUE(says(refusal(g), "expected none, linear, yarn or longrope, found \"ntk\""));
}

TEST_F(GgufModelTest, DivisorsOfLlama3) {
  // Llama 3.2 1B: 64 values of a head, theta 5e5, factor 32, of 8192.
  LlamaConfig c;
  c.head_dim = 64, c.rope.type = RopeType::llama3, c.rope.theta = 5e5, c.rope.factor = 32, c.rope.original_max = 8192;
  GgufBytes g = plain();
  const auto with = [&](std::vector<float> divisors) {
    GgufBytes made = g;
    made.u32("llama.attention.key_length", 64), made.u32("llama.attention.value_length", 64);
    made.u32("llama.rope.dimension_count", 64);
    made.f32("llama.rope.freq_base", 5e5F);
    made.tensor("rope_freqs.weight", {static_cast<int64_t>(divisors.size())}, GgufType::F32, raw_of(divisors));
    return gguf_config_files(GgufModel(write(made))).at("config.json");
  };
  const auto refused = [&](const std::vector<float>& divisors) { return refusal_of([&] { with(divisors); }); };
  std::vector<float> divisors = llama3_divisors(c);
  const Json scaling = parse_json(with(divisors), "").at("rope_scaling");
  EXPECT_EQ(scaling, Json::parse(R"({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                     "original_max_position_embeddings": 8192})"));
  EXPECT_TRUE(parse_json(with(std::vector<float>(32, 1.0F)), "").at("rope_scaling").is_null());
  divisors[16] *= 1.01F;
  EXPECT_TRUE(says(refused(divisors), "are not those of Llama 3's scaling"));
  EXPECT_TRUE(says(refused({1, 2}), "are not those of Llama 3's scaling"));
  divisors[16] = 0;
  EXPECT_TRUE(says(refused(divisors), "numbers above 0"));
  EXPECT_TRUE(says(refused(std::vector<float>(33, 8.0F)), "half of a head"));
}

TEST_F(GgufModelTest, LongRopeOfPhi3) {
  GgufBytes g;
  for (const auto& [key, value] : {std::pair("block_count", 1u),
                                   {"context_length", 131072u},
                                   {"embedding_length", 8u},
                                   {"feed_forward_length", 8u},
                                   {"attention.head_count", 2u},
                                   {"rope.scaling.original_context_length", 4096u},
                                   {"attention.sliding_window", 262144u}})
    g.u32(std::string("phi3.") + key, value);
  g.text("general.architecture", "phi3");
  g.f32("phi3.attention.layer_norm_rms_epsilon", 1e-5F);
  g.f32("phi3.rope.scaling.attn_factor", 1.1902381F);
  g.tensor("token_embd.weight", {3, 8}, GgufType::F32, std::string(96, '\0'));
  g.tensor("rope_factors_short.weight", {2}, GgufType::F32, raw_of(std::vector<float>{1, 1.1F}));
  EXPECT_TRUE(says(refusal_of([&] { gguf_config_files(GgufModel(write(g))); }), "needs the tensors rope_factors_long.weight"));
  g.tensor("rope_factors_long.weight", {2}, GgufType::F32, raw_of(std::vector<float>{1, 30.5F}));
  const Json c = parse_json(gguf_config_files(GgufModel(write(g))).at("config.json"), "");
  EXPECT_EQ(c.at("original_max_position_embeddings"), 4096);
  EXPECT_EQ(c.at("sliding_window"), 262144);
  EXPECT_EQ(c.at("model_type"), "phi3");
  EXPECT_EQ(c.at("rope_scaling"),
            Json::parse(R"({"rope_type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [1.0, 30.5]})"));
}

TEST_F(GgufModelTest, AWindowMakesItMistral) {
  GgufBytes g = plain();
  g.u32("llama.attention.sliding_window", 12);
  const Json c = parse_json(gguf_config_files(GgufModel(write(g))).at("config.json"), "");
  EXPECT_EQ(c.at("model_type"), "mistral");
  EXPECT_EQ(c.at("sliding_window"), 12);
}

TEST_F(GgufModelTest, OtherFilesAreNamed) {
  const auto typed = [&](const std::string& key, const std::string& value) {
    GgufBytes g = plain();
    g.text(key, value);
    return refusal(g);
  };
  EXPECT_TRUE(says(typed("general.type", "adapter"), "this is an adapter"));
  EXPECT_TRUE(says(typed("general.type", "imatrix"), "an importance matrix"));
  EXPECT_TRUE(says(typed("general.type", "mmproj"), "the projector of a model"));
  EXPECT_TRUE(says(typed("general.architecture", "clip"), "the projector of a model"));
  EXPECT_TRUE(says(typed("general.type", "novel"), "expected \"model\", found \"novel\""));
  EXPECT_TRUE(says(typed("general.architecture", "gemma2"), "expected llama, qwen2, qwen3, phi3, found \"gemma2\""));
  GgufBytes vocabulary = plain();
  vocabulary.tensors.clear();
  EXPECT_TRUE(says(refusal(vocabulary), "a vocabulary alone"));
}

TEST_F(GgufModelTest, BadKeysAreRefused) {
  const GgufBytes whole = plain();
  for (const char* key : {"llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
                          "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon", "general.architecture"}) {
    GgufBytes g = whole;
    g.remove(key);
    EXPECT_TRUE(says(refusal(g), fmt::format("key \"{}\" is missing", key)));
  }
  const auto with = [&](const std::string& key, uint32_t value) {
    GgufBytes g = whole;
    g.u32("llama." + key, value);
    return refusal(g);
  };
  EXPECT_TRUE(says(with("vocab_size", 9), "but token_embd.weight has"));
  EXPECT_TRUE(says(with("attention.value_length", 5), "the length of keys"));
  EXPECT_TRUE(says(with("attention.head_count", 0), "expected at least 1"));
  EXPECT_TRUE(says(with("attention.key_length", 0), "heads of 0 values"));
  EXPECT_TRUE(says(with("block_count", 4000000000u), "num_hidden_layers"));
  EXPECT_TRUE(says(with("expert_count", 8), "expert_count\" is 8: it changes what the model computes"));
  EXPECT_TRUE(says(with("rope.dimension_count", 2), "partial_rotary_factor"));
  EXPECT_TRUE(
      says(with("block_count", 3), "\"blk.2.attn_norm.weight\" is missing, which is model.layers.2.input_layernorm.weight"));
  GgufBytes layers = whole;
  layers.i32s("llama.attention.head_count_kv", {1, 2});
  EXPECT_TRUE(says(refusal(layers), "expected an integer, found an array of 2 i32"));
  GgufBytes noted = whole;
  noted.u32("llama.novel", 1);
  EXPECT_TRUE(says(config_of(noted).warnings.at(0), "key \"llama.novel\" is not known and is ignored"));
}

TEST_F(GgufModelTest, TensorsMustBeThoseOfTheModel) {
  const GgufBytes whole = plain();
  GgufBytes g = whole;
  g.tensor("blk.0.attn_q_norm.weight", {4}, GgufType::F32, std::string(16, '\0'));
  EXPECT_TRUE(says(refusal(g), "\"blk.0.attn_q_norm.weight\" is not part of a LlamaForCausalLM"));
  g = whole;
  std::erase_if(g.tensors, [](const auto& t) { return t.name == "blk.1.ffn_up.weight"; });
  EXPECT_TRUE(says(refusal(g), "\"blk.1.ffn_up.weight\" is missing, which is model.layers.1.mlp.up_proj.weight"));
  g = whole;
  for (auto& t : g.tensors)
    if (t.name == "blk.1.ffn_up.weight") std::swap(t.shape[0], t.shape[1]);
  EXPECT_TRUE(says(refusal(g), "expected shape"));
  g = whole;
  std::erase_if(g.tensors, [](const auto& t) { return t.name == "token_embd.weight"; });
  EXPECT_TRUE(says(refusal(g), "token_embd.weight is missing"));
  // Too large for fp16.
  g = whole;
  for (auto& t : g.tensors)
    if (t.name == "output_norm.weight") t.data.replace(0, 4, gguf_raw(1e30F));
  const std::filesystem::path path = write(g);
  const ModelFiles files(path, load_config(path));
  std::vector<half> out(static_cast<size_t>(config_.hidden));
  EXPECT_TRUE(says(refusal_of([&] { files.load("model.norm.weight", out.data(), DType::f16, 0, config_.hidden); }),
                   "\"output_norm.weight\": a value is too large for fp16"));
}

TEST_F(GgufModelTest, Shards) {
  const GgufBytes whole = plain();
  const auto split = [&](int count, const std::function<void(GgufBytes&, int)>& change = {}) {
    for (int i = 0; i < count; i++) {
      GgufBytes part;
      if (i == 0) part.pairs = whole.pairs;
      part.u16("split.no", static_cast<uint16_t>(i)), part.u16("split.count", static_cast<uint16_t>(count));
      part.put("split.tensors.count", gguf_raw(5u) + gguf_raw(static_cast<int32_t>(whole.tensors.size())));
      for (size_t t = 0; t < whole.tensors.size(); t++)
        if (static_cast<int>(t) % count == i) part.tensors.push_back(whole.tensors[t]);
      if (change) change(part, i);
      write(part, fmt::format("m-{:05}-of-{:05}.gguf", i + 1, count));
    }
  };
  const auto open = [&](const char* name) { return ModelFiles(dir / name, load_config(dir / name)); };
  const auto refused = [&](const char* name) { return refusal_of([&] { open(name); }); };
  split(3);
  for (const char* name : {"m-00001-of-00003.gguf", "m-00003-of-00003.gguf"}) EXPECT_NO_THROW(open(name));
  std::filesystem::rename(dir / "m-00002-of-00003.gguf", dir / "x.gguf");
  EXPECT_TRUE(says(refused("m-00001-of-00003.gguf"), "expected 3 files, and there is no m-00002-of-00003.gguf"));
  EXPECT_TRUE(says(refused("x.gguf"), "one of 3 files of a model"));
  split(2, [](GgufBytes& part, int i) { part.u16("split.no", static_cast<uint16_t>(i + 1)); });
  EXPECT_TRUE(says(refused("m-00001-of-00002.gguf"), "key \"split.no\": expected 0, found 1"));
  split(2, [&](GgufBytes& part, int i) {
    if (i == 1) part.tensors.push_back(whole.tensors[0]);
  });
  EXPECT_TRUE(says(refused("m-00001-of-00002.gguf"), "is in two files"));
  split(2, [&](GgufBytes& part, int i) {
    if (i == 1) part.tensors.pop_back();
  });
  EXPECT_TRUE(says(refused("m-00001-of-00002.gguf"), "as there are in all files"));
  write(whole, "m-00001-of-00002.gguf");
  EXPECT_TRUE(says(refused("m-00001-of-00002.gguf"), "its name is that of one of 2 files, but key \"split.count\" says nothing"));
}

}  // namespace
}  // namespace tll
