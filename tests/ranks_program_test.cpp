// The program on several ranks, as a shell starts it: one line for an error, the same files however they are started, and what
// becomes of a run when a rank is killed or stopped by a signal.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "src/base/file.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class RanksProgram : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists("./train_llama_lora")) GTEST_SKIP() << "./train_llama_lora has not been built";
  }
  // A bash command line in which $t trains into $d/NAME with the options that follow; returns its exit status.
  int shell(const std::string& command) const {
    const std::string line = fmt::format(
        "d={}\n"
        "t() {{ local name=$1; shift; \"$@\" ./train_llama_lora train --model tests/goldens/gqa_tied --data "
        "tests/goldens/gqa_tied/data.jsonl --seq-len 32 --batch-size 1 --dtype fp32 --threads 1 --valid-split 0 --max-steps 4 "
        "--quiet "
        "--output $d/$name $more; }}\n"
        "steps() {{ cat $d/out/metrics.jsonl 2>/dev/null | wc -l; }}\n"
        "rank() {{ local then=$(steps); until [ $(steps) -gt $then ]; do sleep 0.1; done; pgrep -f \"output $d/out\" | sort -n | "
        "sed -n \"$1p\"; }}\n{}\n",
        directory_.path().string(), command);
    directory_.write("command.sh", line);
    const int status = std::system(
        fmt::format("timeout 100 bash {} > {} 2>&1", (directory_ / "command.sh").string(), (directory_ / "printed").string())
            .c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string printed() const { return read_file(directory_ / "printed"); }
  std::string adapter(const std::string& output) const { return read_file(directory_ / output / "adapter_model.safetensors"); }
  int lines_with(const std::string& part) const {
    const std::string text = printed();
    int n = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) n++;
    return n;
  }
  static bool has_mpirun() { return std::system("mpirun --version 2>&1 | grep -q 'Open MPI'") == 0; }

  const TemporaryDirectory directory_;
};

TEST_F(RanksProgram, HaveTheSameFilesHoweverTheyAreStarted) {
  ASSERT_EQ(shell("more='--grad-accum 2' t one env"), 0) << printed();
  EXPECT_EQ(shell("more='--ranks 2' t started env"), 0) << printed();
  EXPECT_EQ(shell("for r in 1 0; do t found env RANK=$r WORLD_SIZE=2 LOCAL_RANK=$r LOCAL_WORLD_SIZE=2 MASTER_ADDR=localhost "
                  "MASTER_PORT=$((20000 + $$ % 9000)) & done; wait %1 && wait %2"),
            0)
      << printed();
  EXPECT_TRUE(adapter("started") == adapter("one"));
  EXPECT_TRUE(adapter("found") == adapter("one"));
  if (!has_mpirun()) GTEST_SKIP() << "there is no mpirun of Open MPI";
  EXPECT_EQ(shell("t mpi mpirun --allow-run-as-root --oversubscribe --bind-to none -np 2"), 0) << printed();
  EXPECT_TRUE(adapter("mpi") == adapter("one"));
}

// What is wrong on all of them is said once.
TEST_F(RanksProgram, SayWhatIsWrongOnce) {
  EXPECT_EQ(shell("more='--ranks 3 --data $d/nothing.jsonl'; more=${more/\\$d/$d} t out env"), 4);
  EXPECT_EQ(lines_with("error: "), 1) << printed();
  EXPECT_TRUE(says(printed(), "nothing.jsonl: no such file"));
  EXPECT_EQ(shell("more='--ranks 2' t out env WORLD_SIZE=2"), 2);
  EXPECT_TRUE(says(printed(), "WORLD_SIZE=2, but not RANK"));
  if (!has_mpirun()) GTEST_SKIP() << "there is no mpirun of Open MPI";
  EXPECT_EQ(shell("more=\"--data $d/nothing.jsonl\" t out mpirun --allow-run-as-root --oversubscribe -np 2"), 4);
  EXPECT_EQ(lines_with("error: "), 1) << printed();
  EXPECT_TRUE(says(printed(), "nothing.jsonl: no such file"));
}

TEST_F(RanksProgram, RefuseOtherDataOnOneOfThem) {
  EXPECT_EQ(
      shell(
          "head -3 tests/goldens/gqa_tied/data.jsonl > $d/fewer.jsonl\n"
          "for r in 1 0; do [ $r = 1 ] && more=\"--data $d/fewer.jsonl\" || more=; t out env RANK=$r WORLD_SIZE=2 LOCAL_RANK=$r "
          "LOCAL_WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=$((20000 + $$ % 9000)) & done; wait %1; wait %2"),
      2)
      << printed();
  EXPECT_EQ(lines_with("error: "), 1) << printed();
  EXPECT_TRUE(says(printed(), "rank 1: data is"));
}

// Killed, it is named, and the run goes on with fewer ranks. A signal to one stops all, with a checkpoint.
TEST_F(RanksProgram, EndTogether) {
  if (std::system("pgrep -V > /dev/null 2>&1") != 0) GTEST_SKIP() << "there is no pgrep";
  const std::string run = "more='--ranks 3 --grad-accum 4 --max-steps 60000 --save-steps 5' t out env & ";
  EXPECT_EQ(shell(run + "p=$(rank 3); kill -9 $p; wait %1"), 1) << printed();
  EXPECT_TRUE(says(printed(), "killed by signal 9"));
  EXPECT_EQ(lines_with("error: "), 1) << printed();
  EXPECT_EQ(shell("more='--ranks 4 --max-steps 60000 --resume' t out env & p=$(rank 2); kill -INT $p; wait %1"), 130)
      << printed();
  EXPECT_EQ(lines_with("error: "), 0) << printed();
}

}  // namespace
}  // namespace tll
