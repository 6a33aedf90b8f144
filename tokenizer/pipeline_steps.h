// What the steps of a pipeline do to a text, apart from BPE.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pipeline.h"

namespace tll {

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text);

// The pieces of a kString step.
std::vector<std::string_view> split_at_string(const PreTokenizerStep& step, std::string_view text);

// A kMetaspace step; `first`: this is the beginning of the whole input.
std::string mark_spaces(const PreTokenizerStep& step, std::string_view text, bool first);

// The decoders one after another, and what remains joined.
std::string decode_tokens(const std::optional<std::vector<DecoderStep>>& steps, std::vector<std::string> tokens);

// Throws Error (kExitBadFile) when the result would be longer than max_bytes.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to, size_t max_bytes);

}  // namespace tll
