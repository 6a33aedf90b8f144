// Text that comes in pieces is cut where a stop text begins, wherever the pieces meet.
#include "src/commands/stop_text.h"

#include <gtest/gtest.h>

#include "tests/refusal.h"

namespace tll {
namespace {

std::string through(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  StopText stop(std::move(stops));
  std::string text;
  for (const std::string& piece : pieces) text += stop.push(piece);
  return text + stop.finish();
}

TEST(StopText, IsFoundAcrossAnyPieces) {
  const std::string whole = "abcabcQ: no";
  for (size_t i = 0; i <= whole.size(); i++)
    for (size_t j = i; j <= whole.size(); j++)
      EXPECT_EQ(through({"cQ:", "zz"}, {whole.substr(0, i), whole.substr(i, j - i), whole.substr(j)}), "abcab") << i << " " << j;
}

TEST(StopText, ShowsWhatCannotBeOne) {
  StopText stop({"\n\nQ"});
  EXPECT_EQ(stop.push("a\n"), "a");
  EXPECT_EQ(stop.push("\n"), "");
  EXPECT_EQ(stop.push("b"), "\n\nb");
  EXPECT_EQ(stop.push("\n\n\n"), "\n");
  EXPECT_FALSE(stop.found());
  EXPECT_EQ(stop.push("Q"), "");
  EXPECT_TRUE(stop.found());
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.finish(), "");
}

TEST(StopText, WhatIsHeldAtTheEndIsText) {
  EXPECT_EQ(through({"END"}, {"the EN"}), "the EN");
  EXPECT_EQ(through({}, {"a", "b"}), "ab");
  EXPECT_EQ(through({"bc", "b"}, {"ab", "c"}), "a");
  for (const std::vector<std::string>& pieces : {std::vector<std::string>{"xabc"}, {"xab", "c"}, {"xa", "b", "c"}})
    EXPECT_EQ(through({"abc", "b"}, pieces), "x");  // the one that begins first, though it ends last
  EXPECT_EQ(through({"abc", "b"}, {"xab", "d"}), "xa");
  EXPECT_EQ(through({"abc", "b"}, {"xab"}), "xa");
}

TEST(StopText, SeveralAreAJsonList) {
  EXPECT_EQ(stop_texts("Q:"), (std::vector<std::string>{"Q:"}));
  EXPECT_EQ(stop_texts("[\"Q:\", \"\\n\"]"), (std::vector<std::string>{"Q:", "\n"}));
  EXPECT_EQ(stop_texts("[INST]"), (std::vector<std::string>{"[INST]"}));
  EXPECT_TRUE(stop_texts("").empty());
  EXPECT_TRUE(says(refusal_of([] { stop_texts("[\"a\", 3]"); }, kExitUsage), "found 3"));
  EXPECT_TRUE(says(refusal_of([] { stop_texts("[\"\"]"); }, kExitUsage), "--stop"));
}

}  // namespace
}  // namespace tll
