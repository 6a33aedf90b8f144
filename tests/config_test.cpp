#include "src/files/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <random>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "src/files/quantization.h"
#include "src/model/rope_frequencies.h"
#include "tests/mutated_bytes.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

const Json kSmall =
    Json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 48,
  "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "rms_norm_eps": 1e-05})");

Json with(const Json& changes) {
  Json config = kSmall;
  config.update(changes);
  return config;
}
LlamaConfig parse(const Json& config) { return parse_config(config.dump(), "config.json"); }
std::string refusal_of_text(const std::string& text) {
  return message_of([&] { parse_config(text, "config.json"); });
}
std::string refusal(const Json& changes) { return refusal_of_text(with(changes).dump()); }

TEST(Config, ReadsBothGenerations) {
  const LlamaConfig old = parse(with(Json::parse(R"({"rope_theta": 500000, "torch_dtype": "bfloat16", "rope_scaling":
    {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8192}})")));
  const LlamaConfig now = parse(with(Json::parse(R"({"dtype": "bfloat16", "rope_parameters":
    {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32, "low_freq_factor": 1.0, "high_freq_factor": 4,
     "original_max_position_embeddings": 8192}})")));
  for (const LlamaConfig& c : {old, now}) {
    EXPECT_EQ(c.rope.type, RopeType::llama3);
    EXPECT_EQ(c.rope.theta, 500000);
    EXPECT_EQ(c.rope.factor, 32);
    EXPECT_EQ(c.rope.low, 1);
    EXPECT_EQ(c.rope.high, 4);
    EXPECT_EQ(c.rope.original_max, 8192);
    EXPECT_EQ(c.dtype, "bfloat16");
    EXPECT_TRUE(c.warnings.empty());
  }
  EXPECT_EQ(rope_inverse_frequencies(old), rope_inverse_frequencies(now));
}

TEST(Config, DefaultsAreThoseOfTransformers) {
  const LlamaConfig c = parse(
      Json::parse(R"({"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 7, "num_hidden_layers": 1,
                      "num_attention_heads": 4})"));
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.head_dim, 2);
  EXPECT_EQ(c.max_positions, 2048);
  EXPECT_EQ(c.rms_eps, 1e-6);
  EXPECT_EQ(c.rope.theta, 10000);
  EXPECT_EQ(c.rope.type, RopeType::plain);
  EXPECT_FALSE(c.tie_embeddings || c.attention_bias || c.mlp_bias);
  EXPECT_EQ(c.bos, 1);
  EXPECT_EQ(c.eos, std::vector<int32_t>{2});
  EXPECT_EQ(c.pad, std::nullopt);
  EXPECT_EQ(parse(with({{"num_key_value_heads", nullptr}, {"head_dim", nullptr}})).kv_heads, 6);
  EXPECT_EQ(parse(with({{"head_dim", 20}})).head_dim, 20);
}

LlamaConfig parse_as(const char* type, const Json& changes) {
  Json config = changes;
  config["model_type"] = type, config["architectures"] = nullptr;
  return parse(with(config));
}
std::string refusal_as(const char* type, const Json& changes) {
  return message_of([&] { parse_as(type, changes); });
}

// Source: transformers 5.24, configuration_*.py.
TEST(Config, DefaultsOfEachArchitecture) {
  const auto bare = [](const char* type, const Json& changes = Json::object()) {
    Json config = {{"model_type", type},     {"vocab_size", 32001},     {"hidden_size", 128},
                   {"intermediate_size", 7}, {"num_hidden_layers", 30}, {"num_attention_heads", 32}};
    config.update(changes);
    return parse(config);
  };
  const LlamaConfig mistral = bare("mistral"), qwen2 = bare("qwen2"), qwen3 = bare("qwen3"), phi3 = bare("phi3");
  EXPECT_EQ(mistral.kv_heads, 8);
  EXPECT_EQ(bare("mistral", {{"num_key_value_heads", nullptr}}).kv_heads, 32);
  EXPECT_EQ(mistral.max_positions, 131072);
  EXPECT_EQ(mistral.rms_eps, 1e-6);
  EXPECT_EQ(mistral.bos, 1);
  EXPECT_EQ(mistral.eos, std::vector<int32_t>{2});
  for (const LlamaConfig& c : {qwen2, qwen3}) {
    EXPECT_EQ(c.kv_heads, 32);
    EXPECT_EQ(c.max_positions, 32768);
    EXPECT_EQ(c.bos, std::nullopt);
    EXPECT_TRUE(c.eos.empty());
  }
  EXPECT_EQ(qwen2.head_dim, 4);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(phi3.kv_heads, 32);
  EXPECT_EQ(phi3.max_positions, 4096);
  EXPECT_EQ(phi3.rms_eps, 1e-5);
  EXPECT_EQ(phi3.eos, std::vector<int32_t>{32000});
  EXPECT_EQ(phi3.pad, 32000);
  EXPECT_EQ(bare("phi3", {{"pad_token_id", nullptr}}).pad, std::nullopt);
  EXPECT_EQ(bare("phi3", {{"vocab_size", 32000}}).pad, std::nullopt);
  // Windows: absent, null, a number.
  EXPECT_EQ(mistral.windows, std::vector<int32_t>(30, 4096));
  EXPECT_TRUE(bare("mistral", {{"sliding_window", nullptr}}).windows.empty());
  EXPECT_EQ(bare("mistral", {{"sliding_window", 7}}).window(29), 7);
  EXPECT_TRUE(phi3.windows.empty());
  EXPECT_EQ(bare("phi3", {{"sliding_window", 2047}}).window(0), 2047);
  EXPECT_TRUE(bare("llama", {{"sliding_window", 7}}).windows.empty());
  for (const char* qwen : {"qwen2", "qwen3"}) {
    EXPECT_TRUE(bare(qwen, {{"sliding_window", 7}}).windows.empty());
    const LlamaConfig c = bare(qwen, {{"use_sliding_window", true}, {"sliding_window", 7}});
    EXPECT_EQ(c.window(27), 0);
    EXPECT_EQ(c.window(28), 7);
    EXPECT_EQ(bare(qwen, {{"use_sliding_window", true}}).any_window(), 4096);
    EXPECT_EQ(bare(qwen, {{"use_sliding_window", true}, {"max_window_layers", 0}}).window(0), 4096);
    EXPECT_TRUE(bare(qwen, {{"use_sliding_window", true}, {"sliding_window", nullptr}}).windows.empty());
    EXPECT_TRUE(bare(qwen, {{"use_sliding_window", true}, {"max_window_layers", 30}}).windows.empty());
  }
  // Biases.
  for (const char* type : {"mistral", "qwen2", "phi3"}) {
    const LlamaConfig c = bare(type, {{"attention_bias", true}, {"mlp_bias", true}});
    EXPECT_EQ(parameter_count(c), parameter_count(bare(type))) << type;
    ASSERT_EQ(c.warnings.size(), 2u);
    EXPECT_TRUE(says(c.warnings[0], "attention_bias is not used")) << type;
  }
  EXPECT_TRUE(bare("qwen3", {{"attention_bias", true}}).attention_bias);
}

TEST(Config, LayerTypes) {
  const std::string full = "full_attention", slides = "sliding_attention";
  const Json on = {{"use_sliding_window", true}, {"sliding_window", 7}};
  const auto with_types = [](Json changes, const std::vector<std::string>& types) {
    changes["layer_types"] = types;
    return changes;
  };
  EXPECT_EQ(parse_as("qwen2", with_types(on, {slides, full})).windows, (std::vector<int32_t>{7, 0}));
  EXPECT_TRUE(parse_as("qwen3", with_types(on, {full, full})).windows.empty());
  EXPECT_TRUE(says(refusal_as("qwen2", with_types({{"sliding_window", 7}}, {full, slides})),
                   "layer_types says sliding_attention for layer 1"));
  EXPECT_TRUE(says(refusal_as("qwen2", with_types({{"use_sliding_window", true}, {"sliding_window", nullptr}}, {full, slides})),
                   "give no window"));
  EXPECT_TRUE(says(refusal_as("qwen2", with_types(on, {full})), "layer_types names 1 layers, and num_hidden_layers is 2"));
  EXPECT_TRUE(says(refusal_as("qwen2", with_types(on, {full, "chunked_attention"})), "found \"chunked_attention\" for layer 1"));
  EXPECT_EQ(parse_as("mistral", with_types({{"sliding_window", 7}}, {slides, slides})).window(1), 7);
  EXPECT_TRUE(says(refusal_as("mistral", with_types({{"sliding_window", 7}}, {slides, full})),
                   "every layer of this model has sliding_window 7"));
  EXPECT_TRUE(says(refusal_as("llama", with_types({{"sliding_window", 7}}, {slides, full})), "has no sliding_window"));
  EXPECT_EQ(refusal_as("llama", with_types(Json::object(), {full, full})), "");
  for (const Json& value : {Json(0), Json(-1), Json("7"), Json(7.5)})
    EXPECT_TRUE(says(refusal_as("mistral", {{"sliding_window", value}}), "sliding_window")) << value;
  EXPECT_TRUE(says(refusal_as("qwen2", {{"max_window_layers", {1, 2}}}), "max_window_layers"));
}

TEST(Config, Phi3Rope) {
  const Json factors = {{"short_factor", {1, 1, 1, 1}}, {"long_factor", {2, 3, 4, 5}}};
  const auto rope = [&](const char* type, Json more = Json::object()) {
    Json object = factors;
    object["type"] = type;
    more["rope_scaling"] = object;
    return more;
  };
  for (const char* type : {"longrope", "su", "yarn"}) {
    const LlamaConfig c = parse_as("phi3", rope(type, {{"max_position_embeddings", 131072}}));
    EXPECT_EQ(c.rope.type, RopeType::longrope) << type;
    EXPECT_EQ(c.rope.original_max, 4096);
    EXPECT_EQ(c.rope.factor, 32);
    EXPECT_EQ(rope_attention_scale(c), static_cast<float>(1.1902380714238083));  // formats: sqrt(1 + ln 32 / ln 4096)
    EXPECT_EQ(c.rope.long_factor, (std::vector<double>{2, 3, 4, 5}));
  }
  // The key beside the object wins, and without one its default.
  Json inner = rope("longrope", {{"original_max_position_embeddings", 64}});
  inner["rope_scaling"]["original_max_position_embeddings"] = 32;
  EXPECT_EQ(parse_as("phi3", inner).rope.original_max, 64);
  inner.erase("original_max_position_embeddings");
  EXPECT_EQ(parse_as("phi3", inner).rope.original_max, 4096);
  for (const char* type : {"linear", "llama3", "dynamic"})
    EXPECT_TRUE(says(refusal_as("phi3", rope(type)), "is not supported; these are: default, longrope")) << type;
  Json mscale = rope("longrope");
  mscale["rope_scaling"]["short_mscale"] = 1.1;
  EXPECT_TRUE(says(refusal_as("phi3", mscale), "\"short_mscale\""));
  // A part of each head, of 8 values here.
  EXPECT_EQ(parse_as("phi3", {{"partial_rotary_factor", 0.75}}).rotary_dim(), 6);
  EXPECT_EQ(
      parse_as("phi3", {{"partial_rotary_factor", 0.75}, {"rope_parameters", {{"partial_rotary_factor", 0.5}}}}).rotary_dim(), 4);
  EXPECT_TRUE(says(refusal_as("phi3", {{"partial_rotary_factor", 0.4}}), "turns 3 of the 8 values"));
  EXPECT_TRUE(says(refusal_as("phi3", rope("longrope", {{"partial_rotary_factor", 0.75}})), "heads of 8 values need 3"));
  for (const char* type : {"mistral", "qwen2", "qwen3"})
    EXPECT_TRUE(says(refusal_as(type, {{"partial_rotary_factor", 0.75}}), "partial_rotary_factor")) << type;
}

TEST(Config, RopePrecedence) {
  const Json linear2 = {{"type", "linear"}, {"factor", 2}}, linear3 = {{"rope_type", "linear"}, {"factor", 3}, {"rope_theta", 7}};
  EXPECT_EQ(parse(with({{"rope_scaling", linear2}, {"rope_parameters", linear3}})).rope.factor, 2);
  EXPECT_EQ(parse(with({{"rope_scaling", Json::object()}, {"rope_parameters", linear3}})).rope.factor, 3);
  EXPECT_EQ(parse(with({{"rope_scaling", nullptr}, {"rope_parameters", linear3}})).rope.factor, 3);
  EXPECT_EQ(parse(with({{"rope_parameters", linear3}, {"rope_theta", 5}})).rope.theta, 7);  // the object's own theta wins
  EXPECT_EQ(parse(with({{"rope_scaling", linear2}, {"rope_theta", 5}})).rope.theta, 5);
  EXPECT_EQ(parse(with({{"rope_scaling", {{"type", "llama3"}, {"rope_type", "default"}}}})).rope.type, RopeType::plain);
  EXPECT_EQ(parse(with({{"rope_scaling", {{"rope_theta", 5}}}})).rope.type, RopeType::plain);
  const Json llama3 = {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  EXPECT_EQ(parse(with({{"rope_scaling", llama3}, {"max_position_embeddings", 512}})).rope.original_max, 512);
  for (const char* key : {"factor", "low_freq_factor", "high_freq_factor"}) {
    Json incomplete = llama3;
    incomplete.erase(key);
    EXPECT_TRUE(says(refusal({{"rope_parameters", incomplete}}), key));
  }
  EXPECT_TRUE(says(refusal({{"rope_scaling", {{"type", "linear"}}}}), "factor"));
  for (const char* type : {"su", "proportional", "mrope", "none", ""})
    EXPECT_TRUE(
        says(refusal({{"rope_scaling", {{"rope_type", type}, {"factor", 2}}}}), "rope type \"" + std::string(type) + "\""));
  EXPECT_NE(refusal({{"rope_scaling", "linear"}}), "");
  EXPECT_NE(refusal({{"rope_scaling", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}}}), "");
  EXPECT_NE(refusal({{"rope_theta", 0}}), "");
  EXPECT_NE(refusal({{"rope_theta", "10000"}}), "");
}

TEST(Config, RefusesOtherModelsAndOtherMathematicsByName) {
  for (const char* type : {"qwen2_moe", "mixtral", "gpt2"})
    EXPECT_TRUE(says(refusal({{"model_type", type}}),
                     fmt::format("expected one of llama, mistral, qwen2, qwen3, phi3, found \"{}\"", type)));
  EXPECT_TRUE(says(refusal({{"hidden_act", "gelu"}}), "gelu"));
  const Json others = {{"partial_rotary_factor", 0.75},
                       {"attn_logit_softcapping", 50.0},
                       {"final_logit_softcapping", 30.0},
                       {"attention_multiplier", 0.01},
                       {"embedding_multiplier", 12},
                       {"residual_multiplier", 0.2},
                       {"logits_scaling", 8},
                       {"use_qk_norm", true},
                       {"num_local_experts", 8},
                       {"short_mscale", 1.1},
                       {"rope_interleaved", true}};
  for (const auto& [key, value] : others.items()) {
    EXPECT_TRUE(says(refusal({{key, value}}), "\"" + key + "\"")) << key;
    EXPECT_EQ(refusal({{key, nullptr}}), "") << key;
  }
  EXPECT_EQ(
      refusal({{"partial_rotary_factor", 1.0}, {"use_qk_norm", false}, {"embedding_multiplier", 1}, {"rope_interleaved", false}}),
      "");
}

// transformers goes by model_type.
TEST(Config, TheClassMayBeSpeltInAnyWay) {
  for (const Json& classes : {Json{"LlamaForCausalLM"}, Json{"LLaMAForCausalLM"}, Json{"LlamaModel"},
                              Json{"LlamaForSequenceClassification"}, Json::array(), Json(nullptr), Json::array({nullptr})})
    EXPECT_TRUE(parse(with({{"architectures", classes}})).warnings.empty()) << classes;
  const std::vector<std::string> warnings = parse(with({{"architectures", {"YiForCausalLM"}}})).warnings;
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_TRUE(says(warnings[0], "read as LlamaForCausalLM"));
  EXPECT_NE(refusal({{"architectures", "LlamaForCausalLM"}}), "");
  // Without a model_type the class says it.
  EXPECT_TRUE(parse(with({{"model_type", nullptr}})).warnings.empty());
  EXPECT_EQ(
      parse(with({{"model_type", nullptr}, {"architectures", {"Qwen2ForCausalLM"}}, {"num_key_value_heads", 6}})).architecture,
      &kQwen2);
  EXPECT_TRUE(says(refusal({{"model_type", nullptr}, {"architectures", {"Qwen2MoeForCausalLM"}}}), "model_type"));
  EXPECT_TRUE(says(refusal({{"model_type", nullptr}, {"architectures", nullptr}}), "found nothing"));
  for (const char* act : {"silu", "swish", "SiLU"}) EXPECT_EQ(refusal({{"hidden_act", act}}), "");
}

TEST(Config, IntegersMayBeWrittenAsFloats) {
  const LlamaConfig c = parse(with({{"hidden_size", 48.0}, {"vocab_size", 1e2}, {"head_dim", 8.0}}));
  EXPECT_EQ(c.hidden, 48);
  EXPECT_EQ(c.vocab_size, 100);
  EXPECT_EQ(c.head_dim, 8);
}

TEST(Config, QuantisedModelsAreRefusedByTheirMethod) {
  const auto with_config = [](const Json& quantised) { return refusal({{"quantization_config", quantised}}); };
  for (const char* method : {"gptq", "awq", "fp8", "compressed-tensors"})
    EXPECT_TRUE(says(with_config({{"quant_method", method}, {"bits", 4}}), "quantised (\"" + std::string(method) + "\")"));
  EXPECT_TRUE(says(with_config({{"bits", 4}}), "whose weights are quantised; expected"));
  EXPECT_TRUE(says(with_config("fp8"), "expected an object"));
  EXPECT_EQ(with_config(nullptr), "");
}

TEST(Config, ModelsQuantisedByBitsandbytes) {
  const auto with_config = [](const Json& quantised) {
    return parse(with(Json::object({{"quantization_config", quantised}}))).quantization;
  };
  EXPECT_EQ(parse(kSmall).quantization, nullptr);
  const auto nf4 = with_config({{"quant_method", "bitsandbytes"},
                                {"load_in_4bit", true},
                                {"bnb_4bit_quant_type", "nf4"},
                                {"bnb_4bit_use_double_quant", true},
                                {"llm_int8_skip_modules", {"lm_head", "model.layers.0.mlp", "v_proj"}}});
  // Of 7 layers in each of 2 blocks: 3 of the first block's MLP and both v_proj are named.
  EXPECT_EQ(nf4->tensors.size(), 14u - 3 - 2);
  EXPECT_EQ(nf4->tensors.at("model.layers.1.mlp.up_proj.weight"), (QuantizedFormat{.code = WeightCode::nf4, .nested = true}));
  EXPECT_EQ(with_config({{"load_in_4bit", true}})->tensors.begin()->second.code, WeightCode::fp4);  // transformers' default
  const auto int8 = with_config({{"_load_in_8bit", true}});
  EXPECT_EQ(int8->tensors.at("model.layers.0.self_attn.q_proj.weight").code, WeightCode::int8);
  EXPECT_EQ(int8->tensors.at("model.layers.0.self_attn.q_proj.weight").block, 48);
  const auto refused = [](const Json& quantised) { return refusal(Json::object({{"quantization_config", quantised}})); };
  EXPECT_TRUE(says(refused({{"quant_method", "bitsandbytes"}}), "found neither"));
  EXPECT_TRUE(says(refused({{"load_in_4bit", true}, {"load_in_8bit", true}}), "found both"));
  EXPECT_TRUE(says(refused({{"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf2"}}), "found \"nf2\""));
  EXPECT_TRUE(says(refused({{"load_in_4bit", 1}}), "load_in_4bit"));
}

TEST(Config, MisspeltKeysAreRefused) {
  EXPECT_TRUE(says(refusal({{"tie_word_embedding", true}}), "\"tie_word_embeddings\" is meant"));
  EXPECT_TRUE(says(refusal({{"rope-theta", 500000}}), "\"rope_theta\" is meant"));
  EXPECT_TRUE(
      says(refusal({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}, {"betafast", 3}}}}), "\"beta_fast\" is meant"));
}

