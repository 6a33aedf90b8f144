// Rows that carry token ids: {"input_ids": [...], "labels": [...]}.
#include <gtest/gtest.h>

#include "data/dataset.h"
#include "tests/dataset_values.h"
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
  EXPECT_EQ(all_tokens(d), (std::vector<int32_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(all_labels(d), (std::vector<int32_t>{-100, -100, 3, 9, -100, 6}));
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
      {"{\"input_ids\":5}", "expected a list, found 5"},
      {"{\"labels\":[1]}", "several formats"},
      {"[1,2]", "input_ids"},
      {"{\"input_ids\":[1,2],\"labels\":[-100]}", "1 elements"},
      {"{\"input_ids\":[1,2],\"labels\":[-100,-1]}", "labels[1]"},
      {"{\"input_ids\":[1,2]", ""},
      {"{\"input_ids\":[1,2]} x", ""},
  };
  for (const auto& [row, part] : cases) {
    const std::string message = error(good + row);
    EXPECT_TRUE(says(message, "line 3"));
    EXPECT_TRUE(says(message, part));
    EXPECT_TRUE(says(message, "rows.jsonl"));
  }
}

TEST_F(Jsonl, ABatchDimensionIsNamedShortly) {
  std::string ids = "5";
  for (int i = 0; i < 2000; ++i) ids += ",6";
  for (const char* key : {"input_ids", "labels", "attention_mask"}) {
    const std::string first = std::string(key) == "input_ids" ? "" : "\"input_ids\":[1],";
    const std::string message = error("{" + first + "\"" + key + "\":[[" + ids + "]]}");
    EXPECT_TRUE(says(message, std::string(key) + "[0]: expected "));
    EXPECT_TRUE(says(message, "found a list (a batch dimension?"));
    EXPECT_LT(message.size(), 250u);
  }
}

TEST_F(Jsonl, RowsMayBeElementsOfAList) {
  const std::vector<std::string> rows = {R"({"input_ids": [1,2,3]})", R"({"input_ids": [4,5], "labels": [-100,5]})"};
  const Dataset lines = load(rows[0] + "\n" + rows[1]);
  for (const std::string& text :
       std::vector<std::string>{"[" + rows[0] + ",\n" + rows[1] + "]", "[" + rows[0] + "," + rows[1] + "]",
                                R"({"version": "1", "data": [)" + rows[0] + "," + rows[1] + "]}"}) {
    EXPECT_EQ(load(text).content_hash(), lines.content_hash()) << text;
  }
  EXPECT_EQ(all_tokens(load("{\n  \"input_ids\":\n  [1,2,3]\n}\n")), (std::vector<int32_t>{1, 2, 3})) << "one row over several lines";
  EXPECT_TRUE(says(error("[" + rows[0] + ",{\"input_ids\":[100]}]"), "[1]: input_ids[0]"));
  EXPECT_TRUE(says(error("[" + rows[0] + ",7]"), "[1]: expected an object, found 7"));
  EXPECT_TRUE(says(error("{\"input_ids\": [1,\n" + rows[1]), "line 1")) << "named as lines";
}

class Columns : public Jsonl {
 protected:
  // The tokens and labels of each document: "1 2* 3*", with * where a label is the token and trained.
  std::string documents(const std::string& row) {
    options_.allow_empty = true;
    const Dataset d = load("{" + row + "}");
    std::string out;
    for (const Document& doc : d.documents) {
      if (!out.empty()) out += " | ";
      for (int32_t t = 0; t < doc.length; ++t) {
        const int32_t id = d.tokens_of(doc)[size_t(t)], label = d.labels_of(doc)[size_t(t)];
        out += fmt::format("{}{}{}", t ? " " : "", id, label == kNotTrained ? "" : label == id ? "*" : "?");
      }
    }
    return out;
  }
};

TEST_F(Columns, PaddingIsLeftOut) {
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,2,2], "attention_mask": [1,1,1,0,0])"), "5 6* 7*");
  EXPECT_EQ(documents(R"("input_ids": [2,2,5,6,7], "attention_mask": [0,0,1,1,1])"), "5 6* 7*");
  EXPECT_EQ(documents(R"("input_ids": [2,5,6,7,2], "attention_mask": [false,true,true,true,false])"), "5 6* 7*");
  EXPECT_EQ(documents(R"("input_ids": [2,5,6,7,2], "attention_mask": [0,1,1,1,0], "labels": [-100,-100,-100,7,-100])"), "5 6 7*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7], "attention_mask": [1,1,1])"), "5 6* 7*");
  EXPECT_EQ(documents(R"("input_ids": [32000,-1,5,6], "attention_mask": [0,0,1,1])"), "5 6*") << "any id may stand for padding";
  const Dataset d = load(R"({"input_ids": [2,5,6,2], "attention_mask": [0,1,1,0]})");
  EXPECT_TRUE(says(d.report.text(), "padding left out where attention_mask is 0: 2 in all"));
}

