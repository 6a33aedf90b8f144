#include "data/metric.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

struct LowerRange {
  uint32_t first, last;
  int32_t stride, delta;
};
#include "data/lowercase_table.inc"

constexpr uint32_t kCapitalSigma = 0x3A3, kSmallSigma = 0x3C3, kFinalSigma = 0x3C2, kCapitalIDot = 0x130;

// A byte outside a valid sequence counts as U+FFFD, so that any text can be scored.
std::u32string decode_utf8(std::string_view s) {
  std::u32string out;
  out.reserve(s.size());
  for (size_t i = 0; i < s.size();) {
    const CodePoint c = read_code_point(s, i);
    out += c.value;
    i += c.bytes;
  }
  return out;
}

bool is_word(char32_t c) {
  const CharClass kind = char_class(c);
  return kind == CharClass::kLetter || kind == CharClass::kNumber;
}

// A capital sigma ends a word when a cased letter stands before it and none behind it, case-ignorable characters skipped
// (Unicode's Final_Sigma condition).
bool is_final_sigma(const std::u32string& s, size_t i) {
  size_t before = i;
  while (before > 0 && range_at(kCaseIgnorable, s[before - 1])) --before;
  if (before == 0 || !range_at(kCased, s[before - 1])) return false;
  size_t after = i + 1;
  while (after < s.size() && range_at(kCaseIgnorable, s[after])) ++after;
  return after == s.size() || !range_at(kCased, s[after]);
}

std::u32string lower(const std::u32string& s) {
  std::u32string out;
  out.reserve(s.size() + 1);
  for (size_t i = 0; i < s.size(); ++i) {
    const uint32_t c = s[i];
    if (c == kCapitalIDot) {
      out += U"i\u0307";
    } else if (c == kCapitalSigma) {
      out += char32_t(is_final_sigma(s, i) ? kFinalSigma : kSmallSigma);
    } else {
      const LowerRange* r = range_at(kLower, c);
      out += char32_t(r && (c - r->first) % uint32_t(r->stride) == 0 ? c + uint32_t(r->delta) : c);
    }
  }
  return out;
}

bool is_ascii_punctuation(uint32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

// What Python's str.split takes as whitespace: Unicode's, and four separators of ASCII.
bool is_python_space(char32_t c) { return char_class(c) == CharClass::kSpace || (c >= 0x1C && c <= 0x1F); }

// The tokens of the normalised text.
std::vector<std::u32string> normalized_tokens(std::string_view text) {
  std::u32string s = lower(decode_utf8(text));
  std::erase_if(s, is_ascii_punctuation);
  std::vector<std::u32string> tokens;
  std::u32string token;
  const auto finish = [&] {
    if (!token.empty()) tokens.push_back(std::move(token));
    token.clear();
  };
  for (size_t i = 0; i < s.size();) {
    size_t end = i;
    while (end < s.size() && is_word(s[end])) ++end;
    const std::u32string_view word(s.data() + i, end - i);
    if (word == U"a" || word == U"an" || word == U"the") {
      finish();
    } else {
      token += word;
    }
    if (end < s.size()) {
      is_python_space(s[end]) ? finish() : token.push_back(s[end]);
      ++end;
    }
    i = end;
  }
  finish();
  return tokens;
}

SquadScore score_tokens(std::vector<std::u32string> prediction, std::vector<std::u32string> gold, SquadRules rules) {
  SquadScore score;
  score.exact_match = prediction == gold;
  if (rules == SquadRules::kV2 && (prediction.empty() || gold.empty())) {
    score.f1 = prediction.empty() && gold.empty();
    return score;
  }
  std::sort(prediction.begin(), prediction.end());
  std::sort(gold.begin(), gold.end());
  std::vector<std::u32string> common;
  std::set_intersection(prediction.begin(), prediction.end(), gold.begin(), gold.end(), std::back_inserter(common));
  if (common.empty()) return score;
  const double precision = double(common.size()) / double(prediction.size());
  const double recall = double(common.size()) / double(gold.size());
  score.f1 = 2 * precision * recall / (precision + recall);
  return score;
}

}  // namespace

std::string python_lower(std::string_view utf8) {
  std::string out;
  for (char32_t c : lower(decode_utf8(utf8))) append_utf8(out, c);
  return out;
}

std::string squad_normalize(std::string_view text) {
  std::string out;
  for (const std::u32string& token : normalized_tokens(text)) {
    if (!out.empty()) out += ' ';
    for (char32_t c : token) append_utf8(out, c);
  }
  return out;
}

SquadScore score_question(std::string_view prediction, std::span<const std::string> gold, SquadRules rules) {
  const std::vector<std::u32string> predicted = normalized_tokens(prediction);
  std::vector<std::vector<std::u32string>> answers;
  for (const std::string& answer : gold) answers.push_back(normalized_tokens(answer));
  if (rules == SquadRules::kV2) {
    std::erase_if(answers, [](const auto& tokens) { return tokens.empty(); });
    if (answers.empty()) answers.emplace_back();
  }
  SquadScore best;
  for (const std::vector<std::u32string>& tokens : answers) {
    const SquadScore score = score_tokens(predicted, tokens, rules);
    best = {std::max(best.exact_match, score.exact_match), std::max(best.f1, score.f1)};
  }
  return best;
}

}  // namespace tll
