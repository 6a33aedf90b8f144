#include "src/files/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <random>

#include "src/base/check.h"
#include "src/base/json.h"
#include "src/files/module_pattern.h"
#include "src/files/safetensors.h"
#include "tests/mutated_bytes.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;
using Modules = std::vector<std::pair<int, std::string>>;

LlamaConfig tiny() {
  LlamaConfig c;
  c.vocab_size = 10, c.hidden = 8, c.intermediate = 6, c.layers = 12, c.heads = 4, c.kv_heads = 2, c.head_dim = 4;
  return c;
}

AdapterConfig parse(Json config) {
  config.emplace("peft_type", "LORA");
  return parse_adapter_config(config.dump(), "adapter_config.json");
}
std::string refusal(const Json& config) {
  return message_of([&] { parse(config); });
}
// The linear layer of this short name, of a model that is deep enough.
Module module(int layer, std::string_view name) {
  LlamaConfig c = tiny();
  c.layers = std::max(c.layers, layer + 1);
  for (const Module& m : adaptable_modules(c))
    if (m.layer == layer && m.short_name() == name) return m;
  throw std::invalid_argument(std::string(name));
}
Modules targets(const Json& config) {
  const std::vector<Module> all = adaptable_modules(tiny());
  const std::vector<bool> named = targets_among(all, parse(config), "adapter_config.json");
  Modules modules;
  for (size_t i = 0; i < all.size(); i++)
    if (named[i]) modules.emplace_back(all[i].layer, all[i].short_name());
  return modules;
}
std::string targets_refusal(const Json& config) {
  return message_of([&] { targets(config); });
}
Modules every_layer(const std::vector<std::string_view>& kinds) {
  Modules modules;
  for (int layer = 0; layer < tiny().layers; layer++)
    for (const std::string_view target : kinds) modules.emplace_back(layer, target);
  return modules;
}

TEST(AdapterConfig, Defaults) {
  const AdapterConfig c = parse(Json::object());
  EXPECT_EQ(c.rank, 8);
  EXPECT_EQ(c.alpha, 8);
  EXPECT_EQ(c.dropout, 0);
  EXPECT_FALSE(c.rslora);
  EXPECT_TRUE(c.warnings.empty());
  EXPECT_EQ(targets({{"target_modules", nullptr}}), every_layer({"q_proj", "v_proj"}));
}

TEST(AdapterConfig, TypesAreStrict) {
  EXPECT_TRUE(says(message_of([] { parse_adapter_config("{}", "f"); }), "peft_type"));
  EXPECT_NE(message_of([] { parse_adapter_config(R"({"peft_type": "lora"})", "f"); }), "");
  EXPECT_NE(message_of([] { parse_adapter_config("[]", "f"); }), "");
  for (const Json& bad :
       {Json{{"r", 0}}, Json{{"r", 8.5}}, Json{{"r", "8"}}, Json{{"r", -1}}, Json{{"lora_alpha", "16"}}, Json{{"lora_alpha", 0}},
        Json{{"lora_dropout", 1.0}}, Json{{"lora_dropout", -0.1}}, Json{{"use_rslora", 1}}, Json{{"target_modules", 5}},
        Json{{"target_modules", ""}}, Json{{"target_modules", {1}}}, Json{{"layers_to_transform", "1"}},
        Json{{"layers_to_transform", {1.5}}}, Json{{"rank_pattern", {{"q_proj", 0}}}}, Json{{"rank_pattern", {1}}},
        Json{{"alpha_pattern", {{"q_proj", "x"}}}}, Json{{"layers_to_transform", 1}, {"target_modules", "all-linear"}}})
    EXPECT_NE(refusal(bad), "") << bad;
  EXPECT_EQ(parse({{"lora_alpha", 12.5}, {"lora_dropout", 0.05}}).alpha, 12.5);
}

TEST(AdapterConfig, RefusesByNameWhatItCannotDo) {
  const Json others = {{"bias", "some"},
                       {"layer_replication", Json::array({{0, 2}})},
                       {"target_parameters", {"x"}},
                       {"lora_bias", true},
                       {"use_dora", true},
                       {"use_qalora", true},
                       {"alora_invocation_tokens", {1}},
                       {"trainable_token_indices", {1}},
                       {"arrow_config", {{"k", 1}}},
                       {"use_bdlora", {{"k", 1}}},
                       {"monteclora_config", {{"k", 1}}},
                       {"kasa_config", {{"k", 1}}}};
  for (const auto& [key, value] : others.items()) {
    EXPECT_TRUE(says(refusal({{key, value}}), "\"" + key + "\"")) << key;
    EXPECT_EQ(refusal({{key, nullptr}}), "") << key;
  }
}

