// Exact match and F1 of SQuAD, as the official evaluation scripts v1.1 and v2.0 compute them.
//
// normalise(s): lower-case (Unicode's full mapping, as Python's str.lower), delete ASCII punctuation, replace the whole words
// a, an, the by a space, collapse whitespace. A word character is a code point of category L or N (or '_', deleted before).
// EM = [normalise(pred) == normalise(gold)].  F1 over whitespace tokens: common = size of the multiset intersection,
// P = common / |pred|, R = common / |gold|, F1 = 2 P R / (P + R), 0 if common is 0. A question's score is the maximum over its
// gold answers; a data set's score is the mean x 100.
// v1.1 has no rule for empty token lists ("the" against "a": EM 1, F1 0). v2.0: F1 = 1 if both are empty, 0 if one is; gold
// answers that normalise to nothing are dropped, and if none is left the only gold answer is "".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tll {

enum class SquadRules : uint32_t { kV1 = 1, kV2 = 2 };

struct SquadScore {
  double exact_match = 0;  // 0 or 1
  double f1 = 0;           // 0 to 1
};

std::string squad_normalize(std::string_view text);
std::string python_lower(std::string_view utf8);

// An unanswerable question has no gold answers, and scores 1 exactly for a prediction that normalises to nothing.
SquadScore score_question(std::string_view prediction, std::span<const std::string> gold, SquadRules rules);

// Means over questions, x 100; 0 if there are none.
struct SquadTotals {
  int64_t questions = 0;
  double exact_match_sum = 0, f1_sum = 0;
  void add(SquadScore score) { ++questions, exact_match_sum += score.exact_match, f1_sum += score.f1; }
  double exact_match() const { return questions ? 100 * exact_match_sum / double(questions) : 0; }
  double f1() const { return questions ? 100 * f1_sum / double(questions) : 0; }
};

}  // namespace tll
