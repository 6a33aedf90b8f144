// What every example becomes: a sample, a list of spans of text or of token ids.
//
// A template (data/template.h) makes the spans. Tokenising (data/tokenize.h) and what becomes of a sample know no format.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "src/base/phase.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// A piece of a document: a text, or token ids that are taken as they are.
struct Span {
  std::string text = {};
  bool markup = false;                         // special tokens in the text are ids; else they are text
  bool trained = false;                        // belongs to an answer: the loss may be taken on the tokens of the text
  bool ends_text = false;                      // EOS follows the text, and is trained as the text is
  bool may_shorten = false;                    // its end may be cut if the sample is too long; at most one span of a sample
  int32_t turn = -1;                           // of a conversation: the user's turn (from 0) that it belongs to, with the answers
                                               // to it; -1: it stays whatever leaves (BOS, the system text)
  bool between_turns = false;                  // left out if its turn becomes the first one
  std::vector<int32_t> ids = {}, labels = {};  // of one length; labels as in a Dataset
  bool is_text() const { return ids.empty(); }
};

struct Sample {
  std::string id = {}, title = {};        // may be empty
  std::string where = {};                 // place in the file, for messages: "data[3].paragraphs[2].qas[0]" or "line 7"
  uint64_t group = 0, subgroup = 0;       // keys: the split holds out whole groups, or subgroups if groups are too few
  std::vector<std::string> answers = {};  // gold answers for the score, without duplicates; the first one is trained
  std::vector<Span> spans = {};
  bool one_text = false;             // spans are tokenised as one text, as transformers tokenises a rendered template
  bool plain_text = false;           // all of it is trained, and what is too long is divided, not cut
  bool question = false;             // it has gold answers, or is known to have none: it can be scored
  bool left_out = false;             // not trained, but its groups count for the split
  bool part_of_trained_row = false;  // other documents of its packed row are trained, so it may train nothing
};

// The key of a group, from the bytes of what its samples share. The seed chooses which groups are held out.
template <class Array>
uint64_t group_key(const Array& shared, uint64_t seed) {
  return XXH3_64bits_withSeed(shared.data(), shared.size() * sizeof(shared[0]), seed);
}

}  // namespace tll
