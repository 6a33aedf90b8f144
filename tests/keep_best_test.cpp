// --keep best and --patience: the result has the values of the lowest validation loss, also where a run was stopped or killed.
#include <cmath>

#include "src/commands/commands.h"
#include "tests/json_lines.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class KeepBest : public Run {
 protected:
  // The learning rate is so high that the loss falls, and then jumps.
  static inline const std::string kSettings =
      "--max-steps 12 --eval-steps 2 --save-steps 3 --schedule constant --lr 0.08 --threads 1 ";

  // As `kill -9` after so many steps: nothing is written at the end.
  void kill(const Options& options, int64_t steps) const {
    TrainingRun<float> run(options);
    run.start();
    run.evaluate_before();
    for (int64_t i = 0; i < steps && !run.finished(); i++) run.step();
  }
  Json result(const std::string& output) const {
    Json json = parse_json(bytes(output, "run.json"), "run.json").at("result");
    json.erase("output");
    return json;
  }
  // Metrics without what depends on the clock.
  std::vector<Json> metrics(const std::string& output) const {
    std::vector<Json> lines = json_lines(directory_ / output / "metrics.jsonl");
    for (Json& line : lines) line.erase("seconds"), line.erase("tokens_per_second");
    return lines;
  }
  // Loss and step of the best of the evaluations after step 0.
  std::pair<double, int64_t> best_of(const std::string& output) const {
    std::pair<double, int64_t> best{INFINITY, 0};
    for (const Json& line : metrics(output))
      if (line.contains("eval_loss") && line.at("step") > 0)
        best = std::min(best, {line.at("eval_loss").get<double>(), line.at("step").get<int64_t>()});
    return best;
  }
  void expect_equal(const std::string& a, const std::string& b, const char* file = "adapter_model.safetensors") const {
    EXPECT_TRUE(bytes(a, file) == bytes(b, file)) << "the values of the result";
    EXPECT_EQ(result(a), result(b));
    EXPECT_EQ(metrics(a), metrics(b));
    EXPECT_FALSE(fs::exists(directory_ / a / "best"));
    EXPECT_FALSE(fs::exists(directory_ / b / "best"));
  }
};

TEST_F(KeepBest, TheResultHasTheValuesOfTheLowestLoss) {
  for (const std::string variant :
       {"", "--train full ", "--lora-states bf16 ", "--dropout 0.1 ", "--train-embeddings --lr 0.04 "}) {
    SCOPED_TRACE(variant);
    const char* file = variant.starts_with("--train full") ? "model.safetensors" : "adapter_model.safetensors";
    train(parse("all", kSettings + variant + "--save-steps 1 --overwrite"));
    train(parse("best", kSettings + variant + "--keep best --overwrite"));
    const auto [loss, step] = best_of("best");
    ASSERT_GT(step, 0);
    if (variant.empty()) {
      ASSERT_LT(step, 12) << "the last values are the best: the test needs another learning rate";
    }
    EXPECT_TRUE(bytes("best", file) == bytes("all", fmt::format("checkpoint-{}/{}", step, file)));
    EXPECT_EQ(bytes("best", file) == bytes("all", file), step == 12);
    EXPECT_EQ(result("best").at("best"), (Json{{"step", step}, {"loss", loss}}));
    EXPECT_EQ(result("best").at("after").at("loss"), loss) << "the last evaluation is of these values";
    EXPECT_EQ(result("best").at("stopped_early"), false);
    EXPECT_FALSE(fs::exists(directory_ / "best/best"));
    EXPECT_TRUE(fs::exists(directory_ / "best/checkpoint-9/best.safetensors"));
    EXPECT_FALSE(result("all").contains("best"));
    // The last step is evaluated as well, and the last checkpoint is of it.
    std::vector<int64_t> evaluated;
    for (const Json& line : metrics("best"))
      if (line.contains("eval_loss")) evaluated.push_back(line.at("step"));
    EXPECT_EQ(evaluated, (std::vector<int64_t>{0, 2, 4, 6, 8, 10, 12}));
    EXPECT_TRUE(bytes("best", std::string("checkpoint-12/") + file) == bytes("all", std::string("checkpoint-12/") + file));
  }
}

TEST_F(KeepBest, TheLastValuesMayBeTheBest) {
  const std::string settings =
      "--max-steps 5 --eval-steps 2 --lr 1e-3 --valid-data " + (directory_ / "data.jsonl").string() + " ";
  train(parse("last", settings));
  train(parse("best", settings + "--keep best"));
  EXPECT_EQ(best_of("best").second, 5);
  EXPECT_TRUE(bytes("best", "adapter_model.safetensors") == bytes("last", "adapter_model.safetensors"));
  EXPECT_EQ(result("best").at("best").at("step"), 5);
}

