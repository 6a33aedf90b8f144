// The steps of a pipeline except BPE.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pipeline.h"
#include "tokenizer/placement.h"

namespace tll {

// `origins`, if there are any, are those of the text, and become those of the result.
std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text, Origins* origins = nullptr);

// The pieces of a kString step.
std::vector<std::string_view> split_at_string(const PreTokenizerStep& step, std::string_view text);

// What comes in front of a text has the origin of its first character.
void prepend(std::string& text, std::string_view front, Origins* origins);

// A kMetaspace step. `first`: the text is the beginning of the input.
std::string mark_spaces(const PreTokenizerStep& step, std::string_view text, bool first, Origins* origins = nullptr);

// Applies the decoders one after another and joins the result. Without decoders, tokens are joined by spaces.
std::string decode_tokens(const std::optional<std::vector<DecoderStep>>& steps, std::vector<std::string> tokens);

// Error (kExitBadFile) if the result would be longer than max_bytes.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to, size_t max_bytes,
                        Origins* origins = nullptr);

}  // namespace tll
