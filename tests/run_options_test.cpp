#include "src/options/run_options.h"

#include <gtest/gtest.h>

#include <functional>

#include "src/base/file.h"
#include "src/options/option_table.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"
#include "tests/words.h"

namespace tll {
namespace {

class RunOptionsTest : public testing::Test {
 protected:
  // The run.json of a run with these arguments, changed by `change`.
  std::string file(
      const std::string& arguments, const std::function<void(Json&)>& change = [](Json&) {}) const {
    const Options options = parse_options(words(arguments));
    Json run = {{"run", "0123456789abcdef"},
                {"program", {{"version", "9.9.9"}}},
                {"options", options_json(options)},
                {"given", options.given_names},
                {"result", Json()}};
    change(run);
    const std::filesystem::path path = directory_ / "out" / "run.json";
    std::filesystem::create_directories(path.parent_path());
    write_json(path, run);
    return path.string();
  }
  static Options parse(const std::string& arguments) { return parse_options(words(arguments)); }
  static std::string refusal(const std::string& arguments) {
    return refusal_of([&] { parse(arguments); });
  }

  const TemporaryDirectory directory_;
};

// One value away from the default for every option that a training run takes, so that none is forgotten.
TEST_F(RunOptionsTest, EveryOptionComesBack) {
  std::string arguments = "train --data d --output o";
  for (const OptionRow& row : option_rows()) {
    const bool kept =
        !(row.name == "resume" || row.name == "reschedule" || row.name == "overwrite" || row.name == "config" ||
          row.name == "plan" || row.name == "json" || row.name == "quiet" || row.name == "profile" || row.name == "help" ||
          row.name == "man" || row.name == "version" || row.name == "data" || row.name == "output" || row.name == "effective-batch");
    if (!row.taken_by(Command::kTrain) || !kept) continue;
    const std::string usual = default_text(row, Command::kTrain);
    for (const char* other : {"off", "on", "none", "cpu", "7", "0.25", "x=y"}) {
      const std::string_view text = row.choices.size() > 1 && row.nothing.empty() && !accepts_value(row, other)
                                        ? row.choices.back()
                                        : std::string_view(other);
      if (text == usual || !accepts_value(row, text) || (row.size && text != "off")) continue;
      arguments += fmt::format(" --{}={}", row.name, text);
      break;
    }
  }
  const Options first = parse(arguments);
  const Options again = parse("--config " + file(arguments));
  EXPECT_EQ(options_json(again), options_json(first)) << arguments;
  EXPECT_EQ(again.given_names, first.given_names);
  EXPECT_GT(first.given_names.size(), 40u) << "most options are among them";
}

TEST_F(RunOptionsTest, WhatIsTypedWins) {
  const std::string run = file("train --data d --rank 4 --lr 1e-3 --targets q,v --packing off --memory 3GiB");
  const Options options = parse("train --lr 5e-4 --config=" + run + " --output other --packing");
  EXPECT_EQ(options.lr, 5e-4);
  EXPECT_EQ(options.output, "other");
  EXPECT_TRUE(options.packing);
  EXPECT_EQ(options.rank, 4);
  EXPECT_EQ(options.targets, words("q_proj v_proj"));
  EXPECT_EQ(options.memory, int64_t{3} << 30);
  EXPECT_EQ(options.data, "d");
  EXPECT_TRUE(options.given("rank"));
  EXPECT_FALSE(options.given("alpha")) << "nobody gave it";
  EXPECT_FALSE(options.given("config"));
  EXPECT_TRUE(options.config.empty()) << "no config.json of a model";
}

TEST_F(RunOptionsTest, WhatIsOfOneRunStaysThere) {
  const std::string run = file("train --data d --overwrite --resume --reschedule --quiet --json");
  const Options options = parse("--config " + run);
  EXPECT_FALSE(options.overwrite || options.resume || options.reschedule || options.quiet || options.json);
  EXPECT_TRUE(parse("--resume --config " + run).resume);
  EXPECT_EQ(parse("--config " + file("train --data d --config model.json --init random")).config, "model.json");
}

TEST_F(RunOptionsTest, OtherCommands) {
  const std::string run = file("train --data d --model m --rank 4 --output o --valid-split 0.2 --seq-len 77");
  const Options plan = parse("plan --gpu T4 --config " + run);
  EXPECT_EQ(plan.command, Command::kPlan);
  EXPECT_EQ(plan.rank, 4);
  EXPECT_EQ(plan.seq_len, 77);
  const Options evaluate = parse("evaluate --config " + run);
  EXPECT_EQ(evaluate.data, "d");
  EXPECT_EQ(evaluate.model, "m");
  EXPECT_EQ(evaluate.adapter, directory_ / "out") << "where run.json lies";
  EXPECT_EQ(evaluate.valid_split, 0.2);
  EXPECT_TRUE(evaluate.output.empty()) << "of train it is a directory, of evaluate a file";
  EXPECT_EQ(parse("generate --adapter a --prompt x --config " + run).adapter, "a");
  EXPECT_EQ(parse("generate --prompt x --config " + file("train --data d --train full")).model, directory_ / "out");
  EXPECT_EQ(parse("train --plan --config " + run).command, Command::kPlan);
}

TEST_F(RunOptionsTest, AChosenBatchDoesNotHoldFastAnother) {
  const std::string run = file("train --data d --batch-size auto --effective-batch 32",
                               [](Json& json) { json["options"]["batch_size"] = 8, json["options"]["grad_accum"] = 4; });
  const Options again = parse("--config " + run);
  EXPECT_EQ(again.batch_size, 8);
  EXPECT_EQ(again.grad_accum, 4);
  EXPECT_EQ(parse("--batch-size 2 --config " + run).effective_batch, 0);
}

TEST_F(RunOptionsTest, OtherVersionsAreNamed) {
  const std::string unknown =
      file("train --data d", [](Json& json) { json["options"]["flux"] = 7, json["options"]["warp"] = "on"; });
  testing::internal::CaptureStderr();
  parse("--config " + unknown);
  const std::string note = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(says(note, "\"flux\", \"warp\" are not known here and are left out; the file is of version 9.9.9")) << note;

  const std::string wrong = file("train --data d", [](Json& json) { json["options"]["optimizer"] = "lion"; });
  const std::string refused = refusal("--config " + wrong);
  EXPECT_TRUE(says(refused,
                   "run.json: \"optimizer\" expects one of adamw, adamw8bit, found \"lion\"; the file is of version "
                   "9.9.9; --optimizer chooses another value"))
      << refused;
  EXPECT_EQ(parse("--optimizer adamw --config " + wrong).optimizer, OptimizerKind::kAdamw);
  for (const Json& value : {Json::object(), Json::parse("[1]"), Json(1.5), Json(-3)}) {
    const std::string odd = file("train --data d", [&](Json& json) { json["options"]["rank"] = value; });
    EXPECT_TRUE(says(refusal("--config " + odd), "\"rank\" expects a whole number")) << value;
  }
}

TEST_F(RunOptionsTest, AFileWithoutWhatWasGiven) {
  const std::string run = file("train --data d --rank 4", [](Json& json) { json.erase("given"); });
  const Options options = parse("--config " + run);
  EXPECT_TRUE(options.given("rank")) << "it is not the default";
  EXPECT_FALSE(options.given("alpha"));
}

TEST_F(RunOptionsTest, OtherFilesAreNoRuns) {
  EXPECT_FALSE(read_run_options(directory_ / "missing"));
  EXPECT_FALSE(read_run_options(directory_.path()));
  for (const char* text : {"", "{", "[]", "7", R"({"hidden_size":64})", R"({"run":"x","options":[]})", "\xff\xfe"}) {
    directory_.write("file", text);
    EXPECT_FALSE(read_run_options(directory_ / "file")) << text;
  }
  directory_.write("config.json", R"({"hidden_size":64})");
  EXPECT_EQ(parse("plan --config " + (directory_ / "config.json").string()).config, directory_ / "config.json");
}

TEST(CommandLine, CanBeCopiedAndHoldsNoSecret) {
  EXPECT_EQ(command_line({"train", "--data", "my file.json", "--system", "It's", "--lr=1e-3", ""}),
            "./train_llama_lora train --data 'my file.json' --system 'It'\\''s' --lr=1e-3 ''");
  EXPECT_EQ(command_line({"--hf-token", "abc", "--wandb_api_key=xyz", "--hub_token", "def", "--max-new-tokens", "5"}),
            "./train_llama_lora --hf-token *** --wandb_api_key=*** --hub_token *** --max-new-tokens 5");
  EXPECT_EQ(command_line({"--use-auth-token", "--rank", "4"}), "./train_llama_lora --use-auth-token --rank 4");
}

}  // namespace
}  // namespace tll
