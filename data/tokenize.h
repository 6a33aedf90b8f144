// From spans to tokens and labels.
//
//   training    [BOS] prompt answer EOS      the loss is taken on the answer and EOS only
//   generation  [BOS] prompt                 the same tokens, always
//
// To keep the two equal, prompt and answer are encoded as one text. If its tokens begin with the tokens of the prompt, the rest
// are those of the answer. They do not if the tokenizer merges across the boundary. Then the answer is encoded alone, with or
// without its leading space, whichever decodes to the same text (SentencePiece adds that space by itself). More than two
// neighbouring texts follow the same rule, one after another.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/sample.h"
#include "tokenizer/tokenizer.h"

namespace tll {

struct Tokens {
  std::vector<int32_t> ids, labels;  // of one length; labels as in a Dataset
  int32_t prompt_tokens = 0;         // those before the first trained text, which a generator is given; 0: there is none
};

// BOS comes first if the first span is text and the tokenizer adds BOS. A trained text that is blank gets no labels, and neither
// does its EOS. `tokenizer` may be null if no span is text. Error (kExitBadFile) if EOS is needed and the tokenizer has none, or
// if no encoding of a text behind the texts before decodes to it.
Tokens tokenize(const Tokenizer* tokenizer, std::span<const Span> spans);

// What generation starts from.
std::vector<int32_t> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt);

}  // namespace tll
