// The answer in what was generated.
#include <gtest/gtest.h>

#include "data/squad.h"

namespace tll {
namespace {

TEST(Prompt, AnswerFromGeneration) {
  for (const bool ended : {false, true}) {
    EXPECT_EQ(answer_from_generation(" France", ended, false), "France");
    EXPECT_EQ(answer_from_generation("  \n ", ended, false), "");
    EXPECT_EQ(answer_from_generation(" no answer", ended, true), "");
    EXPECT_EQ(answer_from_generation(" no answer", ended, false), "no answer");
    EXPECT_EQ(answer_from_generation(" no answers", ended, true), "no answers");
  }
  EXPECT_EQ(answer_from_generation("\n\n France \nQuestion: x", false, false), "France");
  EXPECT_EQ(answer_from_generation("\n\n France \nand Spain\n", true, false), "France \nand Spain");
  EXPECT_EQ(answer_from_generation(" no answer\nQuestion: x", false, true), "");
  EXPECT_EQ(answer_from_generation(" no answer\nQuestion: x", true, true), "no answer\nQuestion: x");
}

}  // namespace
}  // namespace tll
