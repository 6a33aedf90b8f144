// The program itself, as a shell runs it: what is printed where, exit codes, signals.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
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

// A prepared file has its text and its mask; what would change them is refused, not recorded and ignored.
TEST_F(Program, WhatAPreparedFileIsMadeWithIsNotChanged) {
  ASSERT_EQ(shell("$p prepare --quiet --output $d/made.bin " + kDemo), 0);
  const std::string show = "$p show --model data/demo --data $d/made.bin > $d/printed 2> $d/notes ";
  EXPECT_EQ(shell(show + "--train-on answers --template squad"), 0) << text("notes");
  for (const char* changed : {"--train-on all", "--template chatml", "--system x", "--parse-special", "--long drop"}) {
    EXPECT_EQ(shell(show + changed), 2) << changed;
    EXPECT_TRUE(says(text("notes"), "changes nothing in")) << changed;
  }
}

// Special tokens spelled in a text are tokens where that is asked for: of plain text, too.
TEST_F(Program, SpecialTokensOfATextAreParsedWhenAsked) {
  ASSERT_EQ(shell("printf 'one</s>two' > $d/plain.txt"), 0);
  const auto tokens = [&](const std::string& more) {
    EXPECT_EQ(shell("$p show --json --model data/demo --data $d/plain.txt > $d/printed 2> $d/notes " + more), 0) << text("notes");
    return printed()["tokens"].get<std::vector<int>>();
  };
  constexpr int kEos = 2;
  const std::vector<int> text_alone = tokens(""), parsed = tokens("--parse-special");
  EXPECT_EQ(std::count(text_alone.begin(), text_alone.end(), kEos), 1) << "the one that ends the text";
  EXPECT_EQ(std::count(parsed.begin(), parsed.end(), kEos), 2);
}

TEST_F(Program, AClosedStreamIsNoFile) {
  ASSERT_EQ(shell(kTrain + "--max-steps 3 >&- 2>&- <&-"), 0);
  const std::vector<Json> lines = json_lines(directory_ / "out/metrics.jsonl");
  for (const Json& line : lines) EXPECT_TRUE(line.is_object()) << line;
  EXPECT_EQ(lines.size(), 3u + 2) << "three steps, and the evaluations before and after";
}

TEST_F(Program, PathsNeedNotBeUtf8) {
  const std::string names = "m=$d/$'model\\xff' o=$d/$'out\\xff' x=$d/$'data\\xff.jsonl'; ";
  ASSERT_EQ(
      shell(names +
            "cp -r tests/goldens/gqa_tied $m; cp $d/data.jsonl $x; for more in '' --resume; do $p train --model $m --data $x "
            "--output $o --seq-len 32 --threads 1 --max-steps 2 --save-steps 1 --json $more > $d/printed || exit 9; done"),
      0);
  const fs::path out = directory_ / "out\xff";
  EXPECT_TRUE(says(read_file(out / "adapter_config.json"), "model\xEF\xBF\xBD"));
  parse_json(read_file(out / "run.json"), "run.json");
  for (const std::string command :
       {"evaluate --json --model $m --adapter $o --data $x",
        "dump --json --model $m --adapter $o --data $x --output $d/$'dump\\xff'", "plan --json --model $m --init-adapter $o",
        "prepare --json --model $m --data $x --output $d/$'p\\xff' --valid-split 0",
        "show --check --json --model $m --data $x"}) {
    EXPECT_EQ(shell(names + "$p " + command + " > $d/printed"), 0) << command;
    printed();
  }
  EXPECT_EQ(shell(names + "$p evaluate --model $m --adapter $m --data $x 2> $d/errors"), 4);
  EXPECT_TRUE(says(text("errors"), "model\xff: this looks like a model, not an adapter"));
  EXPECT_EQ(shell(names + "$p generate --model $m/none --prompt x 2> $d/errors"), 4);
  EXPECT_TRUE(says(text("errors"), "error: "));
}

