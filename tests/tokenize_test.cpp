// The boundary between the tokens of a prompt and those of its answer, and documents of several spans.
#include "data/tokenize.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "data/data_source.h"
#include "data/template.h"
#include "src/base/file.h"
#include "tests/fake_tokenizer.h"
#include "tests/refusal.h"
#include "tests/test_data.h"

namespace tll {
namespace {

const std::string kText = "Context: Paris is in France.\nQuestion: Where is Paris?\nAnswer:";

Tokens tokenize_answer(const Tokenizer& tokenizer, const std::string& prompt, const std::string& answer) {
  return tokenize(&tokenizer, std::vector<Span>{{.text = prompt}, {.text = answer, .trained = true, .ends_text = true}});
}

void expect_boundary(const FakeTokenizer& tokenizer, const std::string& answer, const char* what) {
  SCOPED_TRACE(what);
  const Tokens s = tokenize_answer(tokenizer, kText, answer);
  // What a generator starts from is what was trained.
  const std::vector<int32_t> prompt = tokenize_prompt(tokenizer, kText);
  ASSERT_EQ(size_t(s.prompt_tokens), prompt.size());
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), s.ids.begin()));
  EXPECT_EQ(s.ids.back(), FakeTokenizer::kEos);
  EXPECT_EQ(tokenizer.decode(s.ids), kText + answer);
  EXPECT_EQ(tokenizer.decode(std::span(s.ids).first(size_t(s.prompt_tokens))), kText);
}

TEST(Tokenize, BoundaryIsWhereThePromptEnds) {
  expect_boundary(FakeTokenizer(), " France", "bytes");
  expect_boundary(FakeTokenizer({" France", "Answer:"}), " France", "byte-level: the space belongs to the word");
  expect_boundary(FakeTokenizer({" France", "Answer:"}, true, true), " France", "SentencePiece with BOS");
  EXPECT_EQ(tokenize_answer(FakeTokenizer({" France"}), kText, " France").ids.size(),
            kText.size() - 6 + 2);  // in the context, too
  EXPECT_EQ(tokenize_answer(FakeTokenizer({}, true), kText, " France").ids.front(), FakeTokenizer::kBos);
}

TEST(Tokenize, TokenizerThatMergesAcrossTheBoundary) {
  expect_boundary(FakeTokenizer({": "}), " France", "the answer is encoded apart");
  expect_boundary(FakeTokenizer({": F"}, false, true), " France", "a dummy prefix stands for the answer's space");
}

TEST(Tokenize, RefusesWhatItCannotEncodeExactly) {
  struct WithoutEnd : FakeTokenizer {
    WithoutEnd() { eos_.reset(); }
  };
  EXPECT_TRUE(says(refusal_of([] { tokenize_answer(WithoutEnd(), kText, " France"); }), "no end-of-text token"));
  // Joins the prompt's end with the answer, and encodes no text that begins as the answer does.
  struct Lossy : FakeTokenizer {
    Lossy() : FakeTokenizer({": F"}) {}
    std::vector<int32_t> encode(std::string_view text) const override {
      return FakeTokenizer::encode(text.starts_with(" F") || text.starts_with("F") ? "?" : text);
    }
  };
  EXPECT_TRUE(says(refusal_of([] { tokenize_answer(Lossy(), kText, " France"); }), "answer \" France\" alone"));
}