TEST(Config, WarnsOfUnknownKeysOnly) {
  EXPECT_TRUE(parse(with({{"pretraining_tp", 2},
                          {"use_cache", true},
                          {"transformers_version", "4.46.0"},
                          {"sliding_window", 4096},
                          {"attention_dropout", 0.0},
                          {"some_new_key", nullptr},
                          {"another", false}}))
                  .warnings.empty());
  const std::vector<std::string> warnings = parse(with({{"some_new_key", 3}, {"attention_dropout", 0.1}})).warnings;
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_TRUE(says(warnings[0], "attention_dropout"));
  EXPECT_TRUE(says(warnings[1], "some_new_key"));
}

TEST(Config, TypesAreStrict) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"})
    for (const Json& value : {Json(48.5), Json(1e300), Json("48"), Json(0), Json(-48), Json(true), Json::array({48}),
                              Json(2147483648), Json(UINT64_MAX), Json(UINT64_MAX - 47)})
      EXPECT_TRUE(says(refusal({{key, value}}), "\"" + std::string(key) + "\"")) << key << " " << value;
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    Json without = kSmall;
    without.erase(key);
    EXPECT_TRUE(says(refusal_of_text(without.dump()), key));
  }
  for (const Json& value : {Json(1), Json("true"), Json(0.0)}) EXPECT_NE(refusal({{"tie_word_embeddings", value}}), "");
  for (const Json& value : {Json("1e-5"), Json(-1e-5), Json(2), Json(nullptr)}) EXPECT_NE(refusal({{"rms_norm_eps", value}}), "");
  EXPECT_NE(refusal_of_text("[]"), "");
  EXPECT_TRUE(says(refusal_of_text(R"({"model_type": "llama", "model_type": "llama"})"), "twice"));
}

