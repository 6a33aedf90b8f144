// --sample-prompt: what is shown, where it is written, and that it changes nothing of the run.
#include <gtest/gtest.h>

#include "tests/json_lines.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

class Sample : public Run {
 protected:
  Sample() {
    directory_.write("questions.json", R"({"data":[
      {"title":"one","paragraphs":[{"context":"The cat sat.","qas":[
        {"id":"a","question":"Who?","answers":[{"text":"The cat","answer_start":0}]},
        {"id":"b","question":"Did what?","answers":[{"text":"sat","answer_start":8}]}]}]},
      {"title":"two","paragraphs":[{"context":"A dog ran.","qas":[
        {"id":"c","question":"Who?","answers":[{"text":"dog","answer_start":2}]}]}]}]})");
  }
  Options demo(const std::string& output, const std::vector<std::string>& more) const {
    std::vector<std::string> all =
        words("train --model data/demo --data " + (directory_ / "questions.json").string() + " --output " +
              (directory_ / output).string() +
              " --seq-len 64 --batch-size 1 --dtype fp32 --threads 1 --quiet --valid-split 0.4 --lr 1e-3 "
              "--eval-samples 0 --max-steps 4 --eval-steps 2");
    all.insert(all.end(), more.begin(), more.end());
    Options options = parse_options(all);
    resolve_options(options);
    return options;
  }
  std::vector<std::pair<int64_t, std::string>> samples(const std::string& output) const {
    std::vector<std::pair<int64_t, std::string>> found;
    for (const Json& line : json_lines(directory_ / output / "metrics.jsonl"))
      if (line.contains("sample")) found.emplace_back(line.at("step"), line.at("sample"));
    return found;
  }
};

TEST_F(Sample, IsShownAtEveryEvaluationAndChangesNoBit) {
  const std::string prompt = "Context: The cat sat.\nQuestion: Who?\nAnswer:";
  train(demo("without", {}));
  train(demo("with", {"--sample-prompt", prompt}));
  EXPECT_TRUE(bytes("without", "adapter_model.safetensors") == bytes("with", "adapter_model.safetensors"));
  EXPECT_TRUE(samples("without").empty());
  const auto shown = samples("with");
  ASSERT_EQ(shown.size(), 3u);
  for (size_t i = 0; i < 3; i++) EXPECT_EQ(shown[i].first, int64_t(2 * i)) << "before the first step, between, and at the end";
  EXPECT_FALSE(shown[0].second.empty());
  // The last one is what the result says.
  TrainingRun<float> run(demo("again", {"--sample-prompt", prompt, "--init-adapter", (directory_ / "with").string()}));
  run.start();
  run.evaluate_before();
  EXPECT_EQ(samples("again").at(0).second, shown[2].second);
}

TEST_F(Sample, AResumedRunRepeatsNone) {
  const std::vector<std::string> prompt = {"--sample-prompt", "The cat"};
  train(demo("whole", prompt));
  train(demo("parts", prompt), 0);
  std::vector<std::string> resumed = prompt;
  resumed.push_back("--resume");
  for (const int64_t stop : {2, 1, 1}) train(demo("parts", resumed), stop);
  train(demo("parts", resumed), kInLastEvaluation);
  train(demo("parts", resumed));
  EXPECT_EQ(samples("whole"), samples("parts"));
  EXPECT_TRUE(bytes("whole", "adapter_model.safetensors") == bytes("parts", "adapter_model.safetensors"));
}

TEST_F(Sample, NeedsATokenizerAndRoom) {
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--sample-prompt x")); }, kExitUsage), "tokenizer"));
  std::string prompt;
  for (int i = 0; i < 100; i++) prompt += "a long prompt ";
  const std::string message = refusal_of([&] { train(demo("run", {"--sample-prompt", prompt})); }, kExitUsage);
  EXPECT_TRUE(says(message, "--sample-prompt has"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run"));
}

}  // namespace
}  // namespace tll
