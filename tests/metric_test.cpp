// SQuAD's exact match and F1. Expected values were computed with Python's str.lower and re on the official scripts' rules.
#include "data/metric.h"

#include <gtest/gtest.h>

#include <vector>

namespace tll {
namespace {

TEST(Metric, Normalize) {
  EXPECT_EQ(squad_normalize("The  Eiffel-Tower."), "eiffeltower");
  EXPECT_EQ(squad_normalize("a cat sat"), "cat sat");
  EXPECT_EQ(squad_normalize("An \t apple\xC2\xA0the\xE3\x80\x80pie"), "apple pie");
  EXPECT_EQ(squad_normalize("theatre bath a_b the_ an"), "theatre bath ab");
  EXPECT_EQ(squad_normalize(" .,!the?"), "");
  EXPECT_EQ(squad_normalize("x\x1Cy"), "x y");                     // U+001C splits
  EXPECT_EQ(squad_normalize("x\xE2\x80\x8By"), "x\xE2\x80\x8By");  // U+200B does not
  EXPECT_EQ(squad_normalize("the\xCC\x81"), "\xCC\x81");           // a combining mark bounds the word
  EXPECT_EQ(squad_normalize("\xE2\x80\x9Cthe\xE2\x80\x9D a\xE2\x80\x93z"),
            "\xE2\x80\x9C \xE2\x80\x9D \xE2\x80\x93z");  // curly quotes and dashes stay and bound words
  EXPECT_EQ(squad_normalize("a\xC2\xB2"), "a\xC2\xB2");  // a superscript two is a number: one word
}

TEST(Metric, LowerIsThatOfPython) {
  EXPECT_EQ(python_lower("ABC \xC3\x84\xC3\x96"), "abc \xC3\xA4\xC3\xB6");
  EXPECT_EQ(python_lower("\xC4\xB0"), "i\xCC\x87");                                                 // I with dot
  EXPECT_EQ(python_lower("\xCE\x9F\xCE\x94\xCE\x9F\xCE\xA3"), "\xCE\xBF\xCE\xB4\xCE\xBF\xCF\x82");  // final sigma
  EXPECT_EQ(python_lower("\xCE\xA3"), "\xCF\x83");                                                  // alone: not final
  EXPECT_EQ(python_lower("A\xCE\xA3"), "a\xCF\x82");
  EXPECT_EQ(python_lower("A\xCE\xA3"
                         "B"),
            "a\xCF\x83"
            "b");
  EXPECT_EQ(python_lower("A.\xCE\xA3."), "a.\xCF\x82.");  // '.' is case-ignorable
  EXPECT_EQ(python_lower("A\xCE\xA3.B"), "a\xCF\x83.b");
  EXPECT_EQ(python_lower("A \xCE\xA3"), "a \xCF\x83");
  EXPECT_EQ(python_lower("\xC7\x84\xF0\x90\x90\x80\xE1\xBA\x9E"), "\xC7\x86\xF0\x90\x90\xA8\xC3\x9F");
  EXPECT_EQ(python_lower("\xFF"
                         "A"),
            "\xEF\xBF\xBD"
            "a");  // no UTF-8: U+FFFD
}

SquadScore score_pair(std::string_view prediction, const std::string& gold, SquadRules rules) {
  return score_question(prediction, {&gold, 1}, rules);
}

TEST(Metric, Pairs) {
  SquadScore s = score_pair("The  Eiffel-Tower.", "Eiffel Tower", SquadRules::kV1);
  EXPECT_EQ(s.exact_match, 0);
  EXPECT_EQ(s.f1, 0);
  s = score_pair("a cat sat", "the cat", SquadRules::kV1);
  EXPECT_EQ(s.exact_match, 0);
  EXPECT_NEAR(s.f1, 2.0 / 3, 1e-15);
  s = score_pair("x x y", "x z x x", SquadRules::kV1);  // multiset: two x in common
  EXPECT_NEAR(s.f1, 2 * (2.0 / 3) * (2.0 / 4) / (2.0 / 3 + 2.0 / 4), 1e-15);
  s = score_pair("the", "a", SquadRules::kV1);
  EXPECT_EQ(s.exact_match, 1);
  EXPECT_EQ(s.f1, 0);
  s = score_pair("the", "a", SquadRules::kV2);
  EXPECT_EQ(s.f1, 1);
  s = score_pair("the", "cat", SquadRules::kV2);
  EXPECT_EQ(s.f1, 0);
}

TEST(Metric, Questions) {
  const std::vector<std::string> gold = {"10th and 11th centuries", "in the 10th and 11th centuries"};
  SquadScore s = score_question("10th and 11th centuries.", gold, SquadRules::kV2);
  EXPECT_EQ(s.exact_match, 1);
  EXPECT_EQ(s.f1, 1);
  // Unanswerable: only nothing is right.
  for (const char* right : {"", "the", "."}) EXPECT_EQ(score_question(right, {}, SquadRules::kV2).exact_match, 1) << right;
  EXPECT_EQ(score_question("no", {}, SquadRules::kV2).exact_match, 0);
  EXPECT_EQ(score_question("no", {}, SquadRules::kV2).f1, 0);
  // v2 drops gold answers that normalise to nothing, v1 does not.
  const std::vector<std::string> mixed = {"the", "cat"};
  EXPECT_EQ(score_question("a", mixed, SquadRules::kV2).exact_match, 0);
  EXPECT_EQ(score_question("a", mixed, SquadRules::kV1).exact_match, 1);
  const std::vector<std::string> nothing = {"the"};
  EXPECT_EQ(score_question("", nothing, SquadRules::kV2).f1, 1);

  SquadTotals totals;
  EXPECT_EQ(totals.f1(), 0);
  totals.add({1, 1});
  totals.add({0, 0.5});
  EXPECT_EQ(totals.exact_match(), 50);
  EXPECT_EQ(totals.f1(), 75);
}

}  // namespace
}  // namespace tll