TEST(Config, SizesMustFitEachOther) {
  EXPECT_TRUE(says(refusal({{"num_key_value_heads", 4}}), "num_key_value_heads"));
  EXPECT_NE(refusal({{"num_key_value_heads", 12}}), "");
  EXPECT_TRUE(says(refusal({{"num_attention_heads", 7}, {"num_key_value_heads", 7}}), "not a multiple"));
  EXPECT_TRUE(says(refusal({{"num_attention_heads", 5}, {"num_key_value_heads", 5}, {"head_dim", 8}}), "even with head_dim"));
  EXPECT_TRUE(says(refusal({{"head_dim", 7}}), "odd"));
  EXPECT_TRUE(says(refusal({{"hidden_size", 18}, {"num_attention_heads", 6}}), "odd"));
  EXPECT_NE(refusal({{"num_hidden_layers", 1000000}}), "");
  EXPECT_NE(refusal({{"head_dim", 2147483646}}), "");
  EXPECT_NE(refusal({{"intermediate_size", 2147483647}}), "");
  EXPECT_NE(refusal({{"vocab_size", 2147483647}, {"hidden_size", 2147483640}}), "");
  EXPECT_TRUE(says(refusal({{"vocab_size", 2147483647}, {"hidden_size", 6000000}}), "more than any machine holds"));
}

