// The program itself, as a shell runs it: what is printed where, exit codes, signals.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "src/base/file.h"
#include "src/base/json.h"
#include "tests/json_lines.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;
constexpr const char* kProgram = "./train_llama_lora";

class Program : public testing::Test {
 protected:
  Program() {
    std::ofstream data(directory_ / "data.jsonl");
    for (int d = 0; d < 20; d++) {
      data << "{\"input_ids\":[";
      for (int t = 0; t < 5 + d; t++) data << (t ? "," : "") << (d * 31 + t * t * 7 + 3) % 64;
      data << "]}\n";
    }
    std::ofstream(directory_ / "questions.json") << R"({"data":[{"title":"one","paragraphs":[{"context":"The cat sat.","qas":[
      {"id":"a","question":"Who?","answers":[{"text":"The cat","answer_start":0}]},
      {"id":"b","question":"Did what?","answers":[{"text":"sat","answer_start":8}]}]}]},
      {"title":"two","paragraphs":[{"context":"A dog ran.","qas":[
      {"id":"c","question":"Who?","answers":[{"text":"dog","answer_start":2}]}]}]}]})";
  }
  void SetUp() override {
    if (!fs::exists(kProgram)) GTEST_SKIP() << kProgram << " has not been built";
  }

  // Runs a bash command line in which $p is the program and $d the directory; returns its exit status.
  int shell(const std::string& command) const {
    const std::string line = "p=" + std::string(kProgram) + " d=" + directory_.path().string() + "; " + command;
    directory_.write("command.sh", line);
    const int status = std::system(("bash " + (directory_ / "command.sh").string()).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string text(const std::string& file) const { return read_file(directory_ / file); }
  Json printed() const { return parse_json(text("printed"), "printed"); }

  static inline const std::string kTrain =
      "$p train --model tests/goldens/gqa_tied --data $d/data.jsonl --seq-len 32 --threads 1 --dtype fp32 --output $d/out ";
  static inline const std::string kDemo = "--model data/demo --data $d/questions.json ";
  const TemporaryDirectory directory_;
};

// OMP_DISPLAY_ENV makes libgomp print its settings each time that it is loaded.
TEST_F(Program, BoundsHowLongItsThreadsSpin) {
  const std::string clean = "env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT -u KMP_BLOCKTIME -u KMP_LIBRARY OMP_DISPLAY_ENV=verbose ";
  const auto settings = [this](const std::string& command) {
    EXPECT_EQ(shell(command + " > $d/printed 2> $d/notes"), 0) << command;
    std::istringstream lines(text("notes"));
    std::vector<std::string> found;
    for (std::string line; std::getline(lines, line);)
      if (line.find("GOMP_SPINCOUNT") != std::string::npos) found.push_back(line);
    return found;
  };
  const std::string encode = "echo '\"a  cat\"' | ", encoder = "$p tokenize --model data/demo --json";
  const std::vector<std::string> ours = settings(encode + clean + encoder);
  const std::string printed = text("printed");
  ASSERT_EQ(ours.size(), 2u) << "the program is started once more, and only once";
  EXPECT_NE(ours[0], ours[1]);
  const std::vector<std::string> users = settings(encode + clean + "GOMP_SPINCOUNT=77 " + encoder);
  ASSERT_EQ(users.size(), 1u);
  EXPECT_NE(users[0].find("'77'"), std::string::npos) << users[0];
  EXPECT_EQ(text("printed"), printed) << "standard input and the arguments are the same in both";
  EXPECT_EQ(settings(clean + "OMP_WAIT_POLICY=active $p help").size(), 1u);
  const std::string loader = "$(ls /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 2> /dev/null | head -1)";
  EXPECT_EQ(settings(clean + loader + " $p help").size(), 1u) << "the dynamic loader's command line stays as it is";
}

TEST_F(Program, AClosedStreamIsNoFile) {
  ASSERT_EQ(shell(kTrain + "--max-steps 3 >&- 2>&- <&-"), 0);
  const std::vector<Json> lines = json_lines(directory_ / "out/metrics.jsonl");
  for (const Json& line : lines) EXPECT_TRUE(line.is_object()) << line;
  EXPECT_EQ(lines.size(), 3u + 2) << "three steps, and the evaluations before and after";
}

TEST_F(Program, AResultThatCannotBePrintedIsAnError) {
  for (const std::string& command : std::vector<std::string>{
           "$p help", "$p --man", "$p plan --model tests/goldens/gqa_tied --json",
           "$p prepare --quiet --json --output $d/x.bin " + kDemo, "echo '\"hi\"' | $p tokenize --model data/demo",
           "$p show " + kDemo, kTrain + "--max-steps 1 --json"}) {
    EXPECT_EQ(shell(command + " > /dev/full 2> $d/errors"), 1) << command;
    EXPECT_TRUE(text("errors").starts_with("error: ")) << command << ": " << text("errors");
  }
}

TEST_F(Program, TrainingGoesOnWhenNobodyReads) {
  EXPECT_EQ(shell(kTrain + "--max-steps 50 | true; exit ${PIPESTATUS[0]}"), 0);
  EXPECT_TRUE(fs::exists(directory_ / "out/adapter_model.safetensors"));
}

TEST_F(Program, WithJsonTheResultAloneIsOnStandardOutput) {
  ASSERT_EQ(shell(kTrain + "--max-steps 2 --json > $d/printed"), 0);
  EXPECT_EQ(printed().at("steps"), 2);
}

TEST_F(Program, SignalsStopWithACheckpoint) {
  for (const char* signal : {"INT", "TERM", "HUP"}) {
    const std::string stop =
        std::string("pid=$!; until grep -q loss $d/out/metrics.jsonl 2> /dev/null; do sleep 0.02; done; kill -") + signal +
        " $pid; wait $pid";
    EXPECT_EQ(shell("rm -rf $d/out; " + kTrain + "--valid-split 0 --max-steps 100000000 > $d/printed & " + stop), 130) << signal;
    EXPECT_TRUE(says(text("printed"), "--resume")) << signal;
    bool found = false;
    for (const auto& entry : fs::directory_iterator(directory_ / "out"))
      found = found || entry.path().filename().string().starts_with("checkpoint-");
    EXPECT_TRUE(found) << signal;
    EXPECT_EQ(parse_json(text("out/run.json"), "run.json").at("result").at("interrupted"), true) << signal;
  }
}

TEST_F(Program, OldCheckpointsAreNotCountedAmongTheNew) {
  ASSERT_EQ(shell(kTrain + "--quiet --max-steps 9 --save-steps 9"), 0);
  ASSERT_EQ(shell(kTrain + "--quiet --max-steps 4 --save-steps 1 --save-total-limit 2 2> $d/notes"), 0);
  EXPECT_TRUE(says(text("notes"), "checkpoint-9 is of an earlier run"));
  for (const auto& [step, kept] : {std::pair{1, false}, {2, false}, {3, true}, {4, true}, {9, true}})
    EXPECT_EQ(fs::exists(directory_ / ("out/checkpoint-" + std::to_string(step))), kept) << step;
}

TEST_F(Program, ShowPrintsTheSplitThatIsAskedFor) {
  for (const char* split : {"train", "validation"}) {
    ASSERT_EQ(shell("$p show --json --docs 10 --valid-split 0.5 --split " + std::string(split) + " " + kDemo + "> $d/printed"),
              0);
    const std::vector<Json> lines = json_lines(directory_ / "printed");
    for (const Json& line : lines) EXPECT_EQ(line.at("split"), split);
    EXPECT_GT(lines.size(), 0u);
    EXPECT_LT(lines.size(), 3u);
  }
}

TEST_F(Program, ShowNeedsNoLimitOfLengthAndNoTargets) {
  ASSERT_EQ(shell("$p prepare --quiet --output $d/long.bin --seq-len 2000 " + kDemo), 0);
  EXPECT_EQ(shell("$p show --model data/demo --data $d/long.bin --docs 1 > $d/printed"), 0);
  EXPECT_EQ(shell("$p show --model data/demo --data $d/long.bin --docs 1 --seq-len 8 > $d/printed 2>&1"), 4);
}

TEST_F(Program, EvaluateWritesPredictionsAndTakesSamplesWithoutTargets) {
  std::ofstream(directory_ / "masked.jsonl") << "{\"input_ids\":[1,2,3]}\n{\"input_ids\":[4,5],\"labels\":[-100,-100]}\n";
  ASSERT_EQ(shell("$p evaluate --json --model tests/goldens/gqa_tied --data $d/masked.jsonl > $d/printed 2> $d/notes"), 0);
  EXPECT_EQ(printed().at("samples"), 2);
  EXPECT_EQ(printed().at("target_tokens"), 2);
  ASSERT_EQ(shell("$p evaluate --json --init random --max-new-tokens 3 --output $d/answers.json " + kDemo + "> $d/printed"), 0);
  EXPECT_EQ(printed().at("questions"), 3);
  EXPECT_EQ(parse_json(text("answers.json"), "answers.json").size(), 3u);
}

TEST_F(Program, GenerateChoosesOnlyIdsOfTheTokenizer) {
  fs::create_directory(directory_ / "padded");  // a model with more ids than its tokenizer, drawn nearly evenly
  for (const char* file : {"tokenizer.model", "tokenizer_config.json"})
    fs::copy_file(std::string("data/demo/") + file, directory_ / "padded" / file);
  std::string config = read_file("data/demo/config.json");
  const std::string ids = "\"vocab_size\": 1024";
  ASSERT_NE(config.find(ids), std::string::npos);
  directory_.write("padded/config.json", config.replace(config.find(ids), ids.size(), "\"vocab_size\": 4096"));
  const std::string command =
      "$p generate --init random --model $d/padded --prompt 'The cat' --temperature 2 --max-new-tokens 20 --json";
  ASSERT_EQ(shell(command + " > $d/printed"), 0);
  EXPECT_LE(printed().at("ids").size(), 20u);
}

TEST_F(Program, DumpTakesWholeDocuments) {
  std::ofstream long_one(directory_ / "long.jsonl");
  long_one << "{\"input_ids\":[1";
  for (int i = 0; i < 1500; i++) long_one << "," << i % 64;
  long_one << "]}\n{\"input_ids\":[4,5],\"labels\":[-100,-100]}\n";
  long_one.close();
  ASSERT_EQ(
      shell(
          "$p dump --json --dtype fp32 --docs 2 --model tests/goldens/gqa_tied --data $d/long.jsonl --output $d/x > $d/printed"),
      0);
  EXPECT_EQ(printed().at("documents"), 2);
  EXPECT_EQ(printed().at("target_tokens"), 1500);
}

}  // namespace
}  // namespace tll
