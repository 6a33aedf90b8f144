// Evaluation with a model whose answers are known: attention and feed-forward are zero, so each byte is followed by one byte.
#include "src/train/evaluate.h"

#include <gtest/gtest.h>

#include <map>

#include "data/squad.h"
#include "tests/fake_tokenizer.h"
#include "tests/phases.h"
#include "tests/refusal.h"
#include "tests/tiny_model.h"

namespace tll {
namespace {

constexpr int32_t kNew = 12;

// Embedding row t is the unit vector t, and the head's row of the successor of t points there.
template <class Float>
struct Parrot : TinyGenerator<Float> {
  static LlamaConfig config() {
    LlamaConfig c = tiny_config();
    c.vocab_size = FakeTokenizer::kFirstJoined, c.hidden = 260, c.layers = 1;
    return c;
  }
  // A chain "Abc" makes the model continue A with b, b with c, and c with the end.
  Parrot(const std::vector<std::string>& chains, int sequences)
      : TinyGenerator<Float>(config(), tiny_generator_options(32), sequences, 30) {
    std::map<int64_t, int64_t> next;
    const auto id = [](char byte) { return FakeTokenizer::kFirstByte + static_cast<uint8_t>(byte); };
    for (const std::string& chain : chains) {
      for (size_t i = 1; i < chain.size(); i++) next[id(chain[i - 1])] = id(chain[i]);
      next[id(chain.back())] = FakeTokenizer::kEos;
    }
    this->fill([&](const std::string& name, int64_t row, int64_t column) {
      if (name.find("norm") != std::string::npos) return 1.0;
      if (name == "model.embed_tokens.weight") return row == column ? 1.0 : 0.0;
      if (name != "lm_head.weight") return 0.0;
      return next.contains(column) && next[column] == row ? 1.0 : 0.0;
    });
  }
};

// A question whose prompt ends with `last`, behind some bytes of no matter.
void add_question(Dataset& dataset, int filling, char last, std::vector<std::string> answers, Split split = Split::kValidation) {
  const std::string text = std::string(static_cast<size_t>(filling), '.') + last;
  std::vector<int32_t> tokens = FakeTokenizer().encode(text);
  const auto prompt_tokens = static_cast<int32_t>(tokens.size());
  tokens.push_back(FakeTokenizer::kEos);  // the answer, which must not be shown
  dataset.add(tokens, std::vector<int32_t>(tokens.size(), kNotTrained),
              {.prompt_tokens = prompt_tokens, .split = split, .question = 1},
              {.id = "q" + std::to_string(dataset.documents.size()), .answers = std::move(answers)});
}

// A conversation whose last answer, in front of its end mark, is the reference.
void add_conversation(Dataset& dataset, const std::string& before, const std::string& answer) {
  std::vector<int32_t> tokens = FakeTokenizer().encode(before);
  const auto prompt_tokens = static_cast<int32_t>(tokens.size());
  std::vector<int32_t> labels(tokens.size(), kNotTrained);
  for (const int32_t id : FakeTokenizer().encode(answer)) tokens.push_back(id), labels.push_back(id);
  tokens.push_back(FakeTokenizer::kEos), labels.push_back(FakeTokenizer::kEos);
  dataset.format = DataFormat::kMessages;
  dataset.add(tokens, labels, {.prompt_tokens = prompt_tokens, .question = 1, .answer_trained = 1});
}

std::vector<int64_t> documents_of(const std::vector<Question>& questions) {
  std::vector<int64_t> documents;
  for (const Question& q : questions) documents.push_back(q.document);
  return documents;
}

EvaluationOptions options() { return {.max_new_tokens = kNew, .eos = {FakeTokenizer::kEos}}; }

std::vector<Question> all_of(const Dataset& dataset) { return questions_of(dataset, {}, FakeTokenizer()); }

template <class Float>
EvaluationResult answers(Parrot<Float>& parrot, const Dataset& dataset, const std::vector<Question>& questions,
                         const Tokenizer& tokenizer = FakeTokenizer()) {
  EvaluationResult result;
  evaluate_questions(parrot.device, parrot.generator, dataset, questions, tokenizer, options(), result);
  return result;
}

template <class Float>
class EvaluateTest : public testing::Test {};
using Floats = testing::Types<float, bf16, double>;
TYPED_TEST_SUITE(EvaluateTest, Floats);

TYPED_TEST(EvaluateTest, ScoresInTheOrderOfTheQuestions) {
  // A line end in front of the answer is skipped. The answer of two lines is whole, as the model ends behind it.
  const std::vector<std::string> chains = {"A cat", "B\tred\nok", "C1+", "D\nok"};
  Dataset dataset;
  add_question(dataset, 3, 'C', {"1"});                 // "1": punctuation does not count
  add_question(dataset, 20, 'A', {"dog", "The Cat!"});  // the better of two
  add_question(dataset, 0, 'B', {"red\nok"});           // two lines
  add_question(dataset, 11, 'A', {"cat fish"});         // F1 2/3
  add_question(dataset, 1, 'A', {}, Split::kTrain);     // not of this split
  add_question(dataset, 7, 'D', {"blue"});              // wrong
  dataset.add(std::vector<int32_t>{1, 1}, std::vector<int32_t>{1, 1}, {.split = Split::kValidation});

  const std::vector<Question> questions = questions_of(dataset, Split::kValidation, FakeTokenizer());
  ASSERT_EQ(documents_of(questions), (std::vector<int64_t>{0, 1, 2, 3, 5}));
  for (const int sequences : {1, 2, 8}) {
    Parrot<TypeParam> parrot(chains, sequences);
    const PhaseRecord phases;
    const EvaluationResult r = answers(parrot, dataset, questions);
    ASSERT_EQ(r.questions.size(), 5u);
    const std::vector<std::string> predictions = {"1+", "cat", "red\nok", "cat", "ok"};
    const std::vector<double> exact = {1, 1, 1, 0, 0}, f1 = {1, 1, 1, 2.0 / 3, 0};
    for (size_t i = 0; i < 5; i++) {
      EXPECT_EQ(r.questions[i].document, questions[i].document);
      EXPECT_EQ(r.questions[i].id, "q" + std::to_string(questions[i].document));
      EXPECT_EQ(r.questions[i].prediction, predictions[i]);
      EXPECT_EQ(r.questions[i].gold, questions[i].gold);
      EXPECT_EQ(r.questions[i].score.exact_match, exact[i]);
      EXPECT_DOUBLE_EQ(r.questions[i].score.f1, f1[i]);
    }
    EXPECT_EQ(r.totals.questions, 5);
    EXPECT_DOUBLE_EQ(r.totals.exact_match(), 60);
    EXPECT_DOUBLE_EQ(r.totals.f1(), 100 * (3 + 2.0 / 3) / 5);
    std::vector<int64_t> told;
    for (const PhaseRecord::Shown& p : phases.shown) {
      EXPECT_EQ(p.activity, "answering questions");
      EXPECT_EQ(p.total, 5);
      if (told.empty() || told.back() != p.done) told.push_back(p.done);
    }
    EXPECT_EQ(told, (std::vector<int64_t>{0, 1, 2, 3, 4, 5}));
    EXPECT_GT(phases.shown.size(), 6u) << "after every token, so that a signal is seen then";
    EXPECT_EQ(phases.ended, 1);
    EXPECT_EQ(r.prompt_tokens, 4 + 21 + 1 + 12 + 8);
    EXPECT_EQ(r.new_tokens, 2 + 4 + 7 + 4 + 3);
  }
}

// Where max_new_tokens or the cache ends a generation, the model did not.
TEST(Evaluate, OfAModelThatDoesNotEndTheFirstLineIsTheAnswer) {
  const std::vector<std::string> chains = {"A cat", "F23456789!#\nok", "G6789!#\nok"};  // behind F are 13 tokens, more than kNew
  Dataset dataset;
  add_question(dataset, 2, 'F', {"23456789"});
  add_question(dataset, 2, 'G', {"6789 ok"});
  add_question(dataset, 27, 'A', {"ca"});  // the cache has room for " ca", and for no end
  add_question(dataset, 26, 'A', {"cat"});
  for (const int sequences : {1, 4}) {
    Parrot<float> parrot(chains, sequences);
    const EvaluationResult r = answers(parrot, dataset, all_of(dataset));
    const std::vector<std::string> predictions = {"23456789!#", "6789!#\nok", "ca", "cat"};
    for (size_t i = 0; i < predictions.size(); i++) EXPECT_EQ(r.questions[i].prediction, predictions[i]);
    EXPECT_DOUBLE_EQ(r.totals.exact_match(), 100);
  }
}

TEST(Evaluate, UnanswerableQuestionsAreScoredByTheirRules) {
  Dataset dataset;
  add_question(dataset, 2, 'A', {});
  add_question(dataset, 2, 'A', {"cat"});
  dataset.rules = SquadRules::kV2;
  // Nothing but the end is right where there is no answer.
  Parrot<float> silent({"A"}, 2), cat({"A cat"}, 2);
  const auto totals = [&](Parrot<float>& parrot) {
    const EvaluationResult r = answers(parrot, dataset, all_of(dataset));
    return std::pair(r.questions[0].score.exact_match, r.questions[1].score.exact_match);
  };
  EXPECT_EQ(totals(silent), std::pair(1.0, 0.0));
  EXPECT_EQ(totals(cat), std::pair(0.0, 1.0));
}

// Trained to say so, the model answers kNoAnswer, which stands for the empty answer.
TEST(Evaluate, NoAnswerStandsForTheEmptyAnswer) {
  class Says : public FakeTokenizer {
    std::string decode(std::span<const int32_t> ids, bool) const override { return ids.empty() ? "" : std::string(kNoAnswer); }
  };
  Dataset dataset;
  add_question(dataset, 2, 'A', {});
  dataset.rules = SquadRules::kV2;
  Parrot<float> parrot({"Ab"}, 1);
  for (const bool trained : {false, true}) {
    dataset.unanswerable_trained = trained;
    const EvaluationResult r = answers(parrot, dataset, all_of(dataset), Says());
    EXPECT_EQ(r.questions[0].prediction, trained ? "" : kNoAnswer);
    EXPECT_EQ(r.questions[0].score.exact_match, trained ? 1 : 0);
  }
}

TEST(Evaluate, QuestionsOfASplit) {
  Dataset dataset;
  for (int i = 0; i < 6; i++) add_question(dataset, i, 'A', {"x"}, i % 2 ? Split::kTrain : Split::kValidation);
  const auto chosen = [&](std::optional<Split> split, int64_t most) {
    return documents_of(questions_of(dataset, split, FakeTokenizer(), most));
  };
  EXPECT_EQ(chosen({}, 0), (std::vector<int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(chosen(Split::kTrain, 0), (std::vector<int64_t>{1, 3, 5}));
  EXPECT_EQ(chosen(Split::kValidation, 2), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(chosen(Split::kValidation, 9), (std::vector<int64_t>{0, 2, 4}));
}

TEST(Evaluate, NoQuestionsAndLongPrompts) {
  Dataset dataset;
  Parrot<float> parrot({"Ab"}, 2);
  const EvaluationResult none = answers(parrot, dataset, {});
  EXPECT_EQ(none.totals.questions, 0);
  EXPECT_EQ(none.totals.f1(), 0);
  add_question(dataset, 30, 'A', {"b"});
  EXPECT_TRUE(says(refusal_of([&] { answers(parrot, dataset, all_of(dataset)); }, kExitUsage), "31 tokens"));
}

// Where the trained answer is the gold one, it is not stored beside it.
TEST(Evaluate, ATrainedAnswerIsTheReference) {
  Dataset dataset;
  add_conversation(dataset, ".A cat .B", "\tred\nok");
  add_conversation(dataset, ".C", "1 2");
  dataset.add(std::vector<int32_t>{5, 6, 7}, std::vector<int32_t>{kNotTrained, 6, 7}, {.prompt_tokens = 1});  // has none
  dataset.add(std::vector<int32_t>{5, 6, 7}, std::vector<int32_t>{5, 6, 7}, {.question = 1});                 // nor a prompt
  const std::vector<Question> questions = all_of(dataset);
  ASSERT_EQ(documents_of(questions), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(questions[1].gold, std::vector<std::string>{"1 2"}) << "without the end mark";
  EXPECT_EQ(questions[0].answer_tokens, 8) << "with the end mark";
  EXPECT_FALSE(questions[0].phrase);
  Parrot<float> parrot({"A cat", "B\tred\nok", "C1+"}, 2);
  const EvaluationResult r = answers(parrot, dataset, questions);
  EXPECT_EQ(r.questions[0].prediction, "red\nok");
  EXPECT_EQ(r.questions[0].score.exact_match, 1);
  EXPECT_EQ(r.questions[1].score.exact_match, 0);
  EXPECT_DOUBLE_EQ(r.questions[1].score.f1, 2.0 / 3);
}

// Also where the model does not end: a reference of several lines is not compared with the first line alone.
TEST(Evaluate, AnAnswerOfSeveralLinesIsNotCut) {
  Dataset dataset;
  add_question(dataset, 2, 'F', {"23456789!#\nok"});
  add_question(dataset, 2, 'F', {"23456789!#"});
  Parrot<float> parrot({"F23456789!#\nok"}, 2);  // 13 tokens, more than kNew
  const EvaluationResult r = answers(parrot, dataset, all_of(dataset));
  EXPECT_EQ(r.questions[0].prediction, "23456789!#\no");
  EXPECT_EQ(r.questions[1].prediction, "23456789!#");
}

TEST(Evaluate, LongAnswersGetMoreTokens) {
  Dataset dataset;
  add_question(dataset, 2, 'A', {"a gold answer that is much longer than what is trained"});
  EXPECT_EQ(tokens_for_answers(all_of(dataset), 4, 100), 4) << "answers of SQuAD are phrases";
  add_conversation(dataset, "..A", "0123456789");
  EXPECT_EQ(tokens_for_answers(all_of(dataset), 4, 100), 11);
  EXPECT_EQ(tokens_for_answers(all_of(dataset), 4, 7), 7);
}

// What was answered until a signal came is there.
TEST(Evaluate, AStopLeavesWhatIsAnswered) {
  struct Stops : PhaseView {
    explicit Stops() : before(set_phase_view(this)) {}
    ~Stops() override { set_phase_view(before); }
    void show(const char* activity, int64_t done, int64_t) override {
      if (done == 2) throw Stopped(activity);
    }
    void end() override {}
    PhaseView* before;
  };
  Dataset dataset;
  for (int i = 0; i < 5; i++) add_question(dataset, i, 'A', {"cat"});
  Parrot<float> parrot({"A cat"}, 1);
  EvaluationResult result;
  const Stops stops;
  EXPECT_THROW(evaluate_questions(parrot.device, parrot.generator, dataset, all_of(dataset), FakeTokenizer(), options(), result),
               Stopped);
  EXPECT_EQ(result.totals.questions, 2);
  ASSERT_EQ(result.questions.size(), 2u);
  EXPECT_EQ(result.questions[0].document, 3) << "long prompts are answered first";
  EXPECT_EQ(result.totals.exact_match(), 100);
}

}  // namespace
}  // namespace tll
