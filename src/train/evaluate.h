// Exact match and F1 of everything that has a reference answer: the prompt of each document is continued greedily, the answer is
// cut out of the text, and scored with SQuAD's rules (data/metric.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "src/model/generator.h"

namespace tll {

// A document as a question: what the model is given, and what it should say.
struct Question {
  int64_t document = 0;                // index in Dataset::documents
  int32_t prompt_tokens = 0;           // the first tokens of the document
  int32_t answer_tokens = 0;           // behind them: of the answer, with its end mark
  bool phrase = false;                 // the answer is a few words, as SQuAD's are
  std::vector<std::string> gold = {};  // empty: unanswerable
};

// Nothing if the document has no prompt or no reference answer.
std::optional<Question> question_of(const Dataset& dataset, int64_t document, const Tokenizer& tokenizer);

// Those of one split, or of all, in file order; the first `most` of them (0: all).
std::vector<Question> questions_of(const Dataset& dataset, std::optional<Split> split, const Tokenizer& tokenizer,
                                   int64_t most = 0);

// Tokens that suffice for an answer: `phrase` for phrases, else those of the longest reference, but at most `most`.
int tokens_for_answers(const std::vector<Question>& questions, int phrase, int most);

struct QuestionResult {
  int64_t document = 0;  // index in Dataset::documents
  int32_t prompt_tokens = 0;
  std::string id;
  std::string prediction;
  std::vector<std::string> gold;  // empty: unanswerable
  SquadScore score;
};

struct EvaluationResult {
  SquadTotals totals;
  std::vector<QuestionResult> questions;  // in the order in which they were asked for, those that are answered
  int64_t prompt_tokens = 0, new_tokens = 0;
};

struct EvaluationOptions {
  int max_new_tokens = 64;
  std::vector<int32_t> eos = {};  // ids that end an answer
};

// The answer is all that the model writes before it ends by itself. If it does not end within max_new_tokens, it has gone on to
// something else, and the answer is the first line that is not blank, unless gold answers have several lines. A phase
// (src/base/phase.h): a signal to stop ends it within one token, and `result` has the questions that were answered until then.
// Error (kExitUsage) if a prompt is longer than the generator's longest_prompt().
template <class Float>
void evaluate_questions(const Device& device, Generator<Float>& generator, const Dataset& dataset,
                        const std::vector<Question>& questions, const Tokenizer& tokenizer, const EvaluationOptions& options,
                        EvaluationResult& result);

}  // namespace tll
