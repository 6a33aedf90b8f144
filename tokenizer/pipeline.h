// The pipeline of a tokenizer.json: normalizers -> pre-tokenizers -> BPE -> decoders, as lists of small steps. The tiktoken
// format is read as such a pipeline too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/pattern.h"
#include "tokenizer/tokenizer.h"

namespace tll {

struct NormalizerStep {
  enum Kind : uint8_t { kPrepend, kReplace, kNfc } kind;
  std::string from, to;  // kPrepend: `to`
};

struct PreTokenizerStep {
  enum Kind : uint8_t { kPattern, kString, kDigits, kMetaspace, kPrefixSpace } kind;
  enum Behavior : uint8_t { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum Prepend : uint8_t { kAlways, kFirst, kNever };

  SplitPattern pattern = SplitPattern::kGpt2;  // kPattern
  std::string text = {};                       // kString: the text to look for; kMetaspace: what replaces a space
  Behavior behavior = kIsolated;               // kString
  bool invert = false;                         // kString: the parts between matches count as matches
  bool individual = false;                     // kDigits
  Prepend prepend = kNever;                    // kMetaspace
};

struct DecoderStep {
  enum Kind : uint8_t { kByteLevel, kReplace, kByteFallback, kFuse, kStrip, kMetaspace } kind;
  std::string from = {}, to = {};  // kReplace; kStrip, kMetaspace: `from`, one character
  size_t count = 0;                // kStrip: at most so many are removed at the front
  bool drop_first = false;         // kMetaspace: the marks of the first token are removed, not made spaces
};

struct PipelineParts {
  struct Merge {
    int32_t left, right, result;
    uint32_t rank;
  };

  std::vector<std::string> tokens;  // by id, as spelled in the file; empty: no such id
  std::vector<Merge> merges;
  std::optional<int32_t> unk;
  std::string missing_unk;     // an unk_token that is not in the vocabulary: a text that needs it is an error
  bool ignore_merges = false;  // a piece that is a token is not merged
  bool byte_fallback = false;  // a character that is not a token becomes <0xHH> for each byte
  bool fuse_unk = false;
  bool byte_level = false;  // symbols are bytes, spelled in the byte alphabet, instead of characters

  std::vector<NormalizerStep> normalizers;
  std::vector<PreTokenizerStep> pre_tokenizers;
  std::optional<std::vector<DecoderStep>> decoders;  // none: tokens joined by spaces
  std::vector<AddedToken> added_tokens;
  std::vector<int32_t> prefix, suffix;
  std::optional<int32_t> bos, eos;
  std::vector<int32_t> end_ids;
  std::vector<std::string> warnings;
};

std::unique_ptr<Tokenizer> make_pipeline(PipelineParts parts);

}  // namespace tll
