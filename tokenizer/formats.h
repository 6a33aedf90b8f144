// The readers of the formats, for Tokenizer::load, and their limits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/pipeline.h"
#include "tokenizer/side_files.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// Limits for files that may be hostile: far above any real tokenizer, far below what would do harm.
inline constexpr size_t kMaxVocabulary = size_t{1} << 21;
inline constexpr size_t kMaxPieceBytes = 1024;  // of a token, or of a text that a step inserts
inline constexpr size_t kMaxSteps = 64;         // each: normalizers, pre-tokenizers, decoders, tokens around a text
// The greatest length of a text after a file's replacements.
inline constexpr size_t longest_replaced(size_t bytes) { return 16 * bytes + (size_t{1} << 20); }

inline constexpr const char* kAddedTokensDecoder = "added_tokens_decoder";  // in tokenizer_config.json: {id: token}

// `where` is the file's name in messages. The tokenizers have the tokens that the files beside them add.
std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view content, const std::string& where, const SideFiles& side);
std::unique_ptr<Tokenizer> read_tiktoken(std::string_view content, const std::string& where, const SideFiles& side);
std::unique_ptr<Tokenizer> read_tokenizer_json(std::string_view content, const std::string& where, const SideFiles& side);
// What the last two are made of.
PipelineParts tiktoken_parts(std::string_view content, const std::string& where, const SideFiles& side);
PipelineParts tokenizer_json_parts(std::string_view content, const std::string& where, const SideFiles& side);

}  // namespace tll
