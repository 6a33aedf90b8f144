// How good a model is on validation data: the loss, and what its answers to questions score.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "src/base/json.h"
#include "src/base/units.h"
#include "src/train/evaluate.h"

namespace tll {

struct Score {
  std::optional<double> loss;               // nothing: there are no validation documents
  std::optional<EvaluationResult> answers;  // nothing: no questions were asked

  double perplexity() const { return std::exp(*loss); }
  // ", exact match 12.3, F1 45.6 on 78 questions", or nothing where none were asked.
  std::string answered(int decimals) const {
    if (!answers) return "";
    const SquadTotals& totals = answers->totals;
    return fmt::format(", exact match {:.{}f}, F1 {:.{}f} on {}", totals.exact_match(), decimals, totals.f1(), decimals,
                       Counted{totals.questions, "question"});
  }
  // "loss" and "perplexity", "exact_match", "f1" and "questions", as far as they are known.
  Json json() const {
    Json j = Json::object();
    if (loss) j["loss"] = *loss, j["perplexity"] = perplexity();
    if (answers)
      j["exact_match"] = answers->totals.exact_match(), j["f1"] = answers->totals.f1(),
      j["questions"] = answers->totals.questions;
    return j;
  }
};

}  // namespace tll