// All keys that PEFT 0.21 writes, at their defaults: not a word.
TEST(AdapterConfig, TheLongFormGivesNoWarning) {
  const char* text = R"({"alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
    "base_model_name_or_path": "b", "bias": "none", "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
    "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true, "kasa_config": null,
    "layer_replication": null, "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 16,
    "lora_bias": false, "lora_dropout": 0.0, "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core",
    "modules_to_save": null, "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.0", "qalora_group_size": 16,
    "r": 4, "rank_pattern": {}, "revision": null, "target_modules": ["q_proj"], "target_parameters": null, "task_type": "CAUSAL_LM",
    "trainable_token_indices": null, "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": false,
    "velora_config": null})";
  const AdapterConfig c = parse_adapter_config(text, "f");
  EXPECT_TRUE(c.warnings.empty()) << c.warnings[0];
  EXPECT_EQ(c.base_model, "b");
  EXPECT_EQ(parse({{"from_the_future", 1}}).warnings.size(), 1u);
  // With these PEFT changes the base weights at every load.
  for (const char* init : {"pissa", "pissa_niter_4", "olora", "loftq"})
    EXPECT_TRUE(says(refusal({{"init_lora_weights", init}}), "PEFT changes the base weights")) << init;
  for (const Json& init : {Json("gaussian"), Json("eva"), Json("orthogonal"), Json(false)})
    EXPECT_TRUE(parse({{"init_lora_weights", init}}).warnings.empty()) << init;
  EXPECT_TRUE(parse({{"fan_in_fan_out", true}, {"bias", "lora_only"}}).warnings.empty());  // on a linear layer PEFT ignores it
  EXPECT_TRUE(says(refusal({{"lora_alhpa", 16}}), "\"lora_alpha\" is meant"));
  EXPECT_TRUE(says(refusal({{"target_module", {"q_proj"}}}), "\"target_modules\" is meant"));
  EXPECT_TRUE(parse({{"from_the_future", false}, {"init_lora_weights", "gaussian"}}).warnings.empty());
}

TEST(AdapterTargets, ListsPatternsAndLayers) {
  EXPECT_EQ(targets({{"target_modules", {"q_proj", "down_proj"}}}), every_layer({"q_proj", "down_proj"}));
  EXPECT_EQ(targets({{"target_modules", {"self_attn.q_proj"}}}), every_layer({"q_proj"}));
  EXPECT_EQ(targets({{"target_modules", {"model.layers.1.self_attn.q_proj"}}}), (Modules{{1, "q_proj"}}));
  EXPECT_EQ(targets({{"target_modules", {"1.self_attn.q_proj"}}}), (Modules{{1, "q_proj"}}));  // not 11
  EXPECT_NE(targets_refusal({{"target_modules", {"proj"}}}), "");                              // no ending after a dot
  EXPECT_NE(targets_refusal({{"target_modules", Json::array()}}), "");
  EXPECT_EQ(targets({{"target_modules", "all-linear"}}), every_layer(adaptable_names(kLlama)));
  EXPECT_EQ(targets({{"target_modules", "All-Linear"}, {"exclude_modules", {"mlp.up_proj", "q_proj"}}}),
            every_layer({"k_proj", "v_proj", "o_proj", "gate_proj", "down_proj"}));
  EXPECT_EQ(targets({{"target_modules", ".*\\.layers\\.(3|11)\\..*(q|k)_proj"}}),
            (Modules{{3, "q_proj"}, {3, "k_proj"}, {11, "q_proj"}, {11, "k_proj"}}));
  EXPECT_EQ(targets({{"target_modules", ".*(?:self_attn|mlp).*?(?:q_proj|up_proj).*?"}}), every_layer({"q_proj", "up_proj"}));
  EXPECT_EQ(targets({{"target_modules", ".*proj"}, {"exclude_modules", ".*(mlp|[qkv]_proj).*"}}), every_layer({"o_proj"}));
  EXPECT_NE(targets_refusal({{"target_modules", "q_proj"}}), "");  // a pattern must match the whole name
  EXPECT_EQ(targets({{"target_modules", {"q_proj"}}, {"layers_to_transform", {0, 7}}}), (Modules{{0, "q_proj"}, {7, "q_proj"}}));
  EXPECT_EQ(targets({{"target_modules", {"q_proj"}}, {"layers_to_transform", 4}, {"layers_pattern", "layers"}}),
            (Modules{{4, "q_proj"}}));
  EXPECT_NE(targets_refusal({{"target_modules", {"q_proj"}}, {"layers_to_transform", 4}, {"layers_pattern", "h"}}), "");
  EXPECT_EQ(targets({{"target_modules", {"q_proj"}}, {"layers_to_transform", Json::array()}}), every_layer({"q_proj"}));
  // layers_pattern is a regular expression for what stands before the number.
  for (const Json& pattern : {Json{"h", "model.layers"}, Json{"h", "lay.*"}, Json("(layers|h)"), Json("")})
    EXPECT_EQ(targets({{"target_modules", {"q_proj"}}, {"layers_to_transform", 4}, {"layers_pattern", pattern}}),
              (Modules{{4, "q_proj"}}))
        << pattern;
  // What is saved as a whole has no adapter.
  EXPECT_EQ(targets({{"target_modules", {"q_proj", "up_proj"}}, {"modules_to_save", {"mlp"}}}), every_layer({"q_proj"}));
  EXPECT_EQ(targets({{"target_modules", ".*(q_proj|lm_head)"}, {"modules_to_save", {"lm_head"}}}), every_layer({"q_proj"}));
  // A full name is not restricted by the layers.
  EXPECT_EQ(targets({{"target_modules", {"q_proj", "model.layers.2.mlp.up_proj"}}, {"layers_to_transform", 4}}),
            (Modules{{2, "up_proj"}, {4, "q_proj"}}));
  for (const Json& head : {Json{"q_proj", "lm_head"}, Json{"embed_tokens"}, Json(".*")})
    EXPECT_TRUE(says(targets_refusal({{"target_modules", head}}), "are not implemented")) << head;
  EXPECT_EQ(
      targets({{"target_modules", ".*proj|lm_head"}, {"exclude_modules", {"lm_head", "mlp.gate_proj", "up_proj", "down_proj"}}}),
      every_layer({"q_proj", "k_proj", "v_proj", "o_proj"}));
}