TEST(Config, TokenIds) {
  EXPECT_EQ(parse(with({{"eos_token_id", {5, 7, 5}}})).eos, (std::vector<int32_t>{5, 7}));
  EXPECT_EQ(parse(with({{"eos_token_id", nullptr}})).eos, std::vector<int32_t>{});
  EXPECT_EQ(parse(with({{"bos_token_id", nullptr}})).bos, std::nullopt);
  EXPECT_EQ(parse(with({{"pad_token_id", -1}})).pad, std::nullopt);
  EXPECT_EQ(parse(with({{"pad_token_id", 99}})).pad, 99);
  const LlamaConfig outside = parse(with({{"pad_token_id", 100}}));
  EXPECT_EQ(outside.pad, std::nullopt);
  ASSERT_EQ(outside.warnings.size(), 1u);
  EXPECT_TRUE(says(outside.warnings[0], "id 100 is outside the vocabulary of 100"));
  const LlamaConfig many = parse(with({{"eos_token_id", {5, 100, 200, 300}}}));
  EXPECT_EQ(many.eos, std::vector<int32_t>{5});
  ASSERT_EQ(many.warnings.size(), 1u);
  EXPECT_TRUE(says(many.warnings[0], "id 100 and 2 more are outside"));
  EXPECT_NE(refusal({{"bos_token_id", {1, 2}}}), "");
  EXPECT_EQ(parse(with({{"eos_token_id", {2.0, 3}}})).eos, (std::vector<int32_t>{2, 3}));
  for (const Json& value : {Json("2"), Json(2.5), Json(-2), Json::array({true})})
    EXPECT_NE(refusal({{"eos_token_id", value}}), "") << value;
}

