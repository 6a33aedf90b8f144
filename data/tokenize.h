// From spans to tokens and labels, and what becomes of a sample that is too long.
//
//   training    [BOS] prompt answer EOS      the loss is taken on the answer and EOS only
//   generation  [BOS] prompt                 the same tokens, always
//
// A conversation in a chat template (Sample::one_text) is encoded as one text. A token is trained if a byte of a trained span is
// in it, as transformers' char_to_token finds the tokens of an answer: by position, so the end mark is trained whatever its id.
//
// Of other samples, to keep the two lines above equal, prompt and answer are encoded as one text. If its tokens begin with the
// tokens of the prompt, the rest are those of the answer. They do not if the tokenizer merges across the boundary. Then the
// answer is encoded alone, with or without its leading space, whichever decodes to the same text (SentencePiece adds that space
// by itself). More than two neighbouring texts follow the same rule, one after another.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/sample.h"
#include "tokenizer/tokenizer.h"

namespace tll {

struct Tokens {
  std::vector<int32_t> ids, labels;  // of one length; labels as in a Dataset
  int32_t prompt_tokens = 0;         // those before the last trained text, which a generator is given; 0: there is none
};

// BOS comes first if the first span is text and the tokenizer adds BOS. A trained text that is blank gets no labels, and neither
// does its EOS. With TrainOn::kLastAnswer only the last trained text keeps its labels, and with kAll every token of a text has
// one but the first token of all. Labels of spans of ids stay. `tokenizer` may be null if no span is text. Error (kExitBadFile)
// if EOS is needed and the tokenizer has none, or if no encoding of a text behind the texts before decodes to it.
Tokens tokenize(const Tokenizer* tokenizer, std::span<const Span> spans, TrainOn train_on = TrainOn::kAnswers);

// Spans of a rendered template, encoded as one text without BOS or EOS of its own. Labels by position: of every token that has a
// byte of a trained span. Spans that follow one another and are trained are one answer.
Tokens tokenize_as_one_text(const Tokenizer& tokenizer, std::span<const Span> spans, TrainOn train_on = TrainOn::kAnswers);

// A sample as documents, and what was done to it.
struct TokenizedSample {
  std::vector<Tokens> documents;  // one; of a plain text as many as it is divided into. None if `refused` is not empty
  std::string refused;            // why it is left out, as in PrepareReport::refused
  bool untrained_part = false;    // left out: a document of a packed row that trains nothing
  bool empty = false;             // kept although it trains nothing (allow_empty)
  bool shortened = false;         // a text was cut, or turns left
  bool evidence_lost = false;     // the cut took the answer out of the context: in training the sample is refused as kAnswerCut
  bool end_lost = false;          // the end of the last answer was cut, and its end mark with it
  int32_t turns_left_out = 0;     // of a conversation, from the front
  int32_t empty_answers = 0;      // trained texts that are blank, in a sample that trains others
  int64_t needed_tokens = 0;      // the least max_tokens with which nothing has to be cut
};
inline constexpr const char* kTooLong = "too long";
inline constexpr const char* kAnswerCut = "answer cut off";

// Tokenises a sample, and shortens it to options.max_tokens tokens:
//
//   plain text       is divided into documents of max_tokens
//   conversation     whole turns leave from the front, behind what has no turn (BOS, the system text), until it fits. Before
//                    them leave the turns at the end that train nothing. If the last turn alone does not fit, its end is cut
//   other samples    the end of the span that may be shortened is cut
//
// Nothing is cut with LongSamples::kDrop or kRefuse. Uses max_tokens, long_samples, allow_empty and train_on. Any thread. `file`
// is the file's name in messages. Error (kExitBadFile), with the place, if it trains nothing and may not stay, if it is too long
// and is to be refused, or as tokenize().
TokenizedSample tokenize_sample(const Sample& sample, const std::string& file, const Tokenizer* tokenizer,
                                const PrepareOptions& options);

// Adds what became of a sample to the report. Whether it is kept, in a split of this kind.
bool count_sample(PrepareReport& report, const TokenizedSample& sample, Split split);

// What generation starts from.
std::vector<int32_t> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt);

}  // namespace tll
