// SQuAD: how the text that a model writes becomes an answer. data/squad.cpp reads the questions (squad_reader()).
#pragma once

#include <string>
#include <string_view>

namespace tll {

// What an unanswerable question is trained to answer, and what is mapped back to the empty answer for scoring.
inline constexpr std::string_view kNoAnswer = "no answer";

// Without blanks around it.
std::string_view trimmed(std::string_view s);
// The answer in a generated continuation (EOS already cut off), trimmed. Of a model that did not end by itself it is the first
// line that is not blank. With `unanswerable_trained`, kNoAnswer becomes "".
std::string answer_from_generation(std::string_view generated, bool ended, bool unanswerable_trained);

}  // namespace tll