// A file of a megabyte must not cost a search of the list for each of its ids, nor a line for each.
TEST(Config, LongListsOfTokenIdsAreRefused) {
  std::vector<int> ids(2000);
  std::iota(ids.begin(), ids.end(), 0);
  EXPECT_TRUE(says(refusal({{"eos_token_id", ids}}), "expected at most 1024 items, found 2000"));
  const LlamaConfig c = parse(with({{"eos_token_id", {5, 1000000, 1000001, 1000002}}}));
  EXPECT_EQ(c.eos, std::vector<int32_t>{5});
  ASSERT_EQ(c.warnings.size(), 1u);
  EXPECT_TRUE(says(c.warnings[0], "id 1000000 and 2 more are outside the vocabulary"));
}

TEST(Config, DefaultTokenIdsMustBeInTheVocabulary) {
  const LlamaConfig one = parse(with({{"vocab_size", 1}})), two = parse(with({{"vocab_size", 2}}));
  EXPECT_EQ(one.bos, std::nullopt);
  EXPECT_EQ(two.bos, 1);
  EXPECT_TRUE(one.eos.empty() && two.eos.empty());
}

TEST(Config, GenerationEosIsMerged) {
  const TemporaryDirectory dir;
  write_file_atomic(dir / "config.json", with({{"eos_token_id", 9}}).dump());
  const LlamaConfig config = load_config(dir);
  EXPECT_EQ(load_config(dir / "config.json").eos, config.eos);
  EXPECT_EQ(load_generation_eos(dir, config), std::vector<int32_t>{9});
  write_file_atomic(dir / "generation_config.json", R"({"eos_token_id": [8, 9, 7], "do_sample": true})");
  EXPECT_EQ(load_generation_eos(dir, config), (std::vector<int32_t>{9, 8, 7}));
  write_file_atomic(dir / "generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_THROW(load_generation_eos(dir, config), Error);
  EXPECT_THROW(load_config(dir / "none"), Error);
}

LlamaConfig rope_config(int32_t head_dim, double theta, RopeType type, double factor) {
  LlamaConfig c;
  c.head_dim = head_dim;
  c.rope.type = type, c.rope.theta = theta, c.rope.factor = factor;
  return c;
}

// Frequencies are floats, computed with a power in float: each operation is right to 2^-24, the power to about 1 ulp.
void expect_close(float value, double exact) { EXPECT_NEAR(value / exact, 1, 4e-7) << exact; }

TEST(RopeFrequencies, Llama3TestValues) {
  struct Value {
    size_t index;
    double exact;
  };
  const auto check = [](const LlamaConfig& c, size_t first_scaled, size_t first_divided, const std::vector<Value>& values) {
    LlamaConfig unscaled = c;
    unscaled.rope.type = RopeType::plain;
    const std::vector<float> f = rope_inverse_frequencies(c), plain = rope_inverse_frequencies(unscaled);
    ASSERT_EQ(f.size(), size_t(c.head_dim / 2));
    for (const Value& v : values) expect_close(f[v.index], v.exact);
    for (size_t i = 0; i < f.size(); i++) {
      EXPECT_EQ(f[i] == plain[i], i < first_scaled) << i;
      EXPECT_EQ(f[i] == plain[i] / static_cast<float>(c.rope.factor), i >= first_divided) << i;
    }
  };
  check(rope_config(64, 5e5, RopeType::llama3, 32), 15, 18,
        {{15, 0.001290547928209264}, {16, 0.00042955679655936837}, {18, 1.9461638184831128e-05}, {31, 9.418306725434911e-08}});
  check(rope_config(128, 5e5, RopeType::llama3, 8), 29, 35,
        {{29, 0.002166570763503359}, {30, 0.0013718935677611381}, {35, 9.556212353964683e-05}, {63, 3.068925988914511e-07}});
  check(rope_config(128, 5e5, RopeType::llama3, 32), 29, 35,
        {{29, 0.002118406996779608}, {30, 0.001290547928209264}, {35, 2.3890530884911708e-05}, {63, 7.672314972286278e-08}});
}

// Of transformers 5.24, LlamaRotaryEmbedding.
TEST(RopeFrequencies, YarnDynamicAndLongropeEqualTransformers) {
  struct Case {
    int32_t head_dim, max_positions;
    double theta;
    const char* rope;
    std::vector<std::pair<size_t, double>> frequencies;
    double scale;
  };
  const Case cases[] = {
      {64,
       131072,
       5e5,
       R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})",
       {{0, 1},
        {8, 0.03760603070259094},
        {14, 0.0026762052439153194},
        {16, 0.0009428090415894985},
        {19, 0.0001721968874335289},
        {31, 7.5346451922087e-07}},
       1.138629436111989},
      {64,
       131072,
       5e5,
       R"({"type": "yarn", "factor": null, "original_max_position_embeddings": 4096, "beta_fast": 16,
        "beta_slow": 2, "truncate": false})",
       {{0, 1},
        {8, 0.03760603070259094},
        {14, 0.00016874197172001004},
        {16, 4.4194170186528936e-05},
        {19, 1.291476746700937e-05},
        {31, 9.418306490260875e-08}},
       1.3465735902799727},
      {16,
       2048,
       1e4,
       R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 256, "mscale": 0.707,
        "mscale_all_dim": 1.2})",
       {{0, 1}, {2, 0.05625000223517418}, {4, 0.0012499999720603228}, {7, 3.9528473280370235e-05}},
       0.9179561730379721},
      {16,
       2048,
       1e4,
       R"({"rope_type": "yarn", "factor": 8, "attention_factor": 1.5})",
       {{0, 1}, {2, 0.10000000149011612}, {4, 0.005624999757856131}, {7, 3.9528473280370235e-05}},
       1.5},
      {16, 2048, 1e4, R"({"rope_type": "yarn", "factor": 0.5})", {{0, 1}}, 1},
      {16,
       2048,
       1e4,
       R"({"rope_type": "dynamic", "factor": 2.3})",
       {{0, 1}, {2, 0.10000000149011612}, {4, 0.009999999776482582}, {7, 0.0003162277862429619}},
       1},
      {8,
       512,
       1e4,
       R"({"rope_type": "longrope", "short_factor": [1, 1.5, 2, 3], "long_factor": [2, 3, 4, 5],
        "original_max_position_embeddings": 128})",
       {{0, 1}, {1, 0.06666667014360428}, {2, 0.004999999888241291}, {3, 0.00033333332976326346}},
       1.1338934190276817},
      {8,
       512,
       1e4,
       R"({"rope_type": "longrope", "short_factor": [1, 1.5, 2, 3], "long_factor": [2, 3, 4, 5],
        "original_max_position_embeddings": 128, "factor": 2})",
       {{0, 1}},
       1.0690449676496976},
      {8, 512, 1e4, R"({"rope_type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [2, 3, 4, 5]})", {{0, 1}}, 1},
  };
  for (const Case& x : cases) {
    Json rope = Json::parse(x.rope);
    rope["rope_theta"] = x.theta;
    const LlamaConfig c =
        parse(with({{"head_dim", x.head_dim}, {"max_position_embeddings", x.max_positions}, {"rope_scaling", rope}}));
    EXPECT_TRUE(c.warnings.empty());
    const std::vector<float> f = rope_inverse_frequencies(c);
    for (const auto& [i, value] : x.frequencies) EXPECT_NEAR(f[i] / value, 1, 4e-7) << x.rope << i;
    EXPECT_EQ(rope_attention_scale(c), static_cast<float>(x.scale)) << x.rope;
  }
}