TEST_F(Columns, NullIsNoColumn) {
  EXPECT_EQ(documents(R"("input_ids": [5,6,7], "labels": null, "attention_mask": null, "seq_lengths": null)"), "5 6* 7*");
}

TEST_F(Columns, MasksSayWhatIsATarget) {
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8], "completion_mask": [0,0,1,1])"), "5 6 7* 8*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8], "assistant_masks": [1,0,0,1])"), "5 6 7 8*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8], "assistant_masks": [0,1,1,0], "completion_mask": [0,0,1,1])"), "5 6 7* 8");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,2], "completion_mask": [0,1,1,1], "attention_mask": [1,1,1,0])"), "5 6* 7*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7], "completion_mask": [0,0,1], "labels": [-100,-100,7])"), "5 6 7*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7], "completion_mask": [0,1,1], "labels": [-100,-100,7])"), "5 6 7*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7], "completion_mask": [0,1,1], "labels": [5,6,7])"), "5 6* 7*");
}

TEST_F(Columns, PackedRowsAreDivided) {
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8,9], "position_ids": [0,1,2,0,1])"), "5 6* 7* | 8 9*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8,9], "seq_lengths": [3,2])"), "5 6* 7* | 8 9*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8,9], "seq_lengths": [3,2], "position_ids": [0,1,2,0,1])"), "5 6* 7* | 8 9*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7], "position_ids": [0,1,2])"), "5 6* 7*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7], "seq_lengths": [3])"), "5 6* 7*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8], "seq_lengths": [2,2], "labels": [-100,6,7,8])"), "5 6* | 7* 8*");
  // Each document with padding of its own, as trl's pack_dataset keeps it.
  EXPECT_EQ(documents(R"("input_ids": [5,6,2,2,7,8,2], "seq_lengths": [3,3,1], "attention_mask": [1,1,0,0,1,1,0])"),
            "5 6* | 7 8*");
  // Padding behind packed documents: positions of 0, as trl pads them, or counted on.
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,8,2,2], "position_ids": [0,1,0,1,0,0], "attention_mask": [1,1,1,1,0,0])"),
            "5 6* | 7 8*");
  EXPECT_EQ(documents(R"("input_ids": [5,6,7,2], "position_ids": [0,1,2,3], "attention_mask": [1,1,1,0])"), "5 6* 7*");
  // Padding in front: positions begin behind it, or are the indices.
  EXPECT_EQ(documents(R"("input_ids": [2,2,5,6], "position_ids": [1,1,0,1], "attention_mask": [0,0,1,1])"), "5 6*");
  EXPECT_EQ(documents(R"("input_ids": [2,2,5,6], "position_ids": [0,1,2,3], "attention_mask": [0,0,1,1])"), "5 6*");
  const Dataset d = load(R"({"input_ids": [5,6,7,8,9], "seq_lengths": [3,2]})");
  EXPECT_EQ(d.report.target_tokens, 3);
  EXPECT_TRUE(says(d.report.text(), "packed rows, 1 in all, divided into 2 documents"));
}

TEST_F(Columns, DocumentsOfAPackedRowThatTrainNothingAreLeftOut) {
  const std::string row = R"({"input_ids": [5,6,7,8,9], "seq_lengths": [2,2,1], "completion_mask": [0,0,0,1,1]})";
  const Dataset d = load(row);
  EXPECT_EQ(all_tokens(d), (std::vector<int32_t>{7, 8}));
  EXPECT_EQ(d.report.untrained_parts, 2);
  EXPECT_TRUE(says(d.report.text(), "2 documents of packed rows left out"));
  const std::string none = R"({"input_ids": [5,6,7,8], "seq_lengths": [2,2], "completion_mask": [1,0,1,0]})";
  EXPECT_TRUE(says(error(row + "\n" + none), "line 2, document 1 trains nothing"));
  options_.allow_empty = true;
  EXPECT_EQ(load(row).report.empty, 2);
}

