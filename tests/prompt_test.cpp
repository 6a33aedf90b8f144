// The prompt's text, and the boundary between its tokens and those of the answer.
#include "data/prompt.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "src/base/check.h"
#include "src/base/file.h"
#include "tests/fake_tokenizer.h"

namespace tll {
namespace {

const SquadSample kSample{"id", "title", "Paris is in France.", "Where is Paris?", {"France"}, {12}, ""};
const std::string kText = "Context: Paris is in France.\nQuestion: Where is Paris?\nAnswer:";

TEST(Prompt, SquadTemplate) {
  const PromptTemplate& form = find_prompt_template("squad");
  EXPECT_EQ(form.prompt(kSample, kSample.context), kText);
  EXPECT_EQ(form.answer("France"), " France");
  try {
    find_prompt_template("sqad");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code, kExitUsage);
    EXPECT_NE(std::string(e.what()).find("squad"), std::string::npos);
  }
}

void expect_boundary(const FakeTokenizer& tokenizer, const std::string& answer, const char* what) {
  SCOPED_TRACE(what);
  const TokenizedSample s = tokenize_sample(tokenizer, kText, answer);
  // What a generator starts from is what was trained.
  const std::vector<int32_t> prompt = tokenize_prompt(tokenizer, kText);
  ASSERT_EQ(size_t(s.prompt_tokens), prompt.size());
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), s.tokens.begin()));
  EXPECT_EQ(s.tokens.back(), FakeTokenizer::kEos);
  EXPECT_EQ(tokenizer.decode(s.tokens), kText + answer);
  EXPECT_EQ(tokenizer.decode(std::span(s.tokens).first(size_t(s.prompt_tokens))), kText);
}

TEST(Prompt, BoundaryIsWhereThePromptEnds) {
  expect_boundary(FakeTokenizer(), " France", "bytes");
  expect_boundary(FakeTokenizer({" France", "Answer:"}), " France", "byte-level: the space belongs to the word");
  expect_boundary(FakeTokenizer({" France", "Answer:"}, true, true), " France", "SentencePiece with BOS");
  EXPECT_EQ(tokenize_sample(FakeTokenizer({" France"}), kText, " France").tokens.size(),
            kText.size() - 6 + 2);  // in the context, too
  EXPECT_EQ(tokenize_sample(FakeTokenizer({}, true), kText, " France").tokens.front(), FakeTokenizer::kBos);
}

TEST(Prompt, TokenizerThatMergesAcrossTheBoundary) {
  expect_boundary(FakeTokenizer({": "}), " France", "the answer is encoded apart");
  expect_boundary(FakeTokenizer({": F"}, false, true), " France", "a dummy prefix stands for the answer's space");
}

// The whole text's own encoding is what is trained, with the tokenizers of Llama 2 and 3 on real questions.
TEST(Prompt, RealTokenizersDoNotMergeAcrossTheBoundary) {
  const char* from = std::getenv("TLL_TEST_DATA");
  const std::filesystem::path directory = from ? from : "../shared/data";
  const std::filesystem::path questions = directory / "squad-v2.0-dev-5-articles.json";
  if (!std::filesystem::exists(questions)) GTEST_SKIP() << questions << " is missing (set TLL_TEST_DATA)";
  const SquadFile squad = parse_squad_json(read_file(questions), questions.string());
  const PromptTemplate& form = find_prompt_template("squad");
  for (const char* name : {"llama2-tokenizer.model", "llama3-tokenizer.model"}) {
    if (!std::filesystem::exists(directory / name)) GTEST_SKIP() << directory / name << " is missing (set TLL_TEST_DATA)";
    const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(directory / name);
    for (size_t i = 0; i < squad.samples.size(); i += 7) {
      const SquadSample& sample = squad.samples[i];
      const std::string prompt = form.prompt(sample, sample.context);
      const std::string answer = form.answer(sample.answerable() ? sample.answers[0] : std::string(kNoAnswer));
      const TokenizedSample s = tokenize_sample(*tokenizer, prompt, answer);
      std::vector<int32_t> whole = tokenize_prompt(*tokenizer, prompt + answer);
      whole.push_back(*tokenizer->eos());
      ASSERT_EQ(s.tokens, whole) << sample.where;
      const std::vector<int32_t> head = tokenize_prompt(*tokenizer, prompt);
      ASSERT_EQ(std::vector<int32_t>(s.tokens.begin(), s.tokens.begin() + s.prompt_tokens), head) << sample.where;
    }
  }
}

TEST(Prompt, AnswerFromGeneration) {
  EXPECT_EQ(answer_from_generation(" France", false), "France");
  EXPECT_EQ(answer_from_generation("\n\n France \nQuestion: x", false), "France");
  EXPECT_EQ(answer_from_generation("  \n ", false), "");
  EXPECT_EQ(answer_from_generation(" no answer", true), "");
  EXPECT_EQ(answer_from_generation(" no answer", false), "no answer");
  EXPECT_EQ(answer_from_generation(" no answers", true), "no answers");
}

}  // namespace
}  // namespace tll