TEST(RopeFrequencies, OtherLengthsAreRefusedWhereFrequenciesDependOnThem) {
  const Json dynamic = {{"rope_type", "dynamic"}, {"factor", 2}};
  const LlamaConfig c = parse(with({{"max_position_embeddings", 512}, {"rope_scaling", dynamic}}));
  check_rope_length(c, 512);
  EXPECT_TRUE(says(refusal_of([&] { check_rope_length(c, 513); }, kExitUsage), "lower --seq-len to 512"));
  check_rope_length(parse(kSmall), 1 << 30);
}

// Of transformers 5.24, Phi3RotaryEmbedding.
TEST(RopeFrequencies, LongDocumentsHaveRowsOfTheirOwn) {
  const Json longrope = {{"rope_type", "longrope"},
                         {"short_factor", {1, 1.5, 2, 3}},
                         {"long_factor", {2, 3, 4, 5}},
                         {"original_max_position_embeddings", 128}};
  const LlamaConfig c = parse(with({{"head_dim", 8}, {"max_position_embeddings", 512}, {"rope_scaling", longrope}}));
  const std::vector<float> shorter = rope_inverse_frequencies(c), longer = rope_inverse_frequencies(c, true);
  for (size_t i = 0; i < 4; i++)
    EXPECT_NEAR(longer[i] * c.rope.long_factor[i], shorter[i] * c.rope.short_factor[i], 2e-7 * std::pow(10, -double(i)));
  check_rope_length(c, 512);
  EXPECT_EQ(rope_rows(c, 128).all, 128);
  EXPECT_EQ(rope_rows(c, 128).first_row(128), 0);
  EXPECT_EQ(rope_rows(c, 128).length_after_switch(), 0);
  const RopeRows rows = rope_rows(c, 300);
  EXPECT_EQ(rows.all, 128 + 300);
  EXPECT_EQ(rows.first_row(128), 0);
  EXPECT_EQ(rows.first_row(129), 128);
  EXPECT_EQ(rows.length_after_switch(), 129);
  EXPECT_EQ(rope_rows(parse(kSmall), 300).all, 300);
}

