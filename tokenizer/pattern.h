// The regular expressions with which byte-level tokenizers split text, as code that reads the text once from left to right. There
// is no regex engine and no backtracking. The pieces are the same.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace tll {

enum class SplitPattern { kGpt2, kLlama3, kQwen2 };

inline constexpr std::string_view kGpt2Regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The pattern with exactly this regular expression; nothing if it is not known.
std::optional<SplitPattern> known_pattern(std::string_view regex);

// End of the match that begins at text[begin], begin < text.size(). Every pattern matches everywhere, so pieces adjoin.
// The text is valid UTF-8.
size_t match_end(SplitPattern pattern, std::string_view text, size_t begin);

}  // namespace tll