// The whole text's own encoding is what is trained, with the tokenizers of Llama 2 and 3 on real questions.
TEST(Tokenize, RealTokenizersDoNotMergeAcrossTheBoundary) {
  const std::filesystem::path questions = test_data("squad-v2.0-dev-5-articles.json");
  if (!std::filesystem::exists(questions)) GTEST_SKIP() << questions << " is missing (set TLL_TEST_DATA)";
  const auto source = DataSource::open(questions, {});
  std::vector<Sample> samples;
  SourceFindings findings;
  while (const auto block = source->next()) {
    for (Example& e : source->parse(*block, findings))
      samples.push_back(make_sample(std::move(e), {.name = TemplateName::kSquad, .unanswerable = Unanswerable::kTrain}));
  }
  for (const char* name : {"llama2-tokenizer.model", "llama3-tokenizer.model"}) {
    if (!std::filesystem::exists(test_data(name))) GTEST_SKIP() << test_data(name) << " is missing (set TLL_TEST_DATA)";
    const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(test_data(name));
    for (size_t i = 0; i < samples.size(); i += 7) {
      const Sample& sample = samples[i];
      std::string prompt;
      for (const Span& span : sample.spans) prompt += span.trained ? "" : span.text;
      const Tokens s = tokenize(tokenizer.get(), sample.spans);
      std::vector<int32_t> whole = tokenize_prompt(*tokenizer, prompt + sample.spans.back().text);
      whole.push_back(*tokenizer->eos());
      ASSERT_EQ(s.ids, whole) << sample.where;
      const std::vector<int32_t> head = tokenize_prompt(*tokenizer, prompt);
      ASSERT_EQ(std::vector<int32_t>(s.ids.begin(), s.ids.begin() + s.prompt_tokens), head) << sample.where;
    }
  }
}

// Two turns, with ids between the texts as a chat has them.
TEST(Tokenize, SpansOfTextAndIds) {
  const FakeTokenizer tokenizer({"ab", "cd"}, true);
  const int32_t a = FakeTokenizer::kFirstByte + 'a', b = a + 1, ab = FakeTokenizer::kFirstJoined, cd = ab + 1;
  const std::vector<Span> spans = {{.text = "a"},
                                   {.text = "b"},
                                   {.text = "cd", .trained = true, .ends_text = true},
                                   {.ids = {b, b, a}, .labels = {-100, b, -100}},
                                   {.text = "a"},
                                   {.text = " ", .trained = true, .ends_text = true},
                                   {.text = "a", .trained = true}};
  const Tokens t = tokenize(&tokenizer, spans);
  const int32_t space = FakeTokenizer::kFirstByte + ' ', bos = FakeTokenizer::kBos, eos = FakeTokenizer::kEos;
  EXPECT_EQ(t.ids, (std::vector<int32_t>{bos, ab, cd, eos, b, b, a, a, space, eos, a}));
  EXPECT_EQ(t.labels, (std::vector<int32_t>{-100, -100, cd, eos, -100, b, -100, -100, -100, -100, a}));
  EXPECT_EQ(t.prompt_tokens, 10) << "before the last answer";

  EXPECT_EQ(tokenize(&tokenizer, spans, TrainOn::kLastAnswer).ids, t.ids);
  EXPECT_EQ(tokenize(&tokenizer, spans, TrainOn::kLastAnswer).labels,
            (std::vector<int32_t>{-100, -100, -100, -100, -100, b, -100, -100, -100, -100, a}));
  EXPECT_EQ(tokenize(&tokenizer, spans, TrainOn::kAll).ids, t.ids);
  EXPECT_EQ(tokenize(&tokenizer, spans, TrainOn::kAll).labels,
            (std::vector<int32_t>{-100, ab, cd, eos, -100, b, -100, a, space, eos, a}));
}

TEST(Tokenize, IdsAreTakenAsTheyAre) {
  const std::vector<Span> row = {{.ids = {5, 6}, .labels = {-100, 7}}};
  const FakeTokenizer tokenizer({}, true);
  for (const Tokenizer* t : {static_cast<const Tokenizer*>(nullptr), static_cast<const Tokenizer*>(&tokenizer)}) {
    EXPECT_EQ(tokenize(t, row).ids, row[0].ids);
    EXPECT_EQ(tokenize(t, row).labels, row[0].labels);
    EXPECT_EQ(tokenize(t, row).prompt_tokens, 0);
  }
}

}  // namespace
}  // namespace tll