TEST(Config, RopeTypesAreChecked) {
  const auto rope = [](const Json& object, const Json& more = Json::object()) {
    Json changes = {{"head_dim", 8}, {"rope_scaling", object}};
    changes.update(more);
    return refusal(changes);
  };
  const Json longrope = {{"rope_type", "longrope"}, {"short_factor", {1, 1, 1, 1}}, {"long_factor", {2, 2, 2, 2}}};
  EXPECT_EQ(rope(longrope), "");
  for (const char* key : {"short_factor", "long_factor"}) {
    Json other = longrope;
    other[key] = {1, 1, 1};
    EXPECT_TRUE(says(rope(other), "short_factor")) << key;
    other[key] = {1, 1, 1, 0};
    EXPECT_TRUE(says(rope(other), "numbers above 0"));
    other[key] = 1;
    EXPECT_TRUE(says(rope(other), "a list of numbers"));
    other.erase(key);
    EXPECT_TRUE(says(rope(other), "\"" + std::string(key) + "\" is missing"));
  }
  EXPECT_TRUE(says(rope(longrope, {{"head_dim", 16}}), "have 4 numbers; heads of 16 values need 8"));
  EXPECT_TRUE(says(rope(longrope, {{"max_position_embeddings", 1}}), "must be above 1"));
  for (const char* type : {"linear", "dynamic", "yarn"}) EXPECT_TRUE(says(rope({{"rope_type", type}}), "\"factor\" is missing"));
  EXPECT_TRUE(says(rope({{"rope_type", "dynamic"}, {"factor", 2}}, {{"head_dim", 2}}), "head_dim above 2"));
  EXPECT_TRUE(says(rope({{"rope_type", "yarn"}, {"factor", 2}, {"rope_theta", 1}}), "above 1"));
  EXPECT_TRUE(says(rope({{"rope_type", "yarn"}, {"factor", 2}, {"truncate", 1}}), "true or false"));
  EXPECT_TRUE(says(rope({{"rope_type", "su"}}), "these are: default, linear, dynamic, yarn, llama3, longrope"));
  // transformers 5 takes the outer one, transformers 4 the inner one.
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", 64}};
  EXPECT_TRUE(says(rope(yarn, {{"original_max_position_embeddings", 32}}), "disagree"));
  EXPECT_EQ(rope(yarn, {{"original_max_position_embeddings", 64}}), "");
  EXPECT_EQ(parse(with({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}}, {"original_max_position_embeddings", 32}}))
                .rope.original_max,
            32);
}

