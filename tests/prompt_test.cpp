// The prompt's text, and the answer in what was generated.
#include <gtest/gtest.h>

#include "data/squad.h"
#include "src/base/check.h"
#include "tests/refusal.h"

namespace tll {
namespace {

TEST(Prompt, SquadTemplate) {
  const PromptTemplate& form = find_prompt_template("squad");
  const std::vector<Span> spans = form.spans("Paris is in France.", "Where is Paris?", "France");
  ASSERT_EQ(spans.size(), 4u);
  EXPECT_EQ(spans[0].text + spans[1].text + spans[2].text, "Context: Paris is in France.\nQuestion: Where is Paris?\nAnswer:");
  EXPECT_EQ(spans[3].text, " France");
  for (const Span& s : spans) {
    EXPECT_EQ(s.may_shorten, s.text == "Paris is in France.");
    EXPECT_EQ(s.trained, s.text == " France");
    EXPECT_EQ(s.ends_text, s.trained);
  }
  EXPECT_TRUE(says(refusal_of([] { find_prompt_template("sqad"); }, kExitUsage), "squad"));
}

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
