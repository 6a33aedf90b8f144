// The reader of SQuAD JSON: its forms, its strictness, offsets by code points, and the real file.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "src/base/file.h"
#include "tests/refusal.h"
#include "tests/squad_file.h"
#include "tests/test_data.h"

namespace tll {
namespace {

std::string article(const std::string& qas, const std::string& context = "\"Zo\\u00eb ate \\ud83c\\udf4e pie.\"") {
  return R"({"version": "1.1", "data": [{"title": "T", "paragraphs": [{"context": )" + context + R"(, "qas": [)" + qas + "]}]}]}";
}
const std::string kQuestion = R"({"id": "q1", "question": "What?", "answers": [{"text": "pie", "answer_start": 10}]})";

std::string error(const std::string& text) {
  SCOPED_TRACE(text);
  return refusal_of([&] { parse_squad(text, "f.json"); });
}

TEST(Squad, ReadsArticles) {
  const std::string unanswerable =
      R"({"id": "q2", "question": "Who?", "answers": [], "is_impossible": true, "plausible_answers": [{"text": "x", "answer_start": 0}]})";
  const SquadFile f = parse_squad("\xEF\xBB\xBF" + article(kQuestion + "," + unanswerable), "f");
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
    const SquadFile f = parse_squad(article(wrong), "f");
    EXPECT_EQ(f.offset_mismatches, 1) << start;
    ASSERT_EQ(f.notes.size(), 1u);
    EXPECT_TRUE(says(f.notes[0], "answers not at the answer_start that the file gives: 1 (the first is of data[0]"));
    EXPECT_TRUE(says(f.notes[0], "q1"));
  }
}

TEST(Squad, ReadsFlattenedRows) {
  const std::string row =
      R"({"id": "a", "title": "T", "context": "one two", "question": "q", "answers": {"text": ["two"], "answer_start": [4]}})";
  EXPECT_EQ(parse_squad("[" + row + "," + row + "]", "f").questions.size(), 2u);
  const SquadFile f = parse_squad(row + "\r\n\r\n" + row + "\n", "f");
  ASSERT_EQ(f.questions.size(), 2u);
  EXPECT_EQ(f.questions[1].answers[0], "two");
  EXPECT_EQ(f.questions[1].where, "line 3");
  EXPECT_EQ(f.offset_mismatches, 0);
  const std::string unequal =
      R"({"id": "a", "context": "c", "question": "q", "answers": {"text": ["x", "y"], "answer_start": [0]}})";
  EXPECT_TRUE(says(message_of([&] { parse_squad(row + "\n" + unequal, "f"); }), "line 2"));
}

// As `datasets` and annotation tools write them.
TEST(Squad, FormsOfOtherTools) {
  const auto only = [](const std::string& text) {
    const SquadFile f = parse_squad(text, "f.json");
    EXPECT_EQ(f.questions.size(), 1u) << text;
    EXPECT_EQ(f.notes, std::vector<std::string>()) << text;
    return f.questions.at(0);
  };
  const std::string flat = R"({"context": "one two", "question": "q", "answers": {"text": ["two"], "answer_start": [4]}})";
  for (const std::string& text : std::vector<std::string>{
           flat, flat + "\n", "[" + flat + "]", R"({"version": "x", "data": [)" + flat + "]}",
           R"({"context": "one two", "qas": [{"question": "q", "answers": [{"text": "two", "answer_start": 4}]}]})",
           R"({"title": null, "paragraphs": [{"context": "one two", "qas": [{"question": "q", "answers": [{"text": "two"}]}]}]})",
           R"({"context": "one two", "question": "q", "answers": [{"text": "two", "answer_start": null}]})",
           R"({"context": "one two", "question": "q", "answers": {"text": ["two"]}})",
           R"({"context": "one two", "question": "q", "answers": {"text": ["two"], "answer_start": null}})",
           R"({"context": "one two", "question": "q", "answers": {"text": "two", "answer_start": 4}})",
           R"({"context": "one two", "question": "q", "answers": ["two"]})"}) {
    const SquadQuestion q = only(text);
    EXPECT_EQ(q.context + "|" + q.question + "|" + q.title, "one two|q|") << text;
    EXPECT_EQ(q.answers, std::vector<std::string>{"two"}) << text;
  }
  const auto with = [&](const std::string& more) { return only("{" + more + ", " + flat.substr(1)); };
  EXPECT_EQ(with(R"("id": 17, "title": 1984)").id, "17");
  EXPECT_EQ(with(R"("id": 17, "title": 1984)").title, "1984");
  EXPECT_EQ(with(R"("id": -9223372036854775808, "title": null)").id, "-9223372036854775808");
  EXPECT_EQ(with(R"("id": 18446744073709551615)").id, "18446744073709551615");
  EXPECT_EQ(with(R"("id": null)").id, "line 1") << "the place stands for an id";
  EXPECT_EQ(only(R"({"context": "in 1871", "question": "q", "answers": [{"text": 1871, "answer_start": 3}]})").answers[0],
            "1871");
}

TEST(Squad, IsImpossibleMakesBlankAnswersNone) {
  const auto read = [](const std::string& answers, const std::string& impossible) {
    return parse_squad(
        R"([{"id": "i", "context": "c", "question": "q", "answers": )" + answers + R"(, "is_impossible": )" + impossible + "}]",
        "f");
  };
  EXPECT_EQ(read(R"([{"text": " ", "answer_start": -1}])", "true").unanswerable, 1);
  EXPECT_EQ(read(R"([{"text": " ", "answer_start": -1}])", "true").offset_mismatches, 0);
  EXPECT_EQ(read("[]", "true").unanswerable, 1);
  EXPECT_EQ(read("[]", "false").unanswerable, 1);
  EXPECT_EQ(read(R"(["x"])", "null").unanswerable, 0);
  const SquadFile both = read(R"(["x"])", "true");
  EXPECT_EQ(both.unanswerable, 0);
  ASSERT_EQ(both.notes.size(), 1u);
  EXPECT_TRUE(says(both.notes[0], "[0], id \"i\""));
  EXPECT_EQ(read(R"([{"text": "c", "answer_start": -1}])", "false").offset_mismatches, 1);
}

TEST(Squad, UnknownKeysAreNotedOrRefused) {
  const std::string text = R"({"version": "1", "tool": "T", "data": [{"title": "T", "author": "me", "paragraphs": [
    {"context": "c", "document_id": 3, "qas": [
      {"id": "1", "question": "q", "answers": [{"text": "c", "answer_start": 0, "answer_id": 7}], "is_impossible": false},
      {"id": "2", "question": "q", "answers": [], "is_impossible": true, "plausible_answers": [{"text": "c", "answer_start": 0}],
       "author": null}]}]}]})";
  const std::vector<std::string> notes = parse_squad(text, "f").notes;
  std::vector<std::string> expected;
  for (const char* key : {"tool", "answer_id", "author", "document_id"})
    expected.push_back(fmt::format("f: key \"{}\" is not known and is ignored", key));
  EXPECT_EQ(notes, expected);
  const std::pair<std::string, const char*> misspelt[] = {
      {R"({"data": [{"context": "c", "question": "q", "answers": []}], "Data": [1]})", ""},
      {R"({"data": [{"titel": "T", "paragraphs": []}]})", "data[0]: key \"titel\""},
      {R"({"data": [{"paragraphs": [{"contexts": "c", "qas": []}]}]})", "paragraphs[0]: key \"contexts\""},
      {R"({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "1", "question": "q", "answer": [{"text": "c"}]}]}]}]})",
       "qas[0]: key \"answer\" is not known; if \"answers\" is meant"},
      {R"([{"context": "c", "question": "q", "answers": ["c"], "isImpossible": true}])", "[0]: key \"isImpossible\""},
      {R"([{"context": "c", "question": "q", "answers": [{"text": "c", "answer_starts": 1}]}])", "key \"answer_starts\""},
      {R"([{"context": "c", "question": "q", "answers": {"texts": ["c"]}}])", "key \"texts\""},
  };
  for (const auto& [wrong, part] : misspelt) {
    SCOPED_TRACE(wrong);
    if (*part)
      EXPECT_TRUE(says(refusal_of([&, &wrong = wrong] { parse_squad(wrong, "f"); }), part));
    else
      EXPECT_EQ(parse_squad(wrong, "f").notes.size(), 1u) << "the known key is there as well";
  }
}