TEST_F(Columns, ContradictionsAndBadColumnsAreRefused) {
  const std::string ids = R"("input_ids": [5,6,7,8], )";
  const std::pair<const char*, const char*> cases[] = {
      {R"("attention_mask": [1,1,0,1])", "attention_mask[2] is 0 between"},
      {R"("attention_mask": [0,0,0,0])", "attention_mask is 0 everywhere"},
      {R"("attention_mask": [1,1,2,2])", "attention_mask[2]: expected 0 or 1, found 2"},
      {R"("attention_mask": [1,1,1.0,1])", "attention_mask[2]: expected 0 or 1, found 1.0"},
      {R"("attention_mask": [1,1,1])", "attention_mask has 3 elements and input_ids 4"},
      {R"("attention_mask": [1,1,1,0], "labels": [-100,6,7,8])", "labels[3] is trained and attention_mask[3] is 0"},
      {R"("completion_mask": [0,0,1,1], "labels": [-100,6,7,8])", "labels[1] is trained and completion_mask[1] is 0"},
      {R"("assistant_masks": [0,0,1,1], "labels": [-100,6,7,8])", "labels[1] is trained and assistant_masks[1] is 0"},
      {R"("completion_mask": [0,0,1,1,1])", "completion_mask has 5"},
      {R"("assistant_masks": [0,0,1,"1"])", "assistant_masks[3]: expected 0 or 1, found \"1\""},
      {R"("position_ids": [0,1,3,4])", "position_ids[2]: expected 2, found 3"},
      {R"("position_ids": [3,4,5,6])", "position_ids[0]: expected 0, found 3"},
      {R"("position_ids": [0,1,true,3])", "position_ids[2]: expected a position, found true"},
      {R"("position_ids": [0,1,-1,3])", "position_ids[2]: expected a position, found -1"},
      {R"("position_ids": [0,1,2])", "position_ids has 3"},
      {R"("seq_lengths": [2,1])", "seq_lengths add up to 3, and input_ids has 4"},
      {R"("seq_lengths": [])", "seq_lengths add up to 0"},
      {R"("seq_lengths": [4,0])", "seq_lengths[1]: expected a length of at least 1, found 0"},
      {R"("seq_lengths": 4)", "seq_lengths: expected a list, found 4"},
      {R"("seq_lengths": [2,2], "position_ids": [0,1,2,3])", "position_ids[2]: expected 0, found 2"},
      {R"("seq_lengths": [4], "position_ids": [0,1,0,1])", "position_ids[2]: expected 2, found 0"},
      {R"("labels": [5,6,7,true])", "labels[3]: expected a token id from 0 to 99 or -100, found true"},
      {R"("loss_mask": [0,0,1,1])", "key \"loss_mask\" is not implemented"},
      {R"("label_ids": [5,6,7,8])", "key \"label_ids\" is not implemented"},
      {R"("weight": 2)", "key \"weight\" is not implemented"},
      {R"("label": [5,6,7,8])", "key \"label\" is not known; if \"labels\" is meant"},
      {R"("attention_masks": [1,1,1,0])", "key \"attention_masks\""},
      {R"("assistant_mask": [1,1,1,0])", "key \"assistant_mask\""},
      {R"("position_id": [0,1,0,1])", "if \"position_ids\" is meant"},
      {R"("seqLengths": [2,2])", "if \"seq_lengths\" is meant"},
  };
  for (const auto& [more, part] : cases) {
    const std::string message = error("{\"input_ids\": [1,2]}\n{" + ids + more + "}");
    EXPECT_TRUE(says(message, "line 2"));
    EXPECT_TRUE(says(message, part));
  }
  EXPECT_TRUE(says(error(R"({"input_id": [1,2]})"), "if \"input_ids\" is meant"));
}

TEST_F(Columns, ColumnsThatChangeNothingAreNotedOnce) {
  const std::string row = R"({"input_ids": [5,6], "token_type_ids": [0,1], "special_tokens_mask": [1,0], "length": 2, "text": "x",
    "labels": [-100,6], "label": 1, "loss_mask": null, "overflow_to_sample_mapping": 0})";
  std::string line = row;
  line.erase(line.find('\n'), 1);
  const Dataset d = load(line + "\n" + line + "\n{\"input_ids\": [5,6]}");
  std::vector<std::string> expected;
  for (const char* key : {"label", "length", "special_tokens_mask", "text", "token_type_ids"}) {
    expected.push_back(
        fmt::format("{}: key \"{}\" is not known and is ignored (2 times)", (directory_ / "rows.jsonl").string(), key));
  }
  EXPECT_EQ(d.report.notes(), expected);
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
  options_.long_samples = LongSamples::kDrop;
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
