// What a run leaves for other programs: the model's config.json says the same to both generations of transformers.
#include "src/commands/save.h"

#include <gtest/gtest.h>

#include "src/base/file.h"
#include "src/base/json.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

class SaveTest : public testing::Test {
 protected:
  // The config.json of a model saved with these keys about the rotary embedding in the one it came from.
  Json saved(const Json& rope, FileDtype dtype = FileDtype::F32) const {
    Json config = {{"model_type", "llama"},  {"vocab_size", 8},        {"hidden_size", 4},
                   {"intermediate_size", 6}, {"num_hidden_layers", 1}, {"num_attention_heads", 2},
                   {"rms_norm_eps", 1e-5},   {"my_key", {1, 2}},       {"max_position_embeddings", 64}};
    config.update(rope);
    write_file_atomic(directory_ / "from.json", config.dump());
    const std::vector<NamedTensor> tensors = {{"b", {2, 3}, 0}, {"a", {2}, 6}};
    const float values[] = {1, 2, 3, 4, 5, 6, 7, 1.00390625f};
    save_model(directory_, directory_ / "from.json", tensors, values, dtype);
    return parse_json(read_file(directory_ / "config.json"), "config.json");
  }

  const TemporaryDirectory directory_;
};

TEST_F(SaveTest, BothGenerationsOfConfigSayTheSame) {
  const Json llama3 = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}};
  Json llama3_with_theta = llama3;
  llama3_with_theta["rope_theta"] = 5e5;
  for (const Json& rope : {Json{{"rope_theta", 5e5}, {"rope_scaling", llama3}}, Json{{"rope_parameters", llama3_with_theta}}}) {
    const Json config = saved(rope);
    EXPECT_EQ(config["rope_theta"], 5e5);
    EXPECT_EQ(config["rope_scaling"]["rope_type"], "llama3");
    EXPECT_EQ(config["rope_scaling"]["original_max_position_embeddings"], 64);
    EXPECT_EQ(config["rope_parameters"]["rope_theta"], 5e5);
    EXPECT_EQ(config["rope_parameters"]["factor"], 8.0);
    EXPECT_EQ(config["rope_parameters"]["original_max_position_embeddings"], 64);
    EXPECT_EQ(config["dtype"], "float32");
    EXPECT_EQ(config["torch_dtype"], "float32");
    EXPECT_EQ(config["my_key"], Json({1, 2}));
    // Read again, whichever generation is asked, it is the model that it was.
    for (const char* other : {"rope_scaling", "rope_parameters"}) {
      Json half = config;
      half.erase(other);
      const RopeConfig r = parse_config(half.dump(), "half").rope;
      EXPECT_EQ(r.type, RopeType::llama3);
      EXPECT_EQ(r.theta, 5e5);
      EXPECT_EQ(r.original_max, 64);
    }
  }
  const Json yarn = saved({{"rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"beta_fast", 16}}}});
  EXPECT_EQ(yarn["rope_scaling"],
            (Json{{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", 16}, {"original_max_position_embeddings", 64}}));
  // What this program reads and transformers does not, is written as transformers reads it.
  const Json lenient = saved({{"architectures", {"LLaMAForCausalLM"}}, {"hidden_act", "SiLU"}, {"head_dim", 8.0}});
  EXPECT_EQ(lenient["architectures"], Json{"LlamaForCausalLM"});
  EXPECT_EQ(lenient["hidden_act"], "silu");
  EXPECT_TRUE(lenient["head_dim"].is_number_integer());
  const Json linear = saved({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}});
  EXPECT_EQ(linear["rope_parameters"], (Json{{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 10000.0}}));
  const Json plain = saved({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}}}, FileDtype::BF16);
  EXPECT_TRUE(plain["rope_scaling"].is_null());
  EXPECT_EQ(plain["rope_theta"], 1e6);
  EXPECT_EQ(plain["dtype"], "bfloat16");
}

TEST_F(SaveTest, ValuesAreRoundedToTheirType) {
  saved(Json::object(), FileDtype::BF16);
  const SafetensorsFile file(directory_ / "model.safetensors");
  const auto bytes = file.bytes("a");
  ASSERT_EQ(bytes.size(), 4u);
  EXPECT_EQ(uint8_t(bytes[0]) | uint8_t(bytes[1]) << 8, 0x40e0);  // 7
  EXPECT_EQ(uint8_t(bytes[2]) | uint8_t(bytes[3]) << 8, 0x3f80);  // 1 + 2^-8 is a tie, to even: 1
}

}  // namespace
}  // namespace tll