TEST(Squad, ErrorsNameThePlace) {
  const std::pair<std::string, const char*> cases[] = {
      {"{\"data\": 5}", "the first row has the keys \"data\""},
      {"[1]", "[0]: expected an object, found 1"},
      {"{\"data\": [{\"title\": \"T\"}]}", "data[0]: the first row has the keys \"title\""},
      {"{\"data\": [{\"title\": true, \"paragraphs\": []}]}", "data[0].title: expected a string or a whole number, found true"},
      {"{\"data\": [{\"paragraphs\": 5}]}", "data[0].paragraphs: expected a list"},
      {"{\"data\": [{\"paragraphs\": [5]}]}", "data[0].paragraphs[0]: expected an object"},
      {"{\"data\": [{\"paragraphs\": [{\"qas\": []}]}]}", "paragraphs[0].context"},
      {"{\"data\": [{\"paragraphs\": [{\"context\": [], \"qas\": []}]}]}", "context: expected a string, found []"},
      {article("\"q\""), "qas[0]: expected an object, found \"q\""},
      {article(R"({"id": "q", "question": "w"})"), "data[0].paragraphs[0].qas[0].answers"},
      {article(R"({"id": 1.5, "question": "w", "answers": []})"), "qas[0].id: expected a string or a whole number, found 1.5"},
      {article(R"({"id": "q", "question": null, "answers": []})"), "qas[0].question"},
      {article(R"({"id": "q", "question": "w", "answers": null})"), "qas[0].answers: expected a list, found null"},
      {article(R"({"id": "q", "question": "w", "answers": [7]})"), "answers[0]: expected an object, found 7"},
      {article(R"({"id": "q", "question": "w", "answers": [{"answer_start": 1}]})"), "answers[0].text"},
      {article(R"({"id": "q", "question": "w", "answers": {"answer_start": [1]}})"), "answers.text"},
      {article(R"({"id": "q", "question": "w", "answers": {"text": ["x"], "answer_start": 5}})"),
       "answer_start: expected a list"},
      {article(R"({"id": "q", "question": "w", "answers": [{"text": "x", "answer_start": 1.5}]})"), "answers[0].answer_start"},
      {article(R"({"id": "q", "question": "w", "answers": [{"text": "x", "answer_start": 1e300}]})"), "a whole number"},
      {article(R"({"id": "q", "question": "w", "answers": [{"text": "x", "answer_start": 18446744073709551615}]})"), "a whole"},
      {article(R"({"id": "q", "question": "w", "answers": [], "is_impossible": "no"})"), "is_impossible: expected true or false"},
      {article(kQuestion, "\"\\ud83c\""), "surrogate"},
      {article(kQuestion, "\"\xC3\x28\""), "UTF-8"},
      {article(kQuestion) + "x", ""},
      {article(kQuestion).substr(0, 60), ""},
      {"7", "plain text (\"7\"), named as JSON"},
      {"\"" + std::string(10000, 'x') + "\"", "plain text (\"\\\"xxx"},
  };
  for (const auto& [text, part] : cases) {
    const std::string message = error(text);
    EXPECT_TRUE(says(message, "f.json"));
    EXPECT_TRUE(says(message, part));
    EXPECT_LT(message.size(), 450u);
  }
}

TEST(Squad, RealFile) {
  const std::filesystem::path path = test_data("squad-v2.0-dev-5-articles.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (set TLL_TEST_DATA)";
  const SquadFile f = read_squad_file(path);
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
