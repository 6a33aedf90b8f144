// Exact match and F1 on questions: the prompt of each is continued greedily, the answer is cut out of the text, and scored
// with SQuAD's rules (data/metric.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "src/model/generator.h"

namespace tll {

struct QuestionResult {
  int64_t document = 0;  // index in Dataset::documents
  std::string id;
  std::string prediction;
  std::vector<std::string> gold;  // empty: unanswerable
  SquadScore score;
};

struct EvaluationResult {
  SquadTotals totals;
  std::vector<QuestionResult> questions;  // in the order in which they were asked for
  int64_t prompt_tokens = 0, new_tokens = 0;
};

// Indices of the documents that are questions, in file order: of one split, or of all; the first `most` of them (0: all).
std::vector<int64_t> question_indices(const Dataset& dataset, std::optional<Split> split, int64_t most = 0);

struct EvaluationOptions {
  int max_new_tokens = 64;
  std::vector<int32_t> eos = {};  // ids that end an answer
};

// The answer is all that the model writes before it ends by itself. If it does not end within max_new_tokens, the answer is the
// first line that is not blank: the model has gone on to something else. A phase (src/base/phase.h): a signal to stop ends it within
// one token. Error (kExitUsage) if a prompt is longer than the generator's longest_prompt().
template <class Float>
EvaluationResult evaluate_questions(const Device& device, Generator<Float>& generator, const Dataset& dataset,
                                    const std::vector<int64_t>& documents, const Tokenizer& tokenizer,
                                    const EvaluationOptions& options);

}  // namespace tll
