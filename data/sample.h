// What every data format becomes: samples, each a list of spans of text or of token ids.
//
// A format (data/squad.h, data/token_rows.cpp) reads its file and knows its fields. Tokenising (data/tokenize.h) and what becomes
// of a sample (build_dataset) know no format.
#pragma once

#include <xxhash.h>

#include <algorithm>
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
  bool trained = false;                        // the loss is taken on the tokens of the text
  bool ends_text = false;                      // EOS follows the text, and is trained as the text is
  bool may_shorten = false;                    // its end may be cut if the sample is too long; at most one span of a sample
  std::vector<int32_t> ids = {}, labels = {};  // of one length; labels as in a Dataset
  bool is_text() const { return ids.empty(); }
};

struct Sample {
  std::string id = {}, title = {};        // may be empty
  std::string where = {};                 // place in the file, for messages: "data[3].paragraphs[2].qas[0]" or "line 7"
  uint64_t group = 0, subgroup = 0;       // keys: the split holds out whole groups, or subgroups if groups are too few
  std::vector<std::string> answers = {};  // gold answers for the score, without duplicates; the first one is trained
  std::vector<Span> spans = {};
  bool left_out = false;  // not trained, but its groups count for the split
};

// The key of a group, from the bytes of what its samples share. The seed chooses which groups are held out.
template <class Array>
uint64_t group_key(const Array& shared, uint64_t seed) {
  return XXH3_64bits_withSeed(shared.data(), shared.size() * sizeof(shared[0]), seed);
}

// What a format makes of a file.
struct SampleSet {
  std::vector<Sample> samples = {};  // in file order
  bool of_text = false;              // a tokenizer is needed
  Dataset known = {};                // the template, the rules and the mismatches that the file shows; no documents
};

// Rows that carry token ids, as JSON lines: {"input_ids": [...], "labels": [...]}, with the labels of Hugging Face. Without
// labels every token behind the first is trained. Each row is a sample of one span of ids, and a group of its own. `name` is the
// file's name in messages. Error (kExitBadFile), with the line, for a row that is not as above, or an id that is not below
// options.vocab_size (if that is not 0).
SampleSet read_token_rows(std::string_view text, const std::string& name, const PrepareOptions& options);
inline bool is_token_row(const Json& row) { return row.is_object() && row.contains("input_ids"); }

// Tokenises, shortens, refuses and counts samples, and chooses which are held out. `file` is the file's name in messages. If
// options.vocab_size is 0, the largest id decides. Error (kExitBadFile) if the set needs a tokenizer and there is none, if a
// sample trains nothing and may not stay, or if no sample is left.
Dataset build_dataset(SampleSet set, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options);

inline std::string_view without_byte_order_mark(std::string_view text) {
  return text.substr(text.starts_with("\xEF\xBB\xBF") ? 3 : 0);
}

// Calls visit(line_number, line) for each line that is not blank, without a byte-order mark and the CR of CRLF.
template <class Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  text = without_byte_order_mark(text);
  Phase phase("reading data", static_cast<int64_t>(text.size()));
  for (int64_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    const size_t bytes = std::min(line.size() + 1, text.size());
    text.remove_prefix(bytes);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) visit(number, line);
    phase.advance(static_cast<int64_t>(bytes));
  }
}

}  // namespace tll
