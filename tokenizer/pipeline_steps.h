// The steps of a pipeline except BPE.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pipeline.h"

namespace tll {

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text);

// The pieces of a kString step.
std::vector<std::string_view> split_at_string(const PreTokenizerStep& step, std::string_view text);

// A kMetaspace step. `first`: the text is the beginning of the input.
std::string mark_spaces(const PreTokenizerStep& step, std::string_view text, bool first);

// Applies the decoders one after another and joins the result. Without decoders, tokens are joined by spaces.
std::string decode_tokens(const std::optional<std::vector<DecoderStep>>& steps, std::vector<std::string> tokens);

// Error (kExitBadFile) if the result would be longer than max_bytes.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to, size_t max_bytes);

}  // namespace tll
