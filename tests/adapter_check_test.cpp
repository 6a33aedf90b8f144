// An adapter that would not load is said to, with everything in it that matches nothing.
#include "src/files/adapter_check.h"

#include <gtest/gtest.h>

#include <functional>

#include "src/base/json.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

LlamaConfig tiny() {
  LlamaConfig c;
  c.vocab_size = 10, c.hidden = 8, c.intermediate = 6, c.layers = 3, c.heads = 4, c.kv_heads = 2, c.head_dim = 4;
  return c;
}

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
};

// q_proj and down_proj of every layer with rank 2.
class AdapterCheckTest : public testing::Test {
 protected:
  AdapterCheckTest() {
    for (const Module& m : adaptable_modules(tiny()))
      if (m.short_name() == "q_proj" || m.short_name() == "down_proj") {
        tensors.push_back({peft_name(m, false), {2, m.cols}});
        tensors.push_back({peft_name(m, true), {m.rows, 2}});
      }
  }
  AdapterCheck check(float value = 0.5f) const {
    std::vector<std::vector<float>> values;
    std::vector<TensorEntry> entries;
    for (const Tensor& t : tensors) values.emplace_back(static_cast<size_t>(element_count(t.shape)), value);
    for (size_t i = 0; i < tensors.size(); i++)
      entries.push_back({{tensors[i].name, FileDtype::F32, tensors[i].shape}, std::as_bytes(std::span(values[i]))});
    write_safetensors(dir / kAdapterTensors, entries);
    write_json(dir / kAdapterSettings, settings);
    return check_adapter(dir, tiny());
  }
  // The only problem; all problems if there are more.
  std::string problem() const {
    std::string all;
    for (const std::string& line : check().problems) all += (all.empty() ? "" : "\n") + line;
    return all;
  }
  const TemporaryDirectory dir;
  Json settings = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"target_modules", {"q_proj", "down_proj"}}};
  std::vector<Tensor> tensors;
};

TEST_F(AdapterCheckTest, AWholeOneHasNoProblem) {
  const AdapterCheck whole = check();
  EXPECT_TRUE(whole.problems.empty());
  EXPECT_TRUE(whole.notes.empty());
  EXPECT_EQ(whole.modules, 6);
  for (Tensor& t : tensors) t.name.insert(t.name.rfind('.'), ".default");
  EXPECT_EQ(problem(), "");
}

TEST_F(AdapterCheckTest, ATargetThatHitsNothingIsNamed) {
  settings["target_modules"] = {"q_proj", "down_proj", "qkv_proj", "W_pack"};
  EXPECT_TRUE(says(problem(), "target_modules \"W_pack\" is no module of this model; it has q_proj, k_proj, v_proj, o_proj"));
  EXPECT_EQ(check().problems.size(), 2u);
  settings["target_modules"] = "model\\.decoder\\..*";
  EXPECT_TRUE(says(problem(), "target_modules names no linear layer"));
}

TEST_F(AdapterCheckTest, TensorsThatMatchNothingAreAllNamed) {
  tensors[0].name.erase(0, std::string("base_model.model.").size());
  tensors[3].name = "base_model.model.model.layers.0.mlp.down_proj.lora_embedding_B.weight";
  const AdapterCheck found = check();
  ASSERT_EQ(found.problems.size(), 4u);
  int unknown = 0, missing = 0;
  for (const std::string& line : found.problems)
    unknown += line.find("matches nothing") != line.npos, missing += line.find("is missing") != line.npos;
  EXPECT_EQ(unknown, 2);
  EXPECT_EQ(missing, 2);
}

TEST_F(AdapterCheckTest, OfManyAFewAreShown) {
  for (Tensor& t : tensors) t.name.replace(0, std::string("base_model.model.model").size(), "base_model.model.transformer");
  const AdapterCheck found = check();
  EXPECT_EQ(found.problems.size(), 12u);  // 5 of 12 that match nothing, 5 of 12 that are missing, and the numbers of the others
  EXPECT_EQ(found.problems[5], "and 7 more such");
}

TEST_F(AdapterCheckTest, SettingsOfAnotherModel) {
  settings["layers_to_transform"] = {0, 1, 2, 7};
  EXPECT_TRUE(says(problem(), "layers_to_transform names layer 7, and this model has 3"));
  settings.erase("layers_to_transform");
  settings["rank_pattern"] = {{"gate_proj", 4}};
  EXPECT_TRUE(says(problem(), "rank_pattern \"gate_proj\" matches no module that has an adapter"));
  settings["rank_pattern"] = {{"q_proj", 3}};
  EXPECT_TRUE(says(problem(), "has rank 2, but"));
  settings.erase("rank_pattern");
  settings["modules_to_save"] = {"score"};
  EXPECT_TRUE(says(problem(), "modules_to_save \"score\""));
  settings.erase("modules_to_save");
  settings["use_dora"] = true;
  EXPECT_TRUE(says(problem(), "use_dora"));
}

TEST_F(AdapterCheckTest, OtherShapesAndValues) {
  tensors[1].shape = {8, 2};
  EXPECT_TRUE(says(problem(), "has shape [8, 2], and the model's layer needs [16, r]"));
  tensors[1].shape = {16, 2};
  EXPECT_EQ(check(NAN).problems.size(), 1u);
  const AdapterCheck untrained = check(0);
  EXPECT_TRUE(untrained.problems.empty());
  ASSERT_EQ(untrained.notes.size(), 1u);
  EXPECT_TRUE(says(untrained.notes[0], "all B are zero"));
}

TEST_F(AdapterCheckTest, WhatIsNoAdapter) {
  EXPECT_TRUE(says(check_adapter(dir / "none", tiny()).problems.at(0), "no such directory"));
  dir.write(kAdapterSettings, "{").write(kAdapterTensors, "x");
  EXPECT_EQ(check_adapter(dir, tiny()).problems.size(), 1u);
}

}  // namespace
}  // namespace tll
