// Prompt templates: how a question becomes text, and how the text that a model writes becomes an answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/sample.h"

namespace tll {

// What an unanswerable question is trained to answer, and what is mapped back to the empty answer for scoring.
inline constexpr std::string_view kNoAnswer = "no answer";

// The context is the span that may be shortened. The answer and EOS behind it are trained.
struct PromptTemplate {
  std::string_view name;
  std::vector<Span> (*spans)(std::string context, std::string_view question, std::string_view answer);
};

// "squad": `Context: {context}\nQuestion: {question}\nAnswer:` and ` {answer}`.
// Error (kExitUsage), with the list of names, if there is no such template.
const PromptTemplate& find_prompt_template(std::string_view name);

// The answer in a generated continuation (EOS already cut off): its first line that is not blank, trimmed; with
// `unanswerable_trained`, kNoAnswer becomes "".
std::string answer_from_generation(std::string_view generated, bool unanswerable_trained);

}  // namespace tll
