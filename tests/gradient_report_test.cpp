// What the first gradients say of adapters: norms by kind, and which matrices get none that should.
#include "src/commands/gradient_report.h"

#include <gtest/gtest.h>

#include "src/files/adapter.h"

namespace tll {
namespace {

// Two adapters of q_proj and one of v_proj, rank 1 on 2 inputs and 2 outputs: A and B hold two values each.
struct ThreeAdapters {
  std::vector<LoraTarget> adapters;
  std::vector<NamedTensor> tensors;
  std::vector<float> gradients;

  ThreeAdapters() {
    for (const char* name :
         {"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.q_proj"}) {
      adapters.push_back({{name, 0, Joint::qkv, 0, 2, 2, false, true}, 1, 1.0});
      for (const bool is_b : {false, true}) {
        tensors.push_back({peft_name(adapters.back().module, is_b), {1, 2}, static_cast<int64_t>(gradients.size())});
        gradients.resize(gradients.size() + 2);
      }
    }
  }
  float& at(size_t adapter, bool is_b, size_t i) { return gradients[adapter * 4 + (is_b ? 2 : 0) + i]; }
  GradientReport report(bool b_was_zero) const {
    return report_gradients(adapters, tensors, gradients.data(), 2, [&](const Module&) { return b_was_zero; });
  }
};

TEST(GradientReport, NormsAreOfAKindOverAllLayersWithoutTheLossScale) {
  ThreeAdapters t;
  t.at(0, true, 0) = 6, t.at(2, true, 1) = 8, t.at(1, true, 0) = 1;
  t.at(2, false, 0) = 4;
  const GradientReport report = t.report(true);
  ASSERT_EQ(report.kinds.size(), 2u);
  EXPECT_EQ(report.norms(true), "q_proj 5, v_proj 0.5");
  EXPECT_EQ(report.norms(false), "q_proj 2, v_proj 0");
  EXPECT_TRUE(report.zero.empty() && report.not_finite.empty());
  EXPECT_EQ(report.json().at("norms").at("q_proj").at("B"), 5.0);
}

// The gradient of A is a product with B: only where B was not zero is its absence worth a word.
TEST(GradientReport, AMatrixWithoutGradientIsNamedWhereItShouldHaveOne) {
  ThreeAdapters t;
  t.at(0, true, 0) = t.at(1, true, 1) = 1;
  EXPECT_EQ(t.report(true).zero, std::vector<std::string>{"model.layers.1.self_attn.q_proj B"});
  EXPECT_TRUE(t.report(true).all_of_a_are_zero());
  EXPECT_EQ(t.report(false).zero.size(), 4u);
  t.at(1, false, 0) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(t.report(true).not_finite, std::vector<std::string>{"model.layers.0.self_attn.v_proj A"});
}

TEST(GradientReport, ManyNamesAreCut) {
  EXPECT_EQ(some_of({"a", "b"}), "a, b");
  EXPECT_EQ(some_of({"a", "b", "c", "d", "e", "f"}), "a, b, c, d and 2 more");
}

}  // namespace
}  // namespace tll
