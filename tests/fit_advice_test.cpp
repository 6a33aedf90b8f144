// What a run that does not fit is told: every proposal is planned again here.
#include "src/commands/fit_advice.h"

#include <gtest/gtest.h>

#include <set>

#include "src/commands/session.h"
#include "src/options/option_table.h"
#include "src/options/resolve.h"
#include "tests/refusal.h"
#include "tests/words.h"

namespace tll {
namespace {

Options plan_options(const std::string& arguments) {
  Options options = parse_options(words("plan --config dev/bench/configs/tiny.json " + arguments));
  resolve_options(options);
  return options;
}

template <class F>
auto with_session(Options options, const F& f) {
  return with_resolved_type(options, [&](auto type) {
    const ModelSource source = open_model(options, TokenizerNeed::none);
    return f(Session<decltype(type)>(options, source.config, open_adapter(options, source.config, {}).targets, training_needs));
  });
}
int64_t planned(const Options& options) {
  return with_session(options, [](const auto& session) { return session.arena.total(); });
}
std::string refused(const Options& options) {
  return refusal_of([&] { with_session(options, [](const auto& session) { session.require_fit(); }); }, kExitDoesNotFit);
}

// The pieces of a text between separators.
std::vector<std::string> pieces(std::string text, const std::string& separator) {
  std::vector<std::string> found;
  for (size_t at; (at = text.find(separator)) != std::string::npos; text.erase(0, at + separator.size()))
    found.push_back(text.substr(0, at));
  found.push_back(text);
  return found;
}

TEST(FitAdvice, WhatIsProposedFits) {
  int alone = 0, together = 0, hopeless = 0;
  for (const std::string& settings : std::vector<std::string>{
           "--batch-size 8 --seq-len 512 --dtype fp32", "--batch-size 8 --seq-len 512 --dtype fp32 --recompute full",
           "--batch-size 1 --seq-len 700 --dtype fp32 --weights bf16",
           "--batch-size 3 --seq-len 64 --dtype bf16 --eval-samples 9", "--batch-size 2 --seq-len 300 --dtype bf16 --train full",
           "--batch-size 1 --seq-len 16 --dtype bf16 --recompute full"}) {
    const int64_t asked = planned(plan_options(settings));
    for (const int percent : {99, 90, 75, 60, 45, 30, 20, 10, 5, 2}) {
      const std::string with_memory = fmt::format("{} --memory {}B", settings, asked * percent / 100);
      const Options options = plan_options(with_memory);
      const std::string message = refused(options);
      SCOPED_TRACE(with_memory + ": " + message);
      EXPECT_LT(message.size(), 300u);
      for (const OptionRow& row : option_rows()) {
        const std::string already = fmt::format("--{} {}", row.name, value_text(row, options));
        EXPECT_FALSE(value_text(row, options) != "" && says(message + " ", already + " ")) << already;
      }
      const size_t advice = message.find("it fits with ");
      if (advice == std::string::npos) {
        EXPECT_TRUE(says(message, "use a smaller model, or more memory"));
        const size_t even = message.find("even with ");
        if (even != std::string::npos) {
          const std::string least = message.substr(even + 10, message.find(" it needs") - even - 10);
          EXPECT_GT(planned(plan_options(with_memory + " " + least)), options.memory);
        }
        hopeless++;
        continue;
      }
      const auto proposals = pieces(message.substr(advice + 13), ", or with ");
      for (const std::string& proposal : proposals) {
        EXPECT_LE(planned(plan_options(with_memory + " " + proposal)), options.memory) << proposal;
        const std::vector<std::string> typed = words(proposal);
        (typed.size() == 2 ? alone : together)++;
        // One more of a number is too much; one setting less of several is too little.
        for (size_t i = 0; i < typed.size(); i += 2) {
          std::string more = with_memory;
          for (size_t k = 0; k < typed.size(); k += 2) {
            const bool number = std::isdigit(typed[k + 1][0]);
            if (k != i)
              more += fmt::format(" {} {}", typed[k], typed[k + 1]);
            else if (number && typed[k] != "--eval-samples")
              more += fmt::format(" {} {}", typed[k], std::stoll(typed[k + 1]) + 1);
          }
          try {
            EXPECT_GT(planned(plan_options(more)), options.memory) << more;
          } catch (const Error& error) {
            EXPECT_EQ(error.exit_code, kExitUsage) << "one that the others need";
          }
        }
      }
    }
  }
  EXPECT_GT(alone, 20);
  EXPECT_GT(together, 1);
  EXPECT_GT(hopeless, 5);
}

// With a planner of our own: bytes are rows times tokens, and a hundred less with recomputation.
int64_t area(const Options& o) { return o.batch_size * o.seq_len - (o.recompute == RecomputeOption::kNone ? 0 : 100); }

TEST(FitAdvice, Words) {
  const Options options = plan_options("--batch-size 10 --seq-len 100");
  EXPECT_EQ(fit_advice(options, 950, area), "it fits with --recompute selective, or with --batch-size 9, or with --seq-len 95");
  EXPECT_EQ(fit_advice(options, 850, area), "it fits with --batch-size 8, or with --seq-len 85");
  EXPECT_EQ(fit_advice(options, 300, area), "it fits with --batch-size 3") << "rows of 30 tokens are not what was asked for";
  EXPECT_EQ(fit_advice(options, 20, area), "it fits with --recompute selective --batch-size 1") << "no shorter rows than needed";
  EXPECT_EQ(fit_advice(options, -50, area), "it fits with --recompute selective --batch-size 1 --seq-len 50");
  EXPECT_EQ(fit_advice(options, -90, area),
            "even with --recompute selective --batch-size 1 --seq-len 16 it needs -84 B; use a smaller model, or more memory");
  EXPECT_EQ(fit_advice(plan_options("--batch-size 1 --seq-len 8 --recompute full"), -200, area),
            "use a smaller model, or more memory");
}

TEST(FitAdvice, AResumedRunKeepsWhatItMust) {
  const Options options = plan_options("--batch-size 10 --seq-len 100 --resume");
  EXPECT_EQ(fit_advice(options, 950, area), "it fits with --recompute selective");
  EXPECT_EQ(fit_advice(options, 800, area),
            "even with --recompute selective it needs 900 B; use a smaller model, or more memory");
}

}  // namespace
}  // namespace tll