TEST_F(KeepBest, SurvivesKillsAndSignals) {
  for (const std::string variant : {"", "--train full "}) {
    const std::string settings = kSettings + variant + "--keep best ";
    const char* file = variant.empty() ? "adapter_model.safetensors" : "model.safetensors";
    train(parse("whole", settings + "--overwrite"));
    for (const int64_t stop : {0, 2, 3, 5, 8, 12}) {
      if (!variant.empty() && stop != 5) continue;
      SCOPED_TRACE(testing::Message() << variant << "after step " << stop);
      fs::remove_all(directory_ / "killed");
      kill(parse("killed", settings), stop);
      EXPECT_EQ(fs::exists(directory_ / "killed/best"), stop >= 2) << "what was the best until then is kept";
      train(parse("killed", settings + "--resume"));
      expect_equal("whole", "killed", file);
      fs::remove_all(directory_ / "stopped");
      train(parse("stopped", settings), stop);
      train(parse("stopped", settings + "--resume"), 1);
      train(parse("stopped", settings + "--resume"));
      expect_equal("whole", "stopped", file);
    }
  }
}

// The run that was killed had found better values than the checkpoint knows, and is not to have them.
TEST_F(KeepBest, ACheckpointHoldsTheBestOfItsOwnStep) {
  const std::string settings = kSettings + "--keep best ";
  train(parse("whole", settings));
  const int64_t step = best_of("whole").second;
  ASSERT_GT(step, 3) << "the test needs another learning rate";
  const std::string shorter = settings + "--max-steps 4 ";
  train(parse("shorter", shorter));
  kill(parse("killed", settings), step + 1);
  for (int64_t later = 4; later <= 12; later++) fs::remove_all(directory_ / fmt::format("killed/checkpoint-{}", later));
  train(parse("killed", shorter + "--resume"));
  EXPECT_EQ(result("shorter").at("best"), result("killed").at("best"));
  EXPECT_TRUE(bytes("shorter", "adapter_model.safetensors") == bytes("killed", "adapter_model.safetensors"));
  // A checkpoint elsewhere has all that a run needs.
  const fs::path away = directory_ / "away/checkpoint-9";
  fs::create_directories(away);
  fs::copy(directory_ / "whole/checkpoint-9", away);
  train(parse("elsewhere", settings + "--resume " + away.string()));
  EXPECT_TRUE(bytes("whole", "adapter_model.safetensors") == bytes("elsewhere", "adapter_model.safetensors"));
  EXPECT_EQ(result("whole").at("best"), result("elsewhere").at("best"));
}

// Whose directory another run was in.
TEST_F(KeepBest, ARunThatGoesOnElsewhereLeavesWhatAnotherKept) {
  const std::string settings = kSettings + "--keep best ";
  train(parse("whole", settings));
  const fs::path away = directory_ / "away/checkpoint-9";
  fs::create_directories(away);
  fs::copy(directory_ / "whole/checkpoint-9", away);
  const Json best = parse_json(read_file(away / "state.json"), "").at("best");
  ASSERT_LT(best.at("step"), 9) << best;
  kill(parse("other", settings + "--seed 7"), 5);
  const std::string others = bytes("other", "best/adapter_model.safetensors");
  {
    TrainingRun<float> run(parse("other", settings + "--resume " + away.string()));
    run.start();
    EXPECT_TRUE(bytes("other", "best/adapter_model.safetensors") == read_file(away / "best.safetensors"));
  }
  EXPECT_TRUE(bytes("other", "earlier-1/best/adapter_model.safetensors") == others);
  train(parse("other", settings + "--resume " + away.string()));
  EXPECT_TRUE(bytes("whole", "adapter_model.safetensors") == bytes("other", "adapter_model.safetensors"));
  EXPECT_EQ(result("whole").at("best"), result("other").at("best"));
}

TEST_F(KeepBest, MoreStepsGoOnFromTheLastOnes) {
  train(parse("whole", kSettings + "--keep best"));
  train(parse("more", kSettings + "--keep best --max-steps 7"));
  train(parse("more", kSettings + "--keep best --resume"));
  EXPECT_TRUE(bytes("whole", "adapter_model.safetensors") == bytes("more", "adapter_model.safetensors"));
  EXPECT_EQ(result("whole").at("best"), result("more").at("best"));
}

TEST_F(KeepBest, DamagedBestValuesAreRefused) {
  kill(parse("run", kSettings + "--keep best"), 7);
  std::string values = bytes("run", "checkpoint-6/best.safetensors");
  values.back() ^= 1;
  write_file_atomic(directory_ / "run/checkpoint-6/best.safetensors", values);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", kSettings + "--keep best --resume")); }), "best.safetensors"));
}

TEST_F(KeepBest, CanBeginInARunThatKeptTheLast) {
  train(parse("run", kSettings + "--patience 9"), 5);
  train(parse("run", kSettings + "--keep best --resume"));
  EXPECT_GT(result("run").at("best").at("step"), 5);
}

