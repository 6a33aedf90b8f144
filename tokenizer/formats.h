// The readers of the formats, for Tokenizer::load, and their limits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace tll {

// Limits for files that may be hostile: far above any real tokenizer, far below what would do harm.
inline constexpr size_t kMaxVocabulary = size_t{1} << 21;
inline constexpr size_t kMaxPieceBytes = 1024;  // of a token, or of a text that a step inserts
inline constexpr size_t kMaxSteps = 64;         // each: normalizers, pre-tokenizers, decoders, tokens around a text
// The greatest length of a text after a file's replacements.
inline constexpr size_t longest_replaced(size_t bytes) { return 16 * bytes + (size_t{1} << 20); }

// `where` is the file's name in messages.
std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view content, const std::string& where);
std::unique_ptr<Tokenizer> read_tiktoken(std::string_view content, const std::string& where);
std::unique_ptr<Tokenizer> read_tokenizer_json(std::string_view content, const std::string& where);

// Takes the special tokens that the other files in the directory name. A tokenizer.json says itself which tokens come before and
// after a text. add_bos_token (default true) and add_eos_token (default false) in tokenizer_config.json apply only to a
// tokenizer.model.
void apply_side_files(Tokenizer& tokenizer, const std::filesystem::path& directory, bool has_tokenizer_json);

}  // namespace tll
