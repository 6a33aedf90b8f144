#include "src/base/json_object.h"

#include <gtest/gtest.h>

#include "tests/refusal.h"

namespace tll {
namespace {

bool close(std::string_view key, std::string_view known) {
  const std::string_view all[] = {known};
  return !close_keys(key, all).empty();
}

TEST(UnknownKeys, MisspellingsOfAKnownKey) {
  const std::pair<const char*, const char*> misspelt[] = {
      {"label", "labels"},
      {"Labels", "labels"},
      {"lables", "labels"},
      {"labelss", "labels"},
      {"input-ids", "input_ids"},
      {"inputIds", "input_ids"},
      {"inputids", "input_ids"},
      {"INPUT_IDS", "input_ids"},
      {"inptu_ids", "input_ids"},
      {"input_id", "input_ids"},
      {"input_isd", "input_ids"},
      {"attention_maks", "attention_mask"},
      {"atention_mask", "attention_mask"},
      {"attention_masks", "attention_mask"},
      {"completion_mask_", "completion_mask"},
      {"lora_alhpa", "lora_alpha"},
      {"R", "r"},
      {"hidden-size", "hidden_size"},
      {"num_atention_head", "num_attention_heads"},
      {"intermidiate_size", "intermediate_size"},
      {"use_rslroa", "use_rslora"},
      {"txt", "text"},
  };
  for (const auto& [key, known] : misspelt) EXPECT_TRUE(close(key, known)) << key << " for " << known;
}

TEST(UnknownKeys, OtherNamesAreNoMisspellings) {
  const std::pair<const char*, const char*> different[] = {
      {"top_p", "top_k"},
      {"min_length", "max_length"},
      {"decoder_layers", "encoder_layers"},
      {"choice_2", "choice_1"},
      {"answer2", "answer"},
      {"bos_token_id", "eos_token_id"},
      {"test", "text"},
      {"next", "text"},
      {"use_lora", "use_dora"},
      {"id", "r"},
      {"q", "r"},
      {"rope_beta", "rope_theta"},
      {"mlp_bias", "lora_bias"},
      {"target_parameters", "target_modules"},
      {"title", "text"},
      {"", "r"},
      {"_", "text"},
      {"attention", "attention_mask"},
  };
  for (const auto& [key, known] : different) EXPECT_FALSE(close(key, known)) << key << " for " << known;
  EXPECT_FALSE(close(std::string(100000, 'x'), "labels"));
}

TEST(UnknownKeys, MisspellingsAreRefusedAndOthersNotedOnce) {
  UnknownKeys keys({"input_ids", "labels"});
  for (int row = 0; row < 3; row++)
    keys.meet(Json::parse(R"({"input_ids": [1], "source": "web", "length": 7, "url": "", "meta": {}, "score": null})"), "row");
  EXPECT_EQ(keys.notes("f.jsonl"), (std::vector<std::string>{"f.jsonl: key \"length\" is not known and is ignored (3 times)",
                                                             "f.jsonl: key \"source\" is not known and is ignored (3 times)"}));
  EXPECT_EQ(refusal_of([&] { keys.meet(Json::parse(R"({"input_ids": [1], "label": [1]})"), "f.jsonl: line 4"); }),
            "f.jsonl: line 4: key \"label\" is not known; if \"labels\" is meant, rename it, else remove it");
  // Where the known key is there as well, it was not misspelt.
  keys.meet(Json::parse(R"({"input_ids": [1], "labels": [1], "label": "spam"})"), "row");
  EXPECT_EQ(keys.notes("f").size(), 3u);
  // In a second object with the same unknown key it can be.
  EXPECT_TRUE(says(refusal_of([&] { keys.meet(Json::parse(R"({"input_ids": [1], "label": [1]})"), "row"); }), "labels"));
}

TEST(UnknownKeys, ManyAreCounted) {
  UnknownKeys keys({"input_ids"});
  for (int i = 0; i < 5000; i++) keys.meet(Json{{"name " + std::to_string(i), 1}}, "row");
  const std::vector<std::string> notes = keys.notes("f");
  ASSERT_EQ(notes.size(), 11u);
  EXPECT_EQ(notes.back(), "f: and at least 990 more keys are not known");
}

TEST(JsonObject, UnknownKeysOfAConfiguration) {
  const Json object = Json::parse(R"({"r": 8, "other": 1, "fine": 1, "nothing": null})");
  JsonObject reader(object, "c.json");
  reader.size("r"), reader.size("alpha", 1);
  std::vector<std::string> warnings;
  const std::string_view harmless[] = {"fine"};
  reader.warn_unknown(harmless, warnings);
  EXPECT_EQ(warnings, std::vector<std::string>{"c.json: key \"other\" is not known and is ignored"});
  const Json typo = Json::parse(R"({"r": 8, "aplha": 32})");
  JsonObject second(typo, "c.json");
  second.size("r"), second.size("alpha", 1);
  EXPECT_TRUE(says(refusal_of([&] { second.warn_unknown({}, warnings); }), "if \"alpha\" is meant"));
}

}  // namespace
}  // namespace tll