TEST_F(KeepBest, ANewRunDropsWhatAnotherKept) {
  kill(parse("run", kSettings + "--keep best"), 5);
  ASSERT_TRUE(fs::exists(directory_ / "run/best/adapter_model.safetensors"));
  train(parse("run", "--max-steps 1"));
  EXPECT_FALSE(fs::exists(directory_ / "run/best"));
  EXPECT_TRUE(fs::exists(directory_ / "run/earlier-1/best/adapter_model.safetensors"));
}

TEST_F(KeepBest, PatienceEndsTheRun) {
  for (const std::string keep : {"--keep best ", ""}) {
    const std::string settings = kSettings + keep + "--max-steps 40 --patience 2 ";
    train(parse("whole", settings + "--overwrite"));
    const Json whole = result("whole");
    const int64_t last = whole.at("steps"), step = whole.at("best").at("step");
    ASSERT_LT(last, 40);
    EXPECT_EQ(last, step + 4) << "two evaluations after the best one";
    EXPECT_EQ(whole.at("stopped_early"), true);
    EXPECT_EQ(whole.at("evaluations_without_better"), 2);
    EXPECT_EQ(whole.at("finished"), true);
    EXPECT_EQ(best_of("whole").second, step);
    int lines = 0;
    for (const Json& line : metrics("whole")) lines += line.contains("eval_loss") && line.at("step") == last;
    EXPECT_EQ(lines, 1) << "the last evaluation is logged once";
    for (int64_t stop = 0; stop <= last; stop += 3) {
      SCOPED_TRACE(testing::Message() << keep << "after step " << stop);
      fs::remove_all(directory_ / "killed");
      kill(parse("killed", settings), stop);
      train(parse("killed", settings + "--resume"));
      expect_equal("whole", "killed");
      fs::remove_all(directory_ / "stopped");
      train(parse("stopped", settings), stop);
      train(parse("stopped", settings + "--resume"));
      expect_equal("whole", "stopped");
    }
    const std::string adapter = bytes("whole", "adapter_model.safetensors");
    train(parse("whole", settings + "--resume"));
    EXPECT_TRUE(bytes("whole", "adapter_model.safetensors") == adapter) << "it is done";
    EXPECT_EQ(result("whole"), whole);
    train(parse("whole", settings + "--resume --patience 3"));
    EXPECT_GT(result("whole").at("steps"), last) << "and goes on with more patience";
  }
}

TEST_F(KeepBest, AStopInTheLastEvaluationIsNoResult) {
  struct StopsAt : PhaseView {
    int64_t after;
    bool stopped = false;
    explicit StopsAt(int64_t n) : after(n), before(set_phase_view(this)) {}
    ~StopsAt() override { set_phase_view(before); }
    void show(const char* activity, int64_t done, int64_t) override {
      if (std::string_view(activity) != "evaluating" || done == 0 || stopped || after-- > 0) return;
      stopped = true;
      throw Stopped(activity);
    }
    void end() override {}
    PhaseView* before;
  };
  const std::string settings = "--max-steps 4 --eval-steps 3 --keep best --eval-on-start off ";
  train(parse("whole", settings));
  {
    const StopsAt stops(1);  // behind the batch of the evaluation of step 3, in that of step 4
    train(parse("parts", settings));
    ASSERT_TRUE(stops.stopped);
  }
  EXPECT_EQ(result("parts").at("finished"), false);
  EXPECT_TRUE(fs::exists(directory_ / "parts/checkpoint-4"));
  EXPECT_FALSE(fs::exists(directory_ / "parts/adapter_model.safetensors"));
  train(parse("parts", settings + "--resume"));
  expect_equal("whole", "parts");
}

TEST_F(KeepBest, NeedsEvaluationsToCompare) {
  for (const std::string option : {"--keep best", "--patience 2", "--load_best_model_at_end", "--early_stopping_patience 2"}) {
    EXPECT_TRUE(says(refusal_of([&] { parse("run", option); }, kExitUsage), "--eval-steps")) << option;
    EXPECT_TRUE(
        says(refusal_of([&] { train(parse("run", option + " --eval-steps 2 --valid-split 0")); }, kExitUsage), "--valid-split"))
        << option;
    EXPECT_FALSE(fs::exists(directory_ / "run"));
  }
  EXPECT_EQ(parse("run", "--load_best_model_at_end true --eval-steps 2").keep, KeepOption::kBest);
  EXPECT_EQ(parse("run", "--load_best_model_at_end false").keep, KeepOption::kLast);
  EXPECT_EQ(parse("run", "--early_stopping_patience 3 --eval_steps 2").patience, 3);
}

}  // namespace
}  // namespace tll