TEST_F(Program, AResultThatCannotBePrintedIsAnError) {
  for (const std::string& command : std::vector<std::string>{
           "$p help", "$p --man", "$p plan --model tests/goldens/gqa_tied --json",
           "$p prepare --quiet --json --output $d/x.bin " + kDemo, "echo '\"hi\"' | $p tokenize --model data/demo",
           "$p show " + kDemo, kTrain + "--max-steps 1 --json"}) {
    EXPECT_EQ(shell(command + " > /dev/full 2> $d/errors"), 1) << command;
    // Behind the progress of a run, which is on standard error with --json.
    EXPECT_TRUE(("\n" + text("errors")).rfind("\nerror: ") != std::string::npos) << command << ": " << text("errors");
  }
}

TEST_F(Program, TokenizeTakesATokenizersFileAndNeedsNoModel) {
  const std::string ids = "echo '\"The cat\"' | $p tokenize --model ";
  ASSERT_EQ(shell(ids + "data/demo > $d/demo && mkdir $d/alone && cp data/demo/tokenizer.model $d/alone"), 0);
  for (const char* model : {"data/demo/tokenizer.model", "$d/alone", "$d/alone/tokenizer.model"}) {
    EXPECT_EQ(shell(ids + model + " > $d/printed 2> $d/errors && cmp $d/demo $d/printed"), 0) << model << ": " << text("errors");
  }
  // Another command takes the directory of the file.
  EXPECT_EQ(shell("$p prepare --quiet --model data/demo/tokenizer.model --data $d/questions.json --output $d/out.bin"), 0);
  EXPECT_EQ(shell(ids + "$d > $d/printed 2> $d/errors"), 4);
}

