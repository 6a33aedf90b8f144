// Questions that are shared out among ranks.
#pragma once

#include <vector>

#include "src/ranks/collectives.h"
#include "src/train/evaluate.h"

namespace tll {

// Of the questions, every size()-th from this rank's number on.
std::vector<Question> own_questions(const Collectives& collectives, const std::vector<Question>& questions);
// From the results of own_questions() on each rank those of all questions, on all ranks, in the order of the questions.
EvaluationResult gather_results(Collectives& collectives, const EvaluationResult& own);

}  // namespace tll