TEST(ModulePattern, HostilePatternsAreRefusedOrFast) {
  const auto with_pattern = [](const std::string& pattern) { return targets_refusal({{"target_modules", pattern}}); };
  for (const std::string& bad : std::vector<std::string>{"(", "[a", "*", std::string(50'000, 'a'), "a{99999999999999999999}",
                                                         "((a{999}){999}){999}", std::string(10'000, '(')})
    EXPECT_TRUE(says(with_pattern(bad), "list the module names instead")) << bad.substr(0, 40);
  // Each name is matched, or refused, within the limit of steps. In Python some of these do not end.
  const std::string name = module(3, "gate_proj").name;
  int refused = 0;
  for (const std::string& slow : std::vector<std::string>{"(a*)*b", "(.*.*.*.*.*.*.*.*)*[xz]", "((.|.)*)*[xz]",
                                                          "(m|(m|(.)*)*)*[xz]", "(([a-z._0-9])+)+[xz]", "(a?){90}x", "(){390}",
                                                          "(?=.*(?=.*(?=.*a)))b", "(.+)+(.+)+(.+)+\\1[xz]"}) {
    const std::string message = message_of([&] { EXPECT_FALSE(ModulePattern(slow, "f").matches(name)) << slow; });
    if (message.empty()) continue;
    EXPECT_TRUE(says(message, "does not come to an end"));
    refused++;
  }
  EXPECT_GT(refused, 2);
}

// Python's re.fullmatch gives these.
TEST(ModulePattern, IsPythons) {
  const std::string name = module(3, "q_proj").name;  // model.layers.3.self_attn.q_proj
  for (const char* pattern : {R"((?i).*Q_PROJ)",
                              R"(.*\.(?i:Q)_proj)",
                              R"(.*(?<=self_attn\.)q_proj)",
                              R"(.*(?<!mlp\.)q_proj)",
                              R"(.*q_proj\Z)",
                              R"(\Amodel.*)",
                              R"((?P<a>model)\..*)",
                              R"((?P<l>l)ayers.*|model\.(?P<m>l)ayers.*)",
                              R"(mode(l)\.\1ayers.*)",
                              R"(mode(?P<x>l)\.(?P=x)ayers.*)",
                              R"(model\.layers\.\d+\.\w+\.q_proj\b)",
                              R"((?!.*lm_head).*)",
                              R"((?s).*)",
                              R"((?x) model \. .* )",
                              R"((?#a comment).*proj)",
                              R"((?a)\w+\..*)",
                              R"(.{,40})",
                              R"([^]]+)",
                              R"([[a-z_.0-9]+)",
                              R"(.*[[:alphn.]]*q_proj)",
                              R"(\x6d\u006fdel.*)",
                              R"(.*?(?:q|k)_proj)",
                              R"(model.layers.[3-5].*)",
                              R"(.*q_proj$)",
                              R"((m)?odel.*|(?(1)x|m).*)",
                              R"(.*[\w]proj)",
                              R"((?-i:model).*)",
                              R"(.*_proj(?=$))"})
    EXPECT_TRUE(ModulePattern(pattern, "f").matches(name)) << pattern;
  for (const char* pattern : {R"(q_proj)", R"(.*Q_PROJ)", R"(.*(?<!self_attn\.)q_proj)", R"(q_proj\Z)", R"(.{,5})", R"(a{,)",
                              R"(.*[\b]q_proj)", R"(.*\vq_proj)", R"([[:alpha:]]+)", R"(model\nlayers.*)", R"()"})
    EXPECT_FALSE(ModulePattern(pattern, "f").matches(name)) << pattern;
  // What Python does not compile, although PCRE2 would.
  for (const char* pattern : {R"(.*\h)",    R"(.*\R)",    R"(.*\K)",    R"(\Qmodel\E.*)", R"((*ACCEPT).*)",   R"((?R))",
                              R"((?1)(a))", R"((?|a|b))", R"((?<x>a))", R"((?'x'a))",     R"((?&x)(?P<x>a))", R"((?P>x)(?P<x>a))",
                              R"((?L).*)",  R"((?C1).*)", R"(\x6)",     R"(\u00)",        R"((?(?=x)y|q))",   R"(\)",
                              R"([\Z])",    R"((?#open)", R"((?)",      R"(\p{L}.*)",     R"((?J).*)"})
    EXPECT_TRUE(says(message_of([&] { ModulePattern(pattern, "f.json"); }), "f.json: the pattern")) << pattern;
}

TEST(ModuleSuffix, MatchesAsPeftDoes) {
  const std::string name = module(1, "q_proj").name, eleven = module(11, "q_proj").name;
  EXPECT_TRUE(ModuleSuffix("q_proj", "f").matches(name));
  EXPECT_TRUE(ModuleSuffix(name, "f").matches(name));
  EXPECT_FALSE(ModuleSuffix(name, "f").matches(eleven));
  EXPECT_FALSE(ModuleSuffix("_proj", "f").matches(name));
  EXPECT_TRUE(ModuleSuffix("self_attn.q.proj", "f").matches(name));  // a dot is any character
  EXPECT_TRUE(ModuleSuffix("layers\\.\\d\\..*", "f").matches(name));
  EXPECT_FALSE(ModuleSuffix("layers\\.\\d\\..*", "f").matches(eleven));
  EXPECT_TRUE(ModuleSuffix("k_proj|q_proj", "f").matches(name));
}

class AdapterTest : public testing::Test {
 protected:
  using Tensors = std::map<std::string, std::vector<int64_t>>;

  void write_config(const Json& config) const { std::ofstream(dir / "adapter_config.json") << config.dump(); }
  void write_tensors(const Tensors& tensors, FileDtype dtype = FileDtype::F32) const {
    std::vector<TensorEntry> entries;
    const std::vector<std::byte> zeros(1 << 16);
    for (const auto& [name, shape] : tensors) {
      const size_t bytes = size_t(element_count(shape) * file_dtype_bits(dtype) / 8);
      entries.push_back({{name, dtype, shape}, std::span(zeros).first(bytes)});
    }
    write_safetensors(dir / "adapter_model.safetensors", entries);
  }
  void expect_refused(const std::string& why) const {
    EXPECT_TRUE(says(message_of([&] { read_adapter(dir, tiny()); }), why));
  }
  void expect_refused(const Tensors& tensors, const std::string& why) const {
    write_tensors(tensors);
    expect_refused(why);
  }

  // The good tensors, one of them with another shape, or one more.
  Tensors with(const std::string& name, const std::vector<int64_t>& shape) const {
    Tensors tensors = good;
    tensors[name] = shape;
    return tensors;
  }

  // q and down of layer 3, ranks 2 and 5.
  Tensors good = {{peft_name(module(3, "q_proj"), false), {2, 8}},
                  {peft_name(module(3, "q_proj"), true), {16, 2}},
                  {peft_name(module(3, "down_proj"), false), {5, 6}},
                  {peft_name(module(3, "down_proj"), true), {8, 5}}};
  Json config = {{"peft_type", "LORA"},
                 {"r", 2},
                 {"lora_alpha", 6},
                 {"target_modules", {"q_proj", "down_proj"}},
                 {"layers_to_transform", {3}},
                 {"rank_pattern", {{"down_proj", 5}}},
                 {"alpha_pattern", {{"layers.3.mlp.down_proj", 20}}}};
  const TemporaryDirectory dir;
};

TEST_F(AdapterTest, ReadsWithItsOwnRanksAndScales) {
  write_config(config);
  for (const FileDtype dtype : {FileDtype::F32, FileDtype::BF16, FileDtype::F16}) {
    write_tensors(good, dtype);
    const Adapter adapter = read_adapter(dir, tiny());
    EXPECT_TRUE(adapter.warnings.empty());
    ASSERT_EQ(adapter.modules.size(), 2u);
    EXPECT_EQ(adapter.modules[0].module.short_name(), "q_proj");
    EXPECT_EQ(adapter.modules[0].scale, 3);
    EXPECT_EQ(adapter.modules[0].a.size(), 16u);
    EXPECT_EQ(adapter.modules[1].module.layer, 3);
    EXPECT_EQ(adapter.modules[1].rank, 5);
    EXPECT_EQ(adapter.modules[1].scale, 4);
    EXPECT_EQ(adapter.modules[1].b.size(), 40u);
  }
  config["use_rslora"] = true;
  write_config(config);
  EXPECT_EQ(read_adapter(dir, tiny()).modules[1].scale, 20 / std::sqrt(5.0));
}

// PEFT refuses the first, and the second, which it wrote itself.
TEST_F(AdapterTest, TheRankIsThatOfTheTensors) {
  write_tensors(good);
  for (const Json& ranks : {Json::object(), Json{{"down_proj", 4}, {"mlp.down_proj", 5}}}) {
    config["rank_pattern"] = ranks;
    write_config(config);
    const Adapter contradicted = read_adapter(dir, tiny());
    EXPECT_EQ(contradicted.modules[1].rank, 5);
    EXPECT_EQ(contradicted.modules[1].scale, 4);
    ASSERT_EQ(contradicted.warnings.size(), 1u);
    EXPECT_TRUE(says(contradicted.warnings[0], "has rank 5, but"));
  }
  config["r"] = 16;
  config["rank_pattern"] = Json::object();
  write_config(config);
  EXPECT_EQ(read_adapter(dir, tiny()).warnings.size(), 2u);  // and one more
}

TEST_F(AdapterTest, ManyRegularExpressionsAreRefused) {
  write_tensors(good);
  config["rank_pattern"] = {{"down_proj", 5}};
  for (int i = 0; i < 99; i++) config["rank_pattern"][fmt::format("layers\\.{}\\..*", 100 + i)] = 4;
  write_config(config);
  EXPECT_EQ(read_adapter(dir, tiny()).modules[1].rank, 5);
  for (const char* more : {"x.*", "y.*"}) config["rank_pattern"][more] = 4;
  write_config(config);
  EXPECT_TRUE(says(message_of([&] { read_adapter(dir, tiny()); }), "more than 100 regular expressions"));
}

// PEFT loads tensors of the base model that an adapter's file has over the base model's.
TEST_F(AdapterTest, TensorsOfTheBaseModel) {
  write_config(config);
  const std::string prefix = "base_model.model.";
  Tensors tensors = with(prefix + "lm_head.weight", {10, 8});
  tensors[prefix + "model.embed_tokens.base_layer.weight"] = {10, 8};
  tensors[prefix + "model.norm.weight"] = {8};
  tensors[prefix + "model.layers.3.self_attn.q_proj.base_layer.weight"] = {16, 8};
  tensors[prefix + "model.layers.3.self_attn.k_proj.weight"] = {8, 8};
  write_tensors(tensors);
  const Adapter adapter = read_adapter(dir, tiny());
  EXPECT_EQ(adapter.modules.size(), 2u);
  std::set<std::string> names;
  for (const BaseTensor& t : adapter.base_tensors) {
    names.insert(t.name);
    EXPECT_FALSE(t.only_equal);
  }
  EXPECT_EQ(names, (std::set<std::string>{"lm_head.weight", "model.embed_tokens.weight", "model.norm.weight",
                                          "model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn.k_proj.weight"}));
  expect_refused(with(prefix + "lm_head.weight", {11, 8}), "give the base model that the adapter was trained on");
  tensors[prefix + "lm_head.base_layer.weight"] = {10, 8};
  expect_refused(tensors, "two tensors are for lm_head.weight");
  // What modules_to_save names must be there. In a tied model it is a copy of its own.
  config["modules_to_save"] = {"lm_head"};
  write_config(config);
  expect_refused(good, "lm_head.weight\" is missing, but modules_to_save");
  write_tensors(with(prefix + "lm_head.weight", {10, 8}));
  EXPECT_FALSE(read_adapter(dir, tiny()).base_tensors.at(0).only_equal);
  LlamaConfig tied = tiny();
  tied.tie_embeddings = true;
  EXPECT_TRUE(read_adapter(dir, tied).base_tensors.at(0).only_equal);
  write_tensors(with(prefix + "lm_head.weight", {9, 8}));
  EXPECT_TRUE(says(refusal_of([&] { read_adapter(dir, tied); }), "lm_head.weight\": expected shape [10, 8]"));
}

// In a tied model embedding and head are one tensor. PEFT saves it under both names; where it made two of it, the values differ.
TEST_F(AdapterTest, TheTiedTensorOfModulesToSave) {
  LlamaConfig tied = tiny();
  tied.tie_embeddings = true;
  const std::string embed = "base_model.model.model.embed_tokens.weight", head = "base_model.model.lm_head.weight";
  const auto base_tensors = [&](std::initializer_list<std::pair<std::string, float>> whole, bool ensured) {
    config["modules_to_save"] = {"embed_tokens", "lm_head"}, config["ensure_weight_tying"] = ensured;
    write_config(config);
    std::vector<std::vector<float>> values;
    std::vector<TensorEntry> entries;
    const std::vector<std::byte> zeros(1 << 12);
    for (const auto& [name, shape] : good)
      entries.push_back({{name, FileDtype::F32, shape}, std::span(zeros).first(size_t(element_count(shape)) * 4)});
    for (const auto& [name, value] : whole) values.emplace_back(80, value);
    for (size_t i = 0; i < whole.size(); i++)
      entries.push_back({{(whole.begin() + i)->first, FileDtype::F32, {10, 8}}, std::as_bytes(std::span(values[i]))});
    write_safetensors(dir / "adapter_model.safetensors", entries);
    return read_adapter(dir, tied).base_tensors;
  };
  for (const bool ensured : {false, true}) {
    const std::vector<BaseTensor> one = base_tensors({{embed, 1}, {head, 1}}, ensured);
    ASSERT_EQ(one.size(), 1u);
    EXPECT_EQ(one[0].name, "model.embed_tokens.weight");
    EXPECT_FALSE(one[0].only_equal);
    for (const BaseTensor& t : base_tensors({{embed, 1}, {head, 2}}, ensured)) EXPECT_TRUE(t.only_equal);
    EXPECT_EQ(base_tensors({{embed, 1}}, ensured).at(0).only_equal, !ensured);
  }
  // Of other modules there are no two.
  config["modules_to_save"] = {"model.norm"};
  write_config(config);
  write_tensors(with("base_model.model.model.norm.weight", {8}));
  EXPECT_FALSE(read_adapter(dir, tied).base_tensors.at(0).only_equal);
}

// What PEFT 0.21 writes of an embedding that was resized and trained: the same values twice, and those from before.
TEST_F(AdapterTest, CopiesOfAResizedEmbedding) {
  config["modules_to_save"] = {"lm_head"};
  write_config(config);
  const std::string head = "base_model.model.lm_head.";
  Tensors tensors = with(head + "weight", {10, 8});
  tensors[head + "modules_to_save.weight"] = tensors[head + "original_module.weight"] = {10, 8};
  write_tensors(tensors);
  ASSERT_EQ(read_adapter(dir, tiny()).base_tensors.size(), 1u);
  tensors[head + "modules_to_save.weight"] = {10, 7};
  expect_refused(tensors, "are for the same place, and differ");
  tensors.erase(head + "weight");
  expect_refused(tensors, "is no lora_A or lora_B");
  EXPECT_EQ(adapter_vocabulary(dir), 0);
  write_tensors(with(head + "weight", {13, 8}));
  EXPECT_EQ(adapter_vocabulary(dir), 13);
  EXPECT_EQ(adapter_vocabulary(dir / "none"), 0);
}

TEST_F(AdapterTest, TooManyPatternsAreRefused) {
  write_tensors(good);
  for (const auto& [pattern, count, why] :
       {std::tuple("{}", 10001, "at most 10000 patterns"), std::tuple("x+{}", 101, "more than 100 regular")}) {
    config["alpha_pattern"] = Json::object();
    for (int i = 0; i < count; i++) config["alpha_pattern"][fmt::format(fmt::runtime(pattern), i)] = 1;
    write_config(config);
    expect_refused(why);
  }
}

// With biases trained but none in the model there is nothing to read; where there are, they are tensors of the base model.
TEST_F(AdapterTest, BiasWithoutAndWithTensors) {
  config["bias"] = "all";
  write_config(config);
  write_tensors(good);
  EXPECT_TRUE(read_adapter(dir, tiny()).base_tensors.empty());
  const std::string bias = "base_model.model.model.layers.3.self_attn.q_proj.base_layer.bias";
  expect_refused(with(bias, {16}), "is no lora_A or lora_B");
  write_tensors(with(bias, {16}));
  LlamaConfig biased = tiny();
  biased.attention_bias = true;
  EXPECT_EQ(read_adapter(dir, biased).base_tensors.at(0).name, "model.layers.3.self_attn.q_proj.bias");
}

TEST_F(AdapterTest, TheFirstPatternInTheFileWins) {
  write_tensors(good);
  const std::string before = R"({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "down_proj"], "layers_to_transform": 3,
    "rank_pattern": {"down_proj": 5}, "alpha_pattern": {)";
  std::ofstream(dir / "adapter_config.json") << before << R"("self_attn.q_proj": 4, "q_proj": 8}})";
  EXPECT_EQ(read_adapter(dir, tiny()).modules[0].alpha, 4);
  std::ofstream(dir / "adapter_config.json") << before << R"("q_proj": 8, "self_attn.q_proj": 4}})";
  EXPECT_EQ(read_adapter(dir, tiny()).modules[0].alpha, 8);
}

TEST_F(AdapterTest, NamesAreChecked) {
  expect_refused("there is no adapter_config.json; expected PEFT's directory");
  write_config(config);

  for (const auto& [name, shape] : good) {
    Tensors tensors = good;
    tensors.erase(name);
    expect_refused(tensors, "\"" + name + "\" is missing");
  }
  Tensors renamed;
  for (const auto& [name, shape] : good) renamed[name.substr(0, name.size() - 6) + "default.weight"] = shape;
  write_tensors(renamed);
  EXPECT_EQ(read_adapter(dir, tiny()).modules.size(), 2u);

  const std::string q = "base_model.model.model.layers.3.self_attn.q_proj";
  expect_refused(with("model.layers.3.self_attn.q_proj.lora_A.weight", {2, 8}), "does not begin with");
  expect_refused(with(q + ".lora_A.default.weight", {2, 8}), "for the same place");
  expect_refused(with(q + ".lora_B.bias", {16}), "not implemented");
  expect_refused(with(q + ".lora_magnitude_vector", {16}), "not implemented");
  expect_refused(with("base_model.model.model.embed_tokens.lora_embedding_A", {2, 10}), "not implemented");
  expect_refused(with(q + ".weight", {16, 8}), "is no lora_A or lora_B");  // q.base_layer.weight in PEFT's model
  expect_refused(with("base_model.model.model.layers.3.self_attn.k_proj.base_layer.weight", {8, 8}), "is no lora_A or lora_B");
  expect_refused(with(q + ".lora_A.a.b.weight", {2, 8}), "is no lora_A or lora_B");
  expect_refused(with(q + ".lora_A.", {2, 8}), "is no lora_A or lora_B");
  expect_refused(with("base_model.model..lora_A.weight", {2, 8}), "is no lora_A or lora_B");
  expect_refused(with("base_model.model.", {2, 8}), "is no lora_A or lora_B");
  expect_refused(with("base_model.model.lm_head.lora_A.weight", {2, 8}), "is no lora_A or lora_B");
  expect_refused(with(peft_name(module(12, "q_proj"), false), {2, 8}), "of this model");  // layers 0 … 11
  expect_refused(with(peft_name(module(4, "q_proj"), false), {2, 8}), "which target_modules");
  config["target_modules"] = {"q_proj", "down_proj", "up_proj"};
  write_config(config);
  expect_refused(good, "up_proj.lora_A.weight\" is missing");
}

TEST_F(AdapterTest, ShapesAndTypesAreChecked) {
  write_config(config);
  const std::string a = peft_name(module(3, "q_proj"), false), b = peft_name(module(3, "q_proj"), true);
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{2, 9}, {8, 2}, {16}, {0, 8}, {2, 8, 1}, {}})
    expect_refused(with(a, shape), "q_proj.lora_A.weight\": expected shape [r, 8]");
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{16, 3}, {2, 16}, {15, 2}, {32}})
    expect_refused(with(b, shape), "q_proj.lora_B.weight\": expected shape [16, 2]");
  write_tensors(good, FileDtype::I32);
  expect_refused("expected F32, BF16 or F16, found I32");
}

TEST_F(AdapterTest, NumbersThatAreNotFiniteAreRefused) {
  write_config(config);
  for (const uint8_t high : {0x7f, 0xff}) {  // bf16 0x7f80, infinity, and 0xffff, a NaN
    write_tensors(good, FileDtype::BF16);
    std::string bytes = read_file(dir / "adapter_model.safetensors");
    bytes[bytes.size() - 1] = char(high), bytes[bytes.size() - 2] = char(high == 0x7f ? 0x80 : 0xff);
    write_file_atomic(dir / "adapter_model.safetensors", bytes);
    expect_refused("the adapter is damaged");
  }
}

std::vector<float> numbers(int64_t count, float start) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); i++) values[i] = start + 0.25f * float(i);
  return values;
}

