// Prompt templates: how a question becomes text, and how that text becomes tokens with a known boundary.
//
//   training    [BOS] encode(prompt) answer tokens EOS       the loss is taken on the answer tokens and EOS only
//   generation  [BOS] encode(prompt)                         the same tokens, always
//
// The rule that keeps the two equal: the rendered text, prompt and answer together, is encoded as a whole. If that begins with
// encode(prompt), as it does with every tokenizer that does not merge across the ':' and ' ' of the boundary, the rest are
// the answer tokens. Otherwise the answer is encoded apart, with or without its leading space, whichever decodes to the same
// text (SentencePiece adds that space by itself). BOS is there if the tokenizer's own file adds it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/squad.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// What an unanswerable question is trained to answer, and what is mapped back to the empty answer for scoring.
inline constexpr std::string_view kNoAnswer = "no answer";

// A template turns a sample, with a context that may have been shortened, into the two texts.
struct PromptTemplate {
  std::string_view name;
  std::string (*prompt)(const SquadSample& sample, std::string_view context);
  std::string (*answer)(std::string_view answer);  // the trained text, before EOS
};

// "squad": `Context: {context}\nQuestion: {question}\nAnswer:` and ` {answer}`.
// Error (kExitUsage), with the list of names, if there is no such template.
const PromptTemplate& find_prompt_template(std::string_view name);

struct TokenizedSample {
  std::vector<int32_t> tokens;  // BOS?, prompt, answer, EOS
  int32_t prompt_tokens = 0;    // how many of them a generator is given
};

// BOS if the tokenizer adds one, and the prompt: what generation starts from.
std::vector<int32_t> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt);

// Error (kExitBadFile) if the tokenizer has no EOS, or if no encoding of the answer decodes to its text.
TokenizedSample tokenize_sample(const Tokenizer& tokenizer, std::string_view prompt, std::string_view answer);

// The answer in a generated continuation (EOS already cut off): its first line that is not blank, trimmed; with
// `unanswerable_trained`, kNoAnswer becomes "".
std::string answer_from_generation(std::string_view generated, bool unanswerable_trained);

}  // namespace tll
