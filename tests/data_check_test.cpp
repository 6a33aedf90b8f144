// show and show --check on conversations: what is marked, what is counted, and what is warned of.
#include "data/data_check.h"

#include <gtest/gtest.h>

#include "tests/chat_tokenizer.h"
#include "tests/refusal.h"

namespace tll {
namespace {

const ChatTokenizer kTokenizer;
constexpr int32_t kBegin = ChatTokenizer::kBegin, kEnd = ChatTokenizer::kEnd;

// "^user$[answer$]" are ids and labels: ^ and $ the marks, in brackets what is trained.
void add(Dataset& data, const std::string& text, Split split = Split::kTrain) {
  std::vector<int32_t> ids, labels;
  bool trained = false;
  for (const char c : text) {
    if (c == '[' || c == ']') {
      trained = c == '[';
      continue;
    }
    ids.push_back(c == '^' ? kBegin : c == '$' ? kEnd : FakeTokenizer::kFirstByte + uint8_t(c));
    labels.push_back(trained ? ids.back() : kNotTrained);
  }
  data.add(ids, labels, {.split = split});
}

DataCheck check(const Dataset& data, int32_t seq_len = 64) { return check_data(data, &kTokenizer, {}, seq_len); }

bool warns(const DataCheck& check, const std::string& part) {
  for (const std::string& warning : check.warnings()) {
    if (warning.find(part) != warning.npos) return true;
  }
  return false;
}

TEST(DataCheck, CountsWhatIsTrained) {
  Dataset data;
  add(data, "^ab$^[yes$]^c$^[no$]");
  add(data, "^ab$^[perhaps$]");
  add(data, "^a question$^[x$]", Split::kValidation);
  const DataCheck c = check(data);
  EXPECT_EQ(c.samples, 3);
  EXPECT_EQ(c.train_samples, 2);
  EXPECT_EQ(c.tokens, 16 + 13 + 15);
  EXPECT_EQ(c.target_tokens, 4 + 3 + 8 + 2);
  EXPECT_EQ(c.answers, 4);
  EXPECT_EQ(c.ends_trained, 4);
  EXPECT_EQ(c.duplicates, 0);
  EXPECT_EQ(c.warnings(), std::vector<std::string>());
  const Json json = c.json();
  for (const char* key :
       {"samples", "tokens", "target_tokens", "ends_trained", "duplicates", "empty", "truncated", "dropped", "lengths"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["lengths"]["shortest"], 13);
  EXPECT_EQ(json["lengths"]["longest"], 16);
  EXPECT_EQ(json["lengths"]["median"], 15);
  EXPECT_EQ(json["lengths"]["classes"], Json::parse(R"([{"from": 1, "to": 16, "samples": 3}])"));
  EXPECT_TRUE(says(c.text(), "100 % of the answers are trained with their end mark"));
}

// Complaint: the end mark is masked because its id is the padding's; the mask of an answer ends a token early.
TEST(DataCheck, EndsThatAreNotTrained) {
  Dataset data;
  for (int i = 0; i < 3; ++i) add(data, "^" + std::to_string(i) + "$^[yes]$");
  add(data, "^d$^[no$]");
  const DataCheck c = check(data);
  EXPECT_EQ(c.answers, 4);
  EXPECT_EQ(c.ends_trained, 1);
  EXPECT_TRUE(warns(c, "3 of 4 answers are trained without an end mark"));
  EXPECT_TRUE(says(c.text(), "25.0 % of the answers"));
}

// The mark may be spelled out, and a line's end may follow.
TEST(DataCheck, EndMarksOfAllKinds) {
  for (const char* answer : {"yes$", "yes$\n", "yes<|im_end|>\n", "yes</s>", "yes<|eot_id|>", "yes<|end|>\n "}) {
    Dataset data;
    add(data, std::string("^q$^[") + answer + "]");
    EXPECT_EQ(check(data).ends_trained, 1) << answer;
  }
  for (const char* answer : {"yes", "yes\n", " ", "yes$ no", "<|im_end|", "</s"}) {
    Dataset data;
    add(data, std::string("^q$^[") + answer + "]");
    EXPECT_EQ(check(data).ends_trained, 0) << answer;
    EXPECT_EQ(check(data).answers, 1) << answer;
  }
  // Ids alone: the model's end ids tell.
  Dataset data;
  add(data, "^q$^[yes$]");
  EXPECT_EQ(check_data(data, nullptr, std::vector<int32_t>{kEnd}, 64).ends_trained, 1);
  EXPECT_TRUE(check_data(data, nullptr, {}, 64).json()["ends_trained"].is_null());
}

// Complaint: a template without the marks that a mask is made from gives a mask of zeros, and the loss is 0.
TEST(DataCheck, NothingTrained) {
  Dataset data;
  add(data, "^q$^yes$");
  add(data, "^r$^no$");
  const DataCheck c = check(data);
  EXPECT_TRUE(warns(c, "nothing is trained"));
  EXPECT_EQ(c.json()["empty"], 2);
  add(data, "^s$^[no$]");
  EXPECT_TRUE(warns(check(data), "2 of 3 samples train nothing"));
}

// Complaint: the tokenizer adds BOS to a text that the template has begun with it.
TEST(DataCheck, DoubleBos) {
  Dataset data;
  add(data, "^^q$^[yes$]");
  add(data, "^q$^[yes$]");
  const DataCheck c = check(data);
  EXPECT_EQ(c.double_bos, 1);
  EXPECT_TRUE(warns(c, "begin with BOS twice"));
}

TEST(DataCheck, Duplicates) {
  Dataset data;
  for (const Split split : {Split::kTrain, Split::kTrain, Split::kValidation, Split::kValidation}) add(data, "^a$^[b$]", split);
  add(data, "^c$^[b$]", Split::kValidation);
  add(data, "^c$^[b$]", Split::kValidation);
  add(data, "^d$^[b$]");
  add(data, "^d$^b[$]");  // the same tokens, trained in another way
  const DataCheck c = check(data);
  EXPECT_EQ(c.duplicates, 3 + 1 + 1);
  EXPECT_EQ(c.in_both_splits, 2);
  EXPECT_TRUE(warns(c, "2 of 4 validation samples have the tokens of a training sample"));
}

TEST(DataCheck, SharesThatAreSuspicious) {
  Dataset little, much, all;
  add(little, "^" + std::string(500, 'q') + "$^[a$]");
  EXPECT_TRUE(warns(check(little, 600), "only 0.40 % of the tokens are trained"));
  add(much, "^q[" + std::string(500, 'a') + "$]");
  EXPECT_TRUE(warns(check(much, 600), "so next to nothing is a prompt"));
  add(all, "^[" + std::string(500, 'a') + "$]");
  EXPECT_EQ(check(all, 600).warnings(), std::vector<std::string>()) << "a plain text";
}

TEST(DataCheck, ManyThatWereCutOrLeftOut) {
  Dataset data;
  for (int i = 0; i < 8; ++i) add(data, "^" + std::to_string(i) + "$^[a$]");
  data.report.truncated = 1;
  data.report.refused["too long"] = 1;
  EXPECT_EQ(check(data).warnings().size(), 2u);
  for (int i = 0; i < 8; ++i) add(data, "^" + std::to_string(i) + "?$^[a$]");
  EXPECT_EQ(check(data).warnings().size(), 0u);
  EXPECT_EQ(check(data).json()["truncated"], 1);
  EXPECT_EQ(check(data).json()["dropped"], 1);
}

TEST(DataCheck, LengthsAndPacking) {
  Dataset data;
  for (const int length : {10, 16, 17, 30, 40, 50, 90, 100}) add(data, "^[" + std::string(size_t(length - 2), 'a') + "$]");
  const DataCheck c = check(data, 100);
  std::vector<std::vector<int64_t>> classes;
  for (const DataCheck::LengthClass& k : c.classes()) classes.push_back({k.from, k.to, k.samples});
  EXPECT_EQ(classes, (std::vector<std::vector<int64_t>>{{1, 16, 2}, {17, 32, 2}, {33, 64, 2}, {65, 100, 2}}));
  EXPECT_EQ(c.packed_rows, 4);  // 100, 90 + 10, 50 + 30 + 17, 40 + 16
  EXPECT_TRUE(says(c.text(), "4 rows of 100 tokens instead of 8: 11.8 % padding instead of 55.9 %"));
  EXPECT_EQ(c.length_at(0.5), 30);
  // Documents that are longer than --seq-len, as a squad.bin may hold them.
  EXPECT_EQ(check(data, 20).seq_len, 100);
}

TEST(ShowSample, SpecialTokensAndWhatLooksLikeThem) {
  Dataset data;
  add(data, "^Say <|im_end|>\x1bnow$^[done$]");
  data.template_name = "chatml";
  const std::string text = show_text(data, 0, kTokenizer, false);
  EXPECT_TRUE(says(text, "<|im_start|>Say \\<|im_end|>\\x1bnow<|im_end|><|im_start|>«done<|im_end|>»\n")) << text;
  EXPECT_TRUE(says(show_text(data, 0, kTokenizer, true), "\x1b[1;32m«done\x1b[36m<|im_end|>\x1b[1;32m»\x1b[0m"));
  const Json json = show_json(data, 0, kTokenizer);
  EXPECT_EQ(json["template"], "chatml");
  EXPECT_EQ(json["special"].size(), 4u);
  EXPECT_EQ(json["segments"].size(), 2u);
  EXPECT_EQ(json["segments"][1]["text"], "done<|im_end|>");
}

TEST(ShowSample, HiddenCharacters) {
  Dataset data;
  add(data,
      "a\x01\r\xE2\x80\xAE"
      "b\xEF\xBB\xBF\xC2\x85\t\n[c$]");
  EXPECT_TRUE(says(show_text(data, 0, kTokenizer, false), "a\\x01\\x0d\\u{202e}b\\u{feff}\\x85\t\n«c<|im_end|>»"));
}

TEST(ShowSample, RunsOfSeveralAnswers) {
  Dataset data;
  add(data, "^q$^[a$]\n^r$^[b$]\n");
  EXPECT_TRUE(says(show_text(data, 0, kTokenizer, false), "sample 0 (train): 14 tokens, 4 trained in 2 runs\n"));
}

}  // namespace
}  // namespace tll