TEST_F(AdapterTest, WritesWhatItReads) {
  const LlamaConfig model = tiny();
  // Uniform over all layers, then with one module of another rank and alpha, then a single module.
  for (const int variant : {0, 1, 2}) {
    std::vector<AdapterPart> parts;
    std::vector<std::vector<float>> data;
    for (int layer = 0; layer < model.layers; layer++) {
      for (const char* target : {"v_proj", "up_proj"}) {
        const Module m = module(layer, target);
        const bool v = m.short_name() == "v_proj";
        if (variant == 2 && (layer != 5 || !v)) continue;
        const bool other = variant == 1 && layer == 1 && v;
        const int rank = other ? 3 : 2;
        data.push_back(numbers(rank * m.cols, float(layer)));
        data.push_back(numbers(m.rows * rank, -float(layer)));
        parts.push_back({m, rank, other ? 1.5 : 32.0, nullptr, nullptr});
      }
    }
    for (size_t i = 0; i < parts.size(); i++) parts[i].a = data[2 * i].data(), parts[i].b = data[2 * i + 1].data();
    write_adapter(dir, {"base", 0.1, variant == 1, model.layers}, parts);
    const Adapter adapter = read_adapter(dir, model);
    EXPECT_TRUE(adapter.warnings.empty());
    EXPECT_EQ(adapter.config.dropout, 0.1);
    EXPECT_EQ(adapter.config.base_model, "base");
    ASSERT_EQ(adapter.modules.size(), parts.size());
    for (size_t i = 0; i < parts.size(); i++) {
      const AdapterModule& m = adapter.modules[i];
      EXPECT_EQ(m.module.name, parts[i].module.name);
      EXPECT_EQ(m.rank, parts[i].rank);
      EXPECT_EQ(m.alpha, parts[i].alpha);
      EXPECT_EQ(m.scale, lora_scale(parts[i].alpha, m.rank, variant == 1));
      EXPECT_EQ(m.a, data[2 * i]);
      EXPECT_EQ(m.b, data[2 * i + 1]);
    }
    const Json written = parse_json(read_file(dir / "adapter_config.json"), "f");
    EXPECT_EQ(written.contains("use_rslora"), variant == 1);
    EXPECT_EQ(written.at("target_modules"),
              variant == 2 ? Json({"model.layers.5.self_attn.v_proj"}) : Json({"up_proj", "v_proj"}));
    EXPECT_EQ(written.at("rank_pattern"), variant == 1 ? Json({{"model.layers.1.self_attn.v_proj", 3}}) : Json::object());
    EXPECT_EQ(SafetensorsFile(dir / "adapter_model.safetensors").metadata().at("format"), "pt");
  }
}

