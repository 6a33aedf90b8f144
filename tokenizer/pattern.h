// The regular expressions with which byte-level tokenizers split text, as code that reads the text once from left to right. There
// is no regex engine and no backtracking. The pieces are the same.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "src/base/split_regexes.h"

namespace tll {

enum class SplitPattern { kGpt2, kLlama3, kQwen2 };

// The pattern with exactly this regular expression; nothing if it is not known.
std::optional<SplitPattern> known_pattern(std::string_view regex);

// End of the match that begins at text[begin], begin < text.size(). Every pattern matches everywhere, so pieces adjoin.
// The text is valid UTF-8.
size_t match_end(SplitPattern pattern, std::string_view text, size_t begin);

}  // namespace tll
