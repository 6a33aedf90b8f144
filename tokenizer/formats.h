// Between the readers of the formats and Tokenizer::load.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace tll {

// Limits of what is read from a file that may be hostile: far above any real tokenizer, far below what would hurt.
inline constexpr size_t kMaxVocabulary = size_t{1} << 21;
inline constexpr size_t kMaxPieceBytes = 1024;  // of a piece that is made by merging
inline constexpr size_t kMaxSteps = 64;         // normalizers, pre-tokenizers, decoders, tokens around a text: of each
// What the replacements of a file may make of a text.
inline constexpr size_t longest_replaced(size_t bytes) { return 16 * bytes + (size_t{1} << 20); }

// `where` is the file's name for messages.
std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view content, const std::string& where);
std::unique_ptr<Tokenizer> read_tiktoken(std::string_view content, const std::string& where);
std::unique_ptr<Tokenizer> read_tokenizer_json(std::string_view content, const std::string& where);

}  // namespace tll
