// The model card says what the run was, and nothing of the machine that it ran on.
#include "src/commands/model_card.h"

#include <gtest/gtest.h>

#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

Json run() {
  return {{"options",
           {{"train", "lora"}, {"rank", 8}, {"alpha", 16}, {"lr", 2e-4}, {"targets", {"q_proj", "v_proj"}}, {"keep", "last"}}},
          {"model", {{"base_name", "Org/Base-1B"}, {"base_on_hub", true}, {"largest_rank", 24}}},
          {"paths", {{"output", "/home/somebody/my-adapter/"}}},
          {"data", {{"path", "/home/somebody/a|b.jsonl"}, {"train_documents", 40}}},
          {"result", {{"steps", 7}, {"before", {{"loss", 3.25}, {"f1", 1.5}}}, {"after", {{"loss", 1.125}}}}}};
}

TEST(ModelCard, SaysWhatTheRunWas) {
  const std::string card = model_card(run());
  EXPECT_TRUE(card.starts_with("---\nbase_model: \"Org/Base-1B\"\nlibrary_name: peft\n"));
  for (const char* line :
       {"\n- \"base_model:adapter:Org/Base-1B\"\n", "\n# my-adapter\n", "| validation loss | 3.2500 | 1.1250 |",
        "| F1 | 1.5 | – |", "| file | a\\|b.jsonl |", "| targets | q_proj, v_proj |", "| lr | 0.0002 |", "| steps | 7 |",
        "PeftModel.from_pretrained(model, \"my-adapter\")", "--max-lora-rank 32 ", "Fill in: the licence"})
    EXPECT_TRUE(says(card, line));
  EXPECT_EQ(card.find("/home"), card.npos);
  EXPECT_EQ(card.find("exact match"), card.npos);  // was not measured
}

// A path is no name on the Hub, which would refuse the card with it.
TEST(ModelCard, APathIsNotPublished) {
  Json of_path = run();
  of_path["model"]["base_name"] = "/home/somebody/base", of_path["model"]["base_on_hub"] = false;
  const std::string card = model_card(of_path);
  EXPECT_TRUE(card.starts_with("---\nlibrary_name: peft\n"));
  EXPECT_TRUE(says(card, "adapter of `base`"));
  EXPECT_TRUE(says(card, "--base-name ORG/NAME"));
  EXPECT_EQ(card.find("/home"), card.npos);
}

TEST(ModelCard, OfAWholeModel) {
  Json full = run();
  full["options"]["train"] = "full";
  const std::string card = model_card(full);
  EXPECT_TRUE(says(card, "library_name: transformers"));
  EXPECT_TRUE(says(card, "base_model:finetune:Org/Base-1B"));
  EXPECT_EQ(card.find("peft"), card.npos);
}

TEST(ModelCard, IsToldFromAnother) {
  const TemporaryDirectory dir;
  dir.write("ours.md", model_card(run())).write("other.md", "# mine\n");
  EXPECT_TRUE(is_model_card(dir / "ours.md"));
  EXPECT_FALSE(is_model_card(dir / "other.md"));
  EXPECT_FALSE(is_model_card(dir / "none.md"));
  EXPECT_TRUE(says(model_card(Json::object()), "# adapter"));  // a run that says nothing
}

}  // namespace
}  // namespace tll
