// The program itself, as a shell runs it: what is printed where, exit codes, signals.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

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

TEST_F(Program, SaysWhatItWasBuiltFrom) {
  ASSERT_EQ(shell("$p --version > $d/text && $p version > $d/same && cmp $d/text $d/same && $p --version --json > $d/printed"),
            0);
  EXPECT_TRUE(text("text").starts_with("train_llama_lora "));
  const Json facts = printed();
  for (const char* name : {"name", "version", "commit", "compiler", "instruction sets", "CUDA", "libraries"}) {
    ASSERT_TRUE(facts.contains(name)) << name;
    EXPECT_TRUE(says(text("text"), facts.at(name).get<std::string>()));
  }
  ASSERT_EQ(shell(kTrain + "--max-steps 1 --quiet"), 0);
  EXPECT_EQ(parse_json(text("out/run.json"), "run.json").at("program"), facts);
}

TEST_F(Program, TheCommitOfASourceArchive) {
  const std::string copy = "mkdir -p $d/dev && cp dev/build_facts.sh dev/commit.txt $d/dev && ";
  ASSERT_EQ(shell(copy + "$d/dev/build_facts.sh $d/facts"), 0);
  EXPECT_TRUE(says(text("facts"), "'-DTLL_COMMIT=\"unknown\"'")) << "neither a checkout nor an archive";
  EXPECT_TRUE(says(text("facts"), "'-DTLL_CUDA=\"none\"'"));
  ASSERT_EQ(shell("echo 0123abc > $d/dev/commit.txt && $d/dev/build_facts.sh $d/facts"), 0);
  EXPECT_TRUE(says(text("facts"), "'-DTLL_COMMIT=\"0123abc\"'"));
  ASSERT_EQ(shell("touch -d 2001-01-01 $d/facts && $d/dev/build_facts.sh $d/facts && test $d/facts -ot $d/dev/commit.txt"), 0)
      << "the same facts are not written again";
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

// A validation of 20,000 batches, before, between and after the steps.
TEST_F(Program, SignalsStopAnEvaluation) {
  ASSERT_EQ(shell("for i in {1..20000}; do echo '{\"input_ids\":[1,2,3,4,5,6,7,8]}'; done > $d/valid.jsonl"), 0);
  const std::string train = kTrain + "--valid-data $d/valid.jsonl --eval-docs 0 --packing off --batch-size 1 --quiet ";
  const std::string stop = "pid=$!; until [ -e $d/out/$awaited ]; do sleep 0.02; done; sleep 0.1; kill -TERM $pid; wait $pid";
  for (const auto& [options, awaited, step] :
       {std::tuple("--max-steps 5", "run.json", 0),
        std::tuple("--max-steps 5 --eval-steps 2 --save-steps 2 --eval-on-start off", "checkpoint-2", 2),
        std::tuple("--max-steps 3 --eval-on-start off", "adapter_model.safetensors", 3)}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(shell("rm -rf $d/out; awaited=" + std::string(awaited) + "; " + train + options + " & " + stop), 130) << options;
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20)) << options;
    const Json result = parse_json(text("out/run.json"), "run.json").at("result");
    EXPECT_EQ(result.at("steps"), step);
    EXPECT_EQ(result.at("finished"), step == 3);
    EXPECT_EQ(fs::exists(directory_ / fmt::format("out/checkpoint-{}/state.json", step)), step > 0);
  }
}

TEST_F(Program, AFullDiskKeepsWhatItCan) {
  // A file system of 300 KiB, in name spaces of its own.
  if (shell("unshare -rm mount -t tmpfs none $d 2> /dev/null") != 0) GTEST_SKIP() << "no mount name space can be made here";
  fs::create_directory(directory_ / "small");
  directory_.write("inside.sh",
                   "p=" + std::string(kProgram) + " d=" + directory_.path().string() +
                       "; mount -t tmpfs -o size=300k none $d/small; " + kTrain +
                       "--output $d/small/out --rank 4 --max-steps 40 --save-steps 5 --quiet --valid-split 0 2> $d/errors; "
                       "echo $? > $d/code; ls -A $d/small/out > $d/listed");
  ASSERT_EQ(shell("unshare -rm bash $d/inside.sh"), 0);
  EXPECT_EQ(text("code"), "1\n");
  EXPECT_TRUE(says(text("errors"), "No space left on device"));
  EXPECT_FALSE(says(text("listed"), ".tmp"));
  EXPECT_TRUE(says(text("listed"), "checkpoint-5"));
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