TEST(RopeFrequencies, PlainAndLinear) {
  const std::vector<float> plain = rope_inverse_frequencies(rope_config(8, 1e4, RopeType::plain, 1));
  EXPECT_EQ(plain[0], 1.0f);
  for (size_t i = 0; i < 4; i++) expect_close(plain[i], std::pow(10, -double(i)));
  const std::vector<float> linear = rope_inverse_frequencies(rope_config(8, 1e4, RopeType::linear, 4));
  for (size_t i = 0; i < 4; i++) EXPECT_EQ(linear[i], plain[i] / 4);
}

LlamaConfig dims(int32_t hidden, int32_t intermediate, int32_t layers, int32_t heads, int32_t kv_heads, int32_t head_dim,
                 int32_t vocab, bool tied) {
  LlamaConfig c;
  c.hidden = hidden, c.intermediate = intermediate, c.layers = layers, c.heads = heads, c.kv_heads = kv_heads,
  c.head_dim = head_dim;
  c.vocab_size = vocab, c.tie_embeddings = tied;
  return c;
}

TEST(WeightSpecs, ParameterTotalsOfPublishedModels) {
  EXPECT_EQ(parameter_count(dims(2048, 8192, 16, 32, 8, 64, 128256, true)), 1'235'814'400);     // Llama-3.2-1B
  EXPECT_EQ(parameter_count(dims(3072, 8192, 28, 24, 8, 128, 128256, true)), 3'212'749'824);    // Llama-3.2-3B
  EXPECT_EQ(parameter_count(dims(4096, 14336, 32, 32, 8, 128, 128256, false)), 8'030'261'248);  // Llama-3.1-8B
  EXPECT_EQ(parameter_count(dims(4096, 11008, 32, 32, 32, 128, 32000, false)), 6'738'415'616);  // Llama-2-7B
  EXPECT_EQ(parameter_count(dims(2048, 5632, 22, 32, 4, 64, 32000, false)), 1'100'048'384);     // TinyLlama-1.1B
  EXPECT_EQ(parameter_count(dims(576, 1536, 30, 9, 3, 64, 49152, true)), 134'515'008);          // SmolLM2-135M
  EXPECT_EQ(parameter_count(dims(960, 2560, 32, 15, 5, 64, 49152, true)), 361'821'120);         // SmolLM2-360M
}

TEST(WeightSpecs, NamesAndShapes) {
  LlamaConfig c = dims(12, 20, 2, 3, 1, 6, 50, true);
  std::string all;
  const auto list = [&] {
    all.clear();
    for (const WeightSpec& spec : weight_specs(c)) {
      all += spec.name;
      for (const int64_t d : spec.shape) all += " " + std::to_string(d);
      all += "\n";
    }
  };
  list();
  EXPECT_EQ(weight_specs(c).size(), 2u + 2 * 9);
  EXPECT_EQ(all.find("model.embed_tokens.weight 50 12\nmodel.layers.0.input_layernorm.weight "
                     "12\nmodel.layers.0.self_attn.q_proj.weight 18 12\n"
                     "model.layers.0.self_attn.k_proj.weight 6 12\nmodel.layers.0.self_attn.v_proj.weight 6 12\n"
                     "model.layers.0.self_attn.o_proj.weight 12 18\nmodel.layers.0.post_attention_layernorm.weight 12\n"
                     "model.layers.0.mlp.gate_proj.weight 20 12\nmodel.layers.0.mlp.up_proj.weight 20 12\n"
                     "model.layers.0.mlp.down_proj.weight 12 20\nmodel.layers.1.input_layernorm.weight 12\n"),
            0u);
  EXPECT_TRUE(all.ends_with("model.norm.weight 12\n"));
  c.tie_embeddings = false, c.attention_bias = c.mlp_bias = true;
  list();
  EXPECT_TRUE(all.ends_with("model.norm.weight 12\nlm_head.weight 50 12\n"));
  EXPECT_EQ(weight_specs(c).size(), 3u + 2 * 16);
  EXPECT_TRUE(says(all, "model.layers.1.self_attn.o_proj.bias 12\n"));
  EXPECT_TRUE(says(all, "model.layers.1.mlp.up_proj.bias 20\n"));
}

TEST(Config, MutatedTextsNeverCrash) {
  const std::string good =
      with({{"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}}},
            {"eos_token_id", {2, 3}},
            {"head_dim", 8}})
          .dump();
  ASSERT_EQ(refusal_of_text(good), "");
  std::mt19937 random(2);
  const std::vector<Edit> edits = {
      [&](std::string& text, size_t at) { text[at] = char(random()); },
      [&](std::string& text, size_t at) { text[at] = "0123456789{}[],:\"-e."[random() % 20]; },
      [&](std::string& text, size_t at) { text.erase(at, 1 + random() % 3); },
      [&](std::string& text, size_t at) { text.insert(at, std::string(1 + random() % 12, "90[{\"-"[random() % 6])); }};
  int accepted = 0;
  for (int trial = 0; trial < 5000; trial++) {
    const std::string text = mutated(good, random, 3, edits);
    if (refusal_of_text(text) != "") continue;
    accepted++;
    const LlamaConfig c = parse_config(text, "config.json");
    EXPECT_GT(parameter_count(c), 0);  // and it does not overflow: the sanitizer watches
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace tll
