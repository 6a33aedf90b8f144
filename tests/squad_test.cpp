// The reader of SQuAD JSON: its forms, its strictness, offsets by code points, and the real file.
#include "data/squad.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "src/base/file.h"
#include "tests/refusal.h"
#include "tests/test_data.h"

namespace tll {
namespace {

std::string article(const std::string& qas, const std::string& context = "\"Zo\\u00eb ate \\ud83c\\udf4e pie.\"") {
  return R"({"version": "1.1", "data": [{"title": "T", "paragraphs": [{"context": )" + context + R"(, "qas": [)" + qas + "]}]}]}";
}
const std::string kQuestion = R"({"id": "q1", "question": "What?", "answers": [{"text": "pie", "answer_start": 10}]})";

std::string error(const std::string& text) {
  SCOPED_TRACE(text);
  return refusal_of([&] { parse_squad_json(text, "f.json"); });
}

TEST(Squad, ReadsArticles) {
  const std::string unanswerable =
      R"({"id": "q2", "question": "Who?", "answers": [], "is_impossible": true, "plausible_answers": [{"text": "x", "answer_start": 0}]})";
  const SquadFile f = parse_squad_json("\xEF\xBB\xBF" + article(kQuestion + "," + unanswerable), "f");
  ASSERT_EQ(f.questions.size(), 2u);
  const SquadQuestion& s = f.questions[0];
  EXPECT_EQ(s.id, "q1");
  EXPECT_EQ(s.title, "T");
  EXPECT_EQ(s.context, "Zo\xC3\xAB ate \xF0\x9F\x8D\x8E pie.");
  EXPECT_EQ(s.question, "What?");
  EXPECT_EQ(s.answers, std::vector<std::string>{"pie"});
  EXPECT_EQ(s.where, "data[0].paragraphs[0].qas[0]");
  EXPECT_TRUE(s.answerable());
  EXPECT_FALSE(f.questions[1].answerable());
  EXPECT_EQ(f.unanswerable, 1);
  EXPECT_EQ(f.offset_mismatches, 0);  // 10 code points; 14 bytes
}

TEST(Squad, OffsetsCountCodePoints) {
  for (const char* start : {"14", "9", "13", "14000000"}) {
    std::string wrong = kQuestion;
    wrong.replace(wrong.find("10"), 2, start);
    const SquadFile f = parse_squad_json(article(wrong), "f");
    EXPECT_EQ(f.offset_mismatches, 1) << start;
    EXPECT_TRUE(says(f.first_mismatch, "q1"));
  }
}

TEST(Squad, ReadsFlattenedRows) {
  const std::string row =
      R"({"id": "a", "title": "T", "context": "one two", "question": "q", "answers": {"text": ["two"], "answer_start": [4]}})";
  EXPECT_EQ(parse_squad_json("[" + row + "," + row + "]", "f").questions.size(), 2u);
  const SquadFile f = parse_squad_lines(row + "\r\n\r\n" + row + "\n", "f");
  ASSERT_EQ(f.questions.size(), 2u);
  EXPECT_EQ(f.questions[1].answers[0], "two");
  EXPECT_EQ(f.questions[1].where, "line 3");
  EXPECT_EQ(f.offset_mismatches, 0);
  const std::string unequal = R"({"id": "a", "context": "c", "question": "q", "answers": {"text": ["x"], "answer_start": []}})";
  EXPECT_TRUE(says(message_of([&] { parse_squad_lines(row + "\n" + unequal, "f"); }), "line 2"));
}

TEST(Squad, ErrorsNameThePlace) {
  const std::pair<std::string, const char*> cases[] = {
      {"{}", "data"},
      {"{\"data\": 5}", "data: expected an array, found number (5)"},
      {"[1]", "[0]"},
      {"{\"data\": [{\"title\": \"T\"}]}", "data[0].paragraphs"},
      {"{\"data\": [{\"title\": 7, \"paragraphs\": []}]}", "data[0].title: expected a string"},
      {article(R"({"id": "q", "question": "w"})"), "data[0].paragraphs[0].qas[0].answers"},
      {article(R"({"id": 1, "question": "w", "answers": []})"), "qas[0].id"},
      {article(R"({"id": "q", "question": null, "answers": []})"), "qas[0].question"},
      {article(R"({"id": "q", "question": "w", "answers": {"text": []}})"), "qas[0].answers: expected an array"},
      {article(R"({"id": "q", "question": "w", "answers": [{"text": "x"}]})"), "answers[0].answer_start"},
      {article(R"({"id": "q", "question": "w", "answers": [{"text": "x", "answer_start": -1}]})"), "answers[0].answer_start"},
      {article(R"({"id": "q", "question": "w", "answers": [{"text": "x", "answer_start": 1.5}]})"), "answers[0].answer_start"},
      {article(kQuestion, "\"\\ud83c\""), ""},   // a lone surrogate
      {article(kQuestion, "\"\xC3\x28\""), ""},  // not UTF-8
      {article(kQuestion) + "x", ""},
      {article(kQuestion).substr(0, 60), ""},
      {"", ""},
  };
  for (const auto& [text, part] : cases) {
    const std::string message = error(text);
    EXPECT_TRUE(says(message, "f.json"));
    EXPECT_TRUE(says(message, part));
  }
}

TEST(Squad, RealFile) {
  const std::filesystem::path path = test_data("squad-v2.0-dev-5-articles.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (set TLL_TEST_DATA)";
  const SquadFile f = parse_squad_json(read_file(path), path.string());
  EXPECT_EQ(f.questions.size(), 1407u);
  EXPECT_EQ(f.unanswerable, 702);
  EXPECT_EQ(f.offset_mismatches, 0);
  size_t answers = 0;
  std::set<std::string> titles, contexts, ids;
  for (const SquadQuestion& s : f.questions) {
    answers += s.answers.size();
    titles.insert(s.title);
    contexts.insert(s.context);
    ids.insert(s.id);
  }
  EXPECT_EQ(answers, 2106u);
  EXPECT_EQ(titles.size(), 5u);
  EXPECT_EQ(contexts.size(), 173u);
  EXPECT_EQ(ids.size(), 1407u);
}

}  // namespace
}  // namespace tll
