// Rows that carry token ids: {"input_ids": [...], "labels": [...]}.
#include <gtest/gtest.h>

#include "data/dataset.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

class Jsonl : public testing::Test {
 protected:
  Jsonl() { options_.vocab_size = 100; }
  Dataset load(const std::string& text) {
    directory_.write("rows.jsonl", text);
    return load_dataset(directory_ / "rows.jsonl", nullptr, options_);
  }
  std::string error(const std::string& text) {
    SCOPED_TRACE(text);
    return refusal_of([&] { load(text); });
  }

  const TemporaryDirectory directory_;
  PrepareOptions options_;
};

TEST_F(Jsonl, LabelsAsHuggingFace) {
  const Dataset d = load(
      "\xEF\xBB\xBF{\"input_ids\": [1,2,3,4], \"labels\": [-100,-100,3,9], \"other\": {\"x\": null}}\r\n\n   "
      "\n{\"input_ids\":[5,6]}");
  ASSERT_EQ(d.documents.size(), 2u);
  EXPECT_EQ(d.tokens, (std::vector<int32_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(d.labels, (std::vector<int32_t>{-100, -100, 3, 9, -100, 6}));
  EXPECT_EQ(d.documents[0].target_tokens, 2);
  EXPECT_EQ(d.documents[1].begin, 4);
  EXPECT_EQ(d.documents[1].target_tokens, 1);
  EXPECT_EQ(d.count(Split::kTrain), 2);
  EXPECT_EQ(d.report.target_tokens, 3);
  EXPECT_EQ(d.vocab_size, 100);
}

TEST_F(Jsonl, FirstLabelIsNeverATarget) {
  EXPECT_TRUE(says(error("{\"input_ids\":[1,2],\"labels\":[1,-100]}"), "line 1 trains nothing"));
  EXPECT_TRUE(says(error("{\"input_ids\":[7]}"), "--allow-empty"));
  options_.allow_empty = true;
  const Dataset d = load("{\"input_ids\":[7]}\n{\"input_ids\":[1,2],\"labels\":[1,-100]}\n");
  EXPECT_EQ(d.report.empty, 2);
  EXPECT_EQ(d.report.target_tokens, 0);
}

TEST_F(Jsonl, ErrorsNameTheLine) {
  const std::string good = "{\"input_ids\":[1,2]}\n\n";
  const std::pair<const char*, const char*> cases[] = {
      {"{\"input_ids\":[1,100]}", "input_ids[1]"},
      {"{\"input_ids\":[1,-100]}", "input_ids[1]"},
      {"{\"input_ids\":[1,2.0]}", "2.0"},
      {"{\"input_ids\":[1,\"2\"]}", "input_ids[1]"},
      {"{\"input_ids\":[1,18446744073709551615]}", "input_ids[1]"},
      {"{\"input_ids\":[1,4294967297]}", "input_ids[1]"},
      {"{\"input_ids\":[]}", "empty"},
      {"{\"input_ids\":5}", "expected an array"},
      {"{\"labels\":[1]}", "input_ids"},
      {"[1,2]", "input_ids"},
      {"{\"input_ids\":[1,2],\"labels\":[-100]}", "1 elements"},
      {"{\"input_ids\":[1,2],\"labels\":[-100,-1]}", "labels[1]"},
      {"{\"input_ids\":[1,2],\"labels\":null}", "labels"},
      {"{\"input_ids\":[1,2]", ""},
      {"{\"input_ids\":[1,2]} x", ""},
  };
  for (const auto& [row, part] : cases) {
    const std::string message = error(good + row);
    EXPECT_TRUE(says(message, "line 3"));
    EXPECT_TRUE(says(message, part));
    EXPECT_TRUE(says(message, "rows.jsonl"));
  }
  EXPECT_TRUE(says(error(""), "no sample"));
}

TEST_F(Jsonl, LongRowsAreCutOrRefused) {
  options_.max_tokens = 3;
  const std::string text =
      "{\"input_ids\":[1,2,3,4]}\n{\"input_ids\":[1,2,3,4],\"labels\":[-100,-100,-100,4]}\n{\"input_ids\":[5,6,7]}\n";
  const Dataset d = load(text);
  ASSERT_EQ(d.documents.size(), 2u);
  EXPECT_EQ(d.report.truncated, 1);
  EXPECT_EQ(d.report.refused.at("answer cut off"), 1);
  EXPECT_EQ(d.documents[0].length, 3);
  options_.long_samples = LongSamples::kRefuse;
  const Dataset strict = load(text);
  EXPECT_EQ(strict.documents.size(), 1u);
  EXPECT_EQ(strict.report.refused.at("too long"), 2);
}

TEST_F(Jsonl, SplitHoldsOutTheShareAndDependsOnTheSeed) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += fmt::format("{{\"input_ids\":[{},2]}}\n", i + 10);
  EXPECT_EQ(load(text).count(Split::kValidation), 0);
  options_.valid_split = 0.25;
  const Dataset a = load(text), b = load(text);
  EXPECT_EQ(a.count(Split::kValidation), 10);
  EXPECT_EQ(a.content_hash(), b.content_hash());
  options_.seed = 43;
  EXPECT_NE(load(text).content_hash(), a.content_hash());
}

TEST_F(Jsonl, WithoutVocabularyTheLargestIdDecides) {
  options_.vocab_size = 0;
  EXPECT_EQ(load("{\"input_ids\":[1,500]}").vocab_size, 501);
}

}  // namespace
}  // namespace tll
