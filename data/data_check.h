// What a whole data set trains, counted: show --check. One pass over the tokens; memory is 8 bytes a document, and what packing
// an epoch takes (data/loader.h).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "src/base/json.h"
#include "tokenizer/tokenizer.h"

namespace tll {

struct DataCheck {
  int64_t samples = 0, train_samples = 0, tokens = 0, train_tokens = 0;
  int64_t target_tokens = 0;
  int64_t answers = 0;         // runs of trained tokens
  int64_t ends_trained = 0;    // of these the runs that end in an end mark, be it a token or spelled out; white space may follow
  int64_t duplicates = 0;      // samples with the tokens of an earlier one
  int64_t in_both_splits = 0;  // validation samples with the tokens of a training sample
  int64_t untrained = 0;       // samples that train nothing
  int64_t fully_trained = 0;   // samples of which every token but the first is trained
  int64_t double_bos = 0;      // samples that begin with BOS twice
  std::map<int32_t, int64_t> lengths;  // samples of each length, in tokens
  int32_t seq_len = 0;                 // of the rows below: tokens
  int64_t packed_rows = 0;             // of an epoch, with packing; without it every training sample is a row. 0: no sample
  PrepareReport report;                // of the data set
  bool ends_known = false;             // some end mark is known: there is a tokenizer, or there are end ids

  double trained_share() const { return tokens ? double(target_tokens) / double(tokens) : 0; }
  // A length that a share of the samples do not exceed.
  int32_t length_at(double share) const;
  // Samples by length, in classes that end at powers of two and at seq_len, from the shortest sample's to the longest's.
  struct LengthClass {
    int32_t from = 1, to = 1;
    int64_t samples = 0;
  };
  std::vector<LengthClass> classes() const;

  // What is suspicious, for people, a line each: an end mark that is not trained, a mask that trains next to nothing or nearly
  // all, much that was cut, the same sample in both splits, BOS twice.
  std::vector<std::string> warnings() const;
  Json json() const;  // samples, tokens, target_tokens, ends_trained, duplicates, empty, truncated, dropped, lengths and the rest
  std::string text() const;
};

// `seq_len` is that of the rows; documents that are longer have longer ones. `tokenizer` may be null. An end mark is one of
// `end_ids`, the tokenizer's end of a text, or the text of a chat template's end mark.
DataCheck check_data(const Dataset& dataset, const Tokenizer* tokenizer, std::span<const int32_t> end_ids, int32_t seq_len);

}  // namespace tll