// The golden model has ids below 64.
TEST_F(Program, ATokenThatTheModelLacksIsRefusedWhereATextNeedsIt) {
  std::ofstream(directory_ / "tokenizer.json")
      << R"({"added_tokens": [{"id": 64, "content": "<t>"}, {"id": 65, "content": "<pad>", "special": true}],
    "model": {"type": "BPE", "vocab": )"
      <<
      [] {
        Json vocabulary;
        for (int id = 0; id < 64; id++) vocabulary[id == 0 ? "a" : "a" + std::to_string(id)] = id;
        return vocabulary.dump();
      }()
      << R"(, "merges": []}})";
  const std::string ids = "cp tests/goldens/gqa_tied/config.json $d; $p tokenize --model $d > $d/printed 2> $d/errors";
  EXPECT_EQ(shell("echo '\"aa\"' | (" + ids + ")"), 0);
  EXPECT_EQ(text("printed"), "[0,0]\n");
  EXPECT_TRUE(says(text("errors"), "note: the tokenizer has ids up to 65 (\"<pad>\")"));
  EXPECT_EQ(shell("echo '\"a<t>\"' | (" + ids + ")"), 4);
  EXPECT_TRUE(says(text("errors"), "error: the text needs the token \"<t>\" with the id 64"));
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

// With a stand-in for nvcc, which knows some architectures, and one for nvidia-smi, which sees a GPU.
TEST_F(Program, TheArchitecturesThatNvccCompilesFor) {
  const auto archs = [&](const std::string& release, const std::string& gpu, const std::string& wanted) {
    std::string known;
    for (const char* arch : {"50", "70", "75", "80", "86", "89", "90"}) known += std::string("compute_") + arch + "\\n";
    const std::string nvcc = release.empty() ? "" : "$d/nvcc";
    EXPECT_EQ(shell("mkdir -p $d/bin && export PATH=$d/bin:$PATH && "
                    "printf '#!/bin/sh\ncase $1 in --version) echo \"tools, release " +
                    release + ", V1\" ;; *) printf \"" + known + "\" ;; esac\n' > $d/nvcc && printf '#!/bin/sh\nprintf \"" + gpu +
                    "\"\n' > $d/bin/nvidia-smi && "
                    "chmod +x $d/nvcc $d/bin/nvidia-smi && dev/cuda_archs.sh \"" +
                    nvcc + "\" '" + wanted + "' > $d/printed"),
              0);
    std::string line = text("printed");
    std::replace(line.begin(), line.end(), '~', ' ');
    return line;
  };
  EXPECT_EQ(archs("12.2", "8.9\\n", ""), "89\n");
  EXPECT_EQ(archs("12.2", "9.0\\n8.0\\n9.0\\n", ""), "80 90\n") << "each kind of GPU once";
  EXPECT_EQ(archs("12.2", "8.9\\n", "75;80"), "75 80\n") << "what is asked for, whatever is here";
  EXPECT_EQ(archs("12.2", "8.9\\n", "90, 75"), "75 90\n");
  EXPECT_TRUE(says(archs("12.2", "", ""), "note: no GPU is seen here: built without CUDA"));
  EXPECT_TRUE(says(archs("12.2", "", "native"), "error: CUDA_ARCH=native, but no GPU is seen here"));
  EXPECT_TRUE(says(archs("12.2", "", "80;100"), "80 note: nvcc 12.2 does not know 100, its newest is 90"));
  EXPECT_TRUE(says(archs("12.2", "", "all"), "75 80 86 89 90 note: nvcc 12.2 does not know 100, 120"));
  EXPECT_TRUE(says(archs("12.2", "", "100"), "error: CUDA_ARCH=\"100\": nvcc 12.2 does not know 100"));
  EXPECT_TRUE(says(archs("12.2", "12.0\\n", ""),
                   "90 note: nvcc 12.2 does not know 120, its newest is 90, whose PTX the driver compiles"));
  EXPECT_TRUE(
      says(archs("12.2", "7.0\\n", ""), "note: the kernels need an architecture of 75 or later, not 70: built without CUDA"));
  EXPECT_TRUE(says(archs("11.8", "8.9\\n", ""), "nvcc is 11.8, which does not compile C++20: built without CUDA"));
  EXPECT_TRUE(says(archs("11.8", "8.9\\n", "80"), "error: CUDA_ARCH=\"80\""));
  EXPECT_EQ(archs("", "", ""), "\n");
  EXPECT_TRUE(says(archs("", "8.9\\n", ""), "note: there is a GPU, but no nvcc"));
  EXPECT_TRUE(says(archs("", "8.9\\n", "80"), "error: CUDA_ARCH=\"80\" needs nvcc"));
  EXPECT_TRUE(says(archs("12.2", "", "sm_80"), "error: CUDA_ARCH='sm_80' is no list of numbers"));
}

TEST_F(Program, TrainingGoesOnWhenNobodyReads) {
  EXPECT_EQ(shell(kTrain + "--max-steps 50 | true; exit ${PIPESTATUS[0]}"), 0);
  EXPECT_TRUE(fs::exists(directory_ / "out/adapter_model.safetensors"));
}

TEST_F(Program, WithJsonTheResultAloneIsOnStandardOutput) {
  ASSERT_EQ(shell(kTrain + "--max-steps 2 --json > $d/printed"), 0);
  EXPECT_EQ(printed().at("steps"), 2);
}

TEST_F(Program, WithJsonProgressIsOnStandardErrorAndWithQuietThereIsNone) {
  ASSERT_EQ(shell(kTrain + "--max-steps 2 --json > $d/printed 2> $d/notes"), 0);
  EXPECT_TRUE(says(text("notes"), "step 2/2"));
  EXPECT_TRUE(says(text("notes"), "\nplan     "));
  ASSERT_EQ(shell(kTrain + "--max-steps 2 --quiet > $d/printed 2> $d/notes"), 0);
  EXPECT_EQ(text("printed"), (directory_ / "out").string() + "\n") << "the adapter's directory alone";
  EXPECT_FALSE(says(text("notes"), "step"));
  ASSERT_EQ(shell(kTrain + "--max-steps 2 --quiet --resume > $d/printed"), 0);
  EXPECT_EQ(text("printed"), (directory_ / "out").string() + "\n") << "also where nothing is left to do";
  ASSERT_EQ(shell(kTrain + "--max-steps 2 --quiet --json > $d/printed"), 0);
  EXPECT_EQ(printed().at("steps"), 2) << "the result alone";
}

TEST_F(Program, WhatPeopleReadHasSeparatorsAndPlurals) {
  ASSERT_EQ(
      shell("$p train --max-steps 1 --valid-split 0 --eval-samples 0 --output $d/out " + kDemo + " > $d/printed 2> $d/notes"), 0);
  EXPECT_TRUE(says(text("printed"), "2,623,744 parameters"));
  EXPECT_TRUE(says(text("printed"), "3 documents to train on, 0 to validate on, 1 step of "));
  EXPECT_TRUE(says(text("printed"), "trained  1 step in "));
  EXPECT_TRUE(says(text("printed"), "matmul of this type"));
  EXPECT_FALSE(says(text("printed"), "\x1b"));
}

TEST_F(Program, OptionsOfOtherTrainersAreNotedOnce) {
  ASSERT_EQ(shell(kTrain + "--max-steps 1 --logging_steps 5 --report_to wandb --tf32 true > $d/printed 2> $d/notes"), 0);
  EXPECT_TRUE(text("notes").starts_with("note: --logging_steps, --report_to=wandb, --tf32 change nothing here\n"))
      << text("notes");
  ASSERT_EQ(shell(kTrain + "--max-steps 1 --use_peft --quiet > $d/printed 2> $d/notes"), 0);
  EXPECT_FALSE(says(text("notes"), "use_peft"));
  EXPECT_EQ(shell(kTrain + "--max-steps 1 --push_to_hub > $d/printed 2> $d/notes"), 2);
  EXPECT_TRUE(says(text("notes"), "error: --push_to_hub"));
}

TEST_F(Program, NoArgumentsPrintTheOverview) {
  ASSERT_EQ(shell("$p > $d/printed 2> $d/notes"), 0);
  EXPECT_TRUE(says(text("printed"), "Commands:"));
  EXPECT_EQ(text("notes"), "");
}

TEST_F(Program, GenerateSaysWhyThereIsNoText) {
  fs::copy("data/demo", directory_ / "model");
  // Every id ends a text.
  std::string ids = "0";
  for (int id = 1; id < 1024; id++) ids += "," + std::to_string(id);
  directory_.write("model/generation_config.json", "{\"eos_token_id\":[" + ids + "]}");
  const std::string command = "$p generate --model $d/model --prompt Hello --max-new-tokens 3 ";
  ASSERT_EQ(shell(command + "> $d/printed 2> $d/notes"), 0);
  EXPECT_EQ(text("printed"), "\n");
  EXPECT_TRUE(says(text("notes"), "the model ended the text at once"));
  EXPECT_FALSE(says(text("notes"), "chat template"));
  directory_.write("model/chat_template.jinja", "{{ messages }}");
  ASSERT_EQ(shell(command + "> $d/printed 2> $d/notes"), 0);
  EXPECT_TRUE(says(text("notes"), "has a chat template"));
  ASSERT_EQ(shell(command + "--quiet > $d/printed 2> $d/notes"), 0);
  EXPECT_EQ(text("notes"), "");
}

TEST_F(Program, SignalsStopWithACheckpoint) {
  ::signal(SIGHUP, SIG_DFL);  // under nohup it is ignored, also by what is started here
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

// As `timeout` does, which signals its child and then the group that both are in.
TEST_F(Program, ASignalThatComesTwiceIsOne) {
  for (int round = 0; round < 5; round++) {
    EXPECT_EQ(
        shell("rm -rf $d/out; " + kTrain +
              "--valid-split 0 --quiet --max-steps 100000000 & pid=$!; until grep -q loss $d/out/metrics.jsonl 2> /dev/null; "
              "do sleep 0.02; done; kill -TERM $pid; kill -TERM $pid; sleep 0.01; kill -TERM $pid 2> /dev/null; wait $pid"),
        130);
    EXPECT_EQ(shell("ls $d/out/checkpoint-*/state.json > $d/listed && ! ls -A $d/out | grep tmp"), 0);
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

// Of the loss, of questions and of a text in windows: it ends within a batch and says what it had found.
TEST_F(Program, SignalsStopTheCommandEvaluate) {
  ASSERT_EQ(shell("for i in {1..40000}; do echo '{\"input_ids\":[1,2,3,4,5,6,7,8]}'; done > $d/valid.jsonl; "
                  "for i in {1..30000}; do echo 'The cat sat on the mat, and a dog ran.'; done > $d/long.txt"),
            0);
  std::string questions;
  for (int i = 0; i < 1000; i++)
    questions +=
        fmt::format(R"({}{{"id":"{}","question":"Who?","answers":[{{"text":"A dog","answer_start":0}}]}})", i ? "," : "", i);
  directory_.write("many.json", R"({"data":[{"title":"t","paragraphs":[{"context":"A dog ran.","qas":[)" + questions + "]}]}]}");
  for (const char* command : {"--model tests/goldens/gqa_tied --data $d/valid.jsonl --packing off --batch-size 1 --seq-len 32",
                              "--model data/demo --data $d/many.json --max-new-tokens 400 --seq-len 64 --init random",
                              "--model data/demo --data $d/long.txt --format text --stride 1 --seq-len 64"}) {
    // On a busy machine it may take long until there is something to say.
    for (int wait = 1; wait < 60; wait *= 4) {
      const std::string stop = fmt::format(" > $d/printed 2> $d/notes & pid=$!; sleep {}; kill -INT $pid; wait $pid", wait);
      EXPECT_EQ(shell(std::string("$p evaluate --json --device cpu ") + command + stop), 130) << command;
      if (text("notes").find("until then: ") != std::string::npos) break;
    }
    EXPECT_EQ(text("printed"), "") << "a result in part is no result";
    EXPECT_TRUE(says(text("notes"), "note: interrupted while ")) << command << ": " << text("notes");
    EXPECT_TRUE(says(text("notes"), "until then: loss ")) << command << ": " << text("notes");
  }
}

TEST_F(Program, ThePerplexityOfATextIsOfTextAlone) {
  directory_.write("text.txt", "The cat sat on the mat.\n\nA dog ran away, and the cat sat there.\n");
  const std::string command = "$p evaluate --dtype fp32 --seq-len 16 --data $d/text.txt --format text --stride ";
  ASSERT_EQ(shell(command + "4 --json > $d/printed"), 0);
  const Json four = printed();
  EXPECT_GT(four.at("perplexity"), 1.0);
  EXPECT_EQ(four.at("target_tokens").get<int>(), four.at("tokens").get<int>() - 1) << "each token but the first";
  // How many windows are computed at once changes nothing but the order of sums inside a matmul.
  ASSERT_EQ(shell(command + "4 --batch-size 3 --json > $d/printed"), 0);
  EXPECT_NEAR(printed().at("loss").get<double>(), four.at("loss").get<double>(), 1e-5);
  ASSERT_EQ(shell(command + "16 > $d/printed"), 0);
  EXPECT_TRUE(says(text("printed"), "perplexity "));
  EXPECT_EQ(shell(command + "17 2> $d/notes"), 2);
  EXPECT_TRUE(says(text("notes"), "--stride 17 is longer than a window"));
  EXPECT_EQ(shell(command + "4 --max-samples 3 2> $d/notes"), 2);
  directory_.write("empty.txt", "");
  EXPECT_EQ(shell("$p evaluate --stride 4 --format text --data $d/empty.txt 2> $d/notes"), 4);
  EXPECT_EQ(shell("$p evaluate --stride 4 --model tests/goldens/gqa_tied --data $d/text.txt --format text 2> $d/notes"), 4);
}

TEST_F(Program, EvaluateSaysTheLossByTurn) {
  directory_.write("turns.jsonl",
                   "{\"input_ids\":[1,2,3,4,5],\"labels\":[-100,2,-100,4,5]}\n{\"input_ids\":[1,2,3],\"labels\":[-100,2,3]}\n");
  const std::string command = "$p evaluate --model tests/goldens/gqa_tied --data $d/turns.jsonl --device cpu ";
  ASSERT_EQ(shell(command + "--json > $d/printed"), 0);
  const Json turns = printed().at("loss_by_turn");
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[0].at("turn"), 1);
  EXPECT_EQ(turns[0].at("target_tokens"), 3);
  EXPECT_EQ(turns[1].at("target_tokens"), 2);
  const double sum = 3 * turns[0].at("loss").get<double>() + 2 * turns[1].at("loss").get<double>();
  EXPECT_NEAR(sum / 5, printed().at("loss").get<double>(), 1e-12);
  ASSERT_EQ(shell(command + "> $d/printed"), 0);
  EXPECT_TRUE(says(text("printed"), "\nturn 2: loss "));
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

// The values of the best evaluation need room beside the checkpoints.
TEST_F(Program, AFullDiskKeepsTheBestValuesOfBefore) {
  if (shell("unshare -rm mount -t tmpfs none $d 2> /dev/null") != 0) GTEST_SKIP() << "no mount name space can be made here";
  fs::create_directory(directory_ / "small");
  directory_.write("inside.sh",
                   "p=" + std::string(kProgram) + " d=" + directory_.path().string() +
                       "; mount -t tmpfs -o size=300k none $d/small; " + kTrain +
                       "--output $d/small/out --rank 4 --max-steps 40 --save-steps 5 --eval-steps 1 --lr 1e-3 --keep best "
                       "--quiet --valid-split 0.2 2> $d/errors; "
                       "echo $? > $d/code; ls -AR $d/small/out > $d/listed");
  ASSERT_EQ(shell("unshare -rm bash $d/inside.sh"), 0);
  EXPECT_EQ(text("code"), "1\n");
  EXPECT_TRUE(says(text("errors"), "No space left on device"));
  EXPECT_FALSE(says(text("listed"), ".tmp"));
  EXPECT_TRUE(says(text("listed"), "out/best:\nadapter_config.json\nadapter_model.safetensors\n")) << text("listed");
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

TEST_F(Program, EveryCommandRefusesADataSetWithoutASample) {
  directory_.write("empty.jsonl", "").write("blank.jsonl", "\n\n").write("list.json", "[]");
  for (const char* file : {"empty.jsonl", "blank.jsonl", "list.json"}) {
    for (const char* command : {"prepare --output $d/x.bin", "prepare --allow-empty --output $d/x.bin", "show", "evaluate",
                                "dump --output $d/x.safetensors", "train --output $d/x"}) {
      EXPECT_EQ(shell(fmt::format("$p {} --data $d/{} 2> $d/errors", command, file)), 4) << command << " of " << file;
      EXPECT_TRUE(text("errors").starts_with("error: ")) << text("errors");
    }
  }
}

TEST_F(Program, TheDataIsNotOverwritten) {
  const std::string data = text("data.jsonl");
  fs::create_symlink("data.jsonl", directory_ / "link");
  for (const char* command : {"prepare", "evaluate", "dump"}) {
    for (const char* output : {"data.jsonl", "link", "./data.jsonl"}) {
      EXPECT_EQ(shell(fmt::format("$p {} --data $d/data.jsonl --output $d/{} 2> $d/errors", command, output)), 2) << command;
      EXPECT_TRUE(says(text("errors"), "--output is a file of --data"));
    }
  }
  EXPECT_EQ(text("data.jsonl"), data);
}

TEST_F(Program, NoAnswerIsLostWhereIdsAreEqual) {
  std::string data = text("questions.json");
  for (const char* id : {R"("id":"b")", R"("id":"c")"}) data.replace(data.find(id), std::strlen(id), R"("id":"a")");
  directory_.write("equal.json", data);
  ASSERT_EQ(shell("$p evaluate --max-new-tokens 3 --output $d/answers.json --data $d/equal.json > $d/printed 2> $d/notes"), 0);
  EXPECT_TRUE(says(text("notes"), "note: 2 samples with the id of an earlier one (the first such id is \"a\")"));
  const Json answers = parse_json(text("answers.json"), "answers.json");
  for (const char* id : {"a", "a#2", "a#3"}) EXPECT_TRUE(answers.contains(id)) << id;
}

TEST_F(Program, WhatADataSetHasBesidesIsNotedByEveryCommand) {
  directory_.write("rows.jsonl", "{\"input_ids\":[1,2,3],\"length\":3}\n{\"input_ids\":[4,5],\"length\":2}\n");
  for (const char* command :
       {"prepare --json --output $d/x.bin", "show", "evaluate --json", "dump --json --output $d/x.safetensors"}) {
    ASSERT_EQ(shell(fmt::format("$p {} --data $d/rows.jsonl > $d/printed 2> $d/notes", command)), 0);
    EXPECT_TRUE(says(text("notes"), "rows.jsonl: key \"length\" is not known and is ignored (2 times)")) << command;
  }
  ASSERT_EQ(shell("$p show --split validation --data $d/rows.jsonl --valid-split 0 > $d/printed 2> $d/notes"), 0);
  EXPECT_TRUE(says(text("notes"), "note: no sample is in this split"));
  EXPECT_EQ(shell("$p evaluate --split validation --data $d/rows.jsonl 2> $d/notes"), 4);
  EXPECT_TRUE(says(text("notes"), "no sample is in the validation split"));
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
