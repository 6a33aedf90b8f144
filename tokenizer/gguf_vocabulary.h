// A tokenizer as a GGUF file holds one: its tokens with their types, and the name of the rule by which llama.cpp cuts a text. The
// rule itself is code in llama.cpp, so a tokenizer that follows none of its rules cannot be written.
//
// model "gpt2": byte-level BPE. Tokens are spelled in the byte alphabet, except added ones; merges are in the order of their
// rank. model "llama": SentencePiece's BPE. Of two neighbours those merge whose joined piece has the highest score.
//
// Source: llama.cpp's converter (types, padding, which token counts as special) and its llama-vocab.cpp (the rules).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/text_files.h"
#include "tokenizer/tokenizer.h"

namespace tll {

struct GgufVocabulary {
  enum Type : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

  std::string model, pre;               // tokenizer.ggml.model and .pre
  std::vector<std::string> tokens;      // by id
  std::vector<int32_t> types;           // of each token
  std::vector<float> scores;            // "llama": of each token
  std::vector<std::string> merges;      // "gpt2": "left right"
  bool add_space_prefix = false;        // "llama": a text gets a space in front
  std::vector<std::string> notes = {};  // what llama.cpp does otherwise, one line each
};

// Of the files from which `tokenizer` was loaded, for a model with `size` rows: ids without a token become "[PADid]", and tokens
// without a row are left out. Error (kExitBadFile) if the tokenizer does something that no rule of llama.cpp does.
GgufVocabulary read_gguf_vocabulary(const TextFiles& files, const Tokenizer& tokenizer, int32_t size);

}  // namespace tll