// The oldest form, which every PEFT since 0.5 loads: 0.6 to 0.13 refuse any key they do not know.
TEST_F(AdapterTest, TheConfigurationIsTheShortForm) {
  const std::vector<float> zeros(64);
  write_adapter(dir, {.base_model = "", .dropout = 0, .rslora = false, .layers = 1},
                {{module(0, "q_proj"), 2, 32, zeros.data(), zeros.data()}});
  EXPECT_EQ(read_file(dir / "adapter_config.json"), R"({
  "alpha_pattern": {},
  "base_model_name_or_path": null,
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "lora_alpha": 32,
  "lora_dropout": 0.0,
  "modules_to_save": null,
  "peft_type": "LORA",
  "peft_version": "0.21.2",
  "r": 2,
  "rank_pattern": {},
  "revision": null,
  "target_modules": [
    "q_proj"
  ],
  "task_type": "CAUSAL_LM"
}
)");
}

TEST_F(AdapterTest, MutatedFilesNeverCrash) {
  write_config(config);
  write_tensors(good);
  const fs::path paths[] = {dir / "adapter_config.json", dir / "adapter_model.safetensors"};
  const std::string texts[] = {read_file(paths[0]), read_file(paths[1])};
  const size_t ends[] = {texts[0].size(), 600};  // where the structure is
  std::mt19937 random(3);
  const std::vector<Edit> edits = {[&](std::string& bytes, size_t at) { bytes[at] = char(random()); },
                                   [&](std::string& bytes, size_t at) { bytes[at] = "0123456789{}[],:\"-e.*(|"[random() % 23]; },
                                   [](std::string& bytes, size_t at) { bytes.erase(at, 1); },
                                   [&](std::string& bytes, size_t at) { bytes.insert(at, 1, "90[{\"-"[random() % 6]); }};
  int accepted = 0;
  for (int trial = 0; trial < 2000; trial++) {
    const size_t which = trial % 2;
    std::ofstream(paths[which], std::ios::binary) << mutated(texts[which], random, 2, edits, ends[which]);
    accepted += message_of([&] { read_adapter(dir, tiny()); }).empty();
    std::ofstream(paths[which], std::ios::binary) << texts[which];
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace tll
