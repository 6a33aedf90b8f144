// prepare at scale: the same file whatever the threads, interruptions of every kind, bounded memory.
#include "data/prepare.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "data/held_out.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/process.h"
#include "tests/chat_tokenizer.h"
#include "tests/dataset_values.h"
#include "tests/fake_tokenizer.h"
#include "tests/phases.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

// Does something when so many texts have been encoded.
class CountingTokenizer : public FakeTokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    if (++count == at) act();
    return FakeTokenizer::encode(text);
  }
  mutable std::atomic<int> count = 0;
  int at = -1;
  void (*act)() = nullptr;
};

class PrepareTest : public testing::Test {
 protected:
  PrepareTest() {
    options_.max_tokens = 400;
    options_.valid_split = 0.1;
    options_.template_name = TemplateName::kNone;
    options_.threads = 2;
  }

  // Prompts and responses of about `bytes`, a few of them long, some with the id of an earlier one.
  void write_rows(const char* name, size_t bytes) {
    std::mt19937 random(5);
    std::string text;
    for (int i = 0; text.size() < bytes; ++i) {
      const std::string words(random() % 40 == 0 ? 500 : random() % 200, 'w');
      text += fmt::format("{{\"id\": \"{}\", \"prompt\": \"p{} {}\", \"completion\": \"answer {}\"}}\n", i % 5000,
                          random() % 3000, words, i);
    }
    directory_.write(name, text);
  }
  std::string prepared(const char* output, int threads) {
    options_.threads = threads;
    prepare_file(directory_ / "rows.jsonl", directory_ / output, &tokenizer_, options_);
    return read_file(directory_ / output);
  }

  // What a child process did: its exit code, or minus the signal that ended it.
  static int child(const std::function<void()>& run) {
    const pid_t pid = fork();
    if (pid == 0) {
      try {
        run();
        _exit(0);
      } catch (const Stopped&) {
        _exit(77);
      } catch (const Error& e) {
        _exit(e.exit_code);
      }
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

  const TemporaryDirectory directory_;
  FakeTokenizer tokenizer_;
  PrepareOptions options_;
};

TEST_F(PrepareTest, TheFileDoesNotDependOnTheThreads) {
  write_rows("rows.jsonl", 5 << 20);
  const std::string one = prepared("1.bin", 1);
  EXPECT_TRUE(prepared("2.bin", 2) == one);
  EXPECT_TRUE(prepared("7.bin", 7) == one);
  const Dataset file = load_dataset(directory_ / "1.bin", &tokenizer_, options_);
  file.check_all();
  const Dataset direct = load_dataset(directory_ / "rows.jsonl", &tokenizer_, options_);
  EXPECT_EQ(direct.content_hash(), file.content_hash());
  EXPECT_EQ(direct.report.json(), file.report.json());
  EXPECT_EQ(dataset_bytes(direct), one);
  EXPECT_GT(file.report.samples, 20000);
  EXPECT_GT(file.report.repeated_ids, 10000);
  EXPECT_EQ(file.report.first_repeated_id, "0");
  EXPECT_GT(file.report.refused_total(), 0) << "long ones are there";
  EXPECT_NEAR(double(file.report.validation_samples), 0.1 * double(file.report.samples), 0.02 * double(file.report.samples));
  // Every row that is not refused, in order, and each answer is what its tokens decode to.
  int64_t last = -1;
  for (const Document& d : file.documents) {
    ASSERT_EQ(d.answer_trained, 1);
    const std::vector<std::string> answers = file.answers_of(d);
    ASSERT_EQ(answers.size(), 1u);
    const int64_t number = std::stoll(answers[0].substr(7));
    ASSERT_GT(number, last);
    ASSERT_EQ(file.id_of(d), std::to_string(number % 5000));
    last = number;
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "1.bin.part"));
}

// Labels of their own, which begin late in the file: those before follow from the tokens.
TEST_F(PrepareTest, LabelsThatAreNoTokensMayComeLate) {
  std::string text;
  std::vector<int32_t> labels;
  for (int i = 0; i < 120000; ++i) {
    const int length = 2 + i % 9, other = i > 100000 && i % 3 == 0;
    std::string ids = "1", marks = "-100";
    labels.push_back(kNotTrained);
    for (int t = 1; t < length; ++t) {
      const int label = t % 2 ? 5 + other : kNotTrained;
      labels.push_back(label);
      ids += ",5", marks += fmt::format(",{}", label);
    }
    text += fmt::format("{{\"input_ids\": [{}], \"labels\": [{}]}}\n", ids, marks);
  }
  directory_.write("rows.jsonl", text);
  options_.vocab_size = 10;
  prepare_file(directory_ / "rows.jsonl", directory_ / "out.bin", nullptr, options_);
  const Dataset d = load_dataset(directory_ / "out.bin", nullptr, options_);
  d.check_all();
  EXPECT_EQ(d.report.samples, 120000);
  EXPECT_TRUE(all_labels(d) == labels);
}

TEST_F(PrepareTest, AKilledRunGoesOn) {
  write_rows("rows.jsonl", 4 << 20);
  const std::string whole = prepared("whole.bin", 2);
  CountingTokenizer counting;
  prepare_file(directory_ / "rows.jsonl", directory_ / "counted.bin", &counting, options_);
  const int encodings = counting.count;
  struct Case {
    void (*act)();
    int code;
  };
  // What was tokenised is written by another thread, which a busy machine may hold up.
  const Case cases[] = {{+[] {
                           std::this_thread::sleep_for(std::chrono::milliseconds(300));
                           raise(SIGKILL);
                         },
                         -SIGKILL},
                        {+[] { kill(getpid(), SIGINT); }, 77}};
  for (const Case& c : cases) {
    const auto output = directory_ / "out.bin";
    const int code = child([&] {
      catch_stop_signals();
      CountingTokenizer tokenizer;
      tokenizer.at = encodings * 3 / 4, tokenizer.act = c.act;
      prepare_file(directory_ / "rows.jsonl", output, &tokenizer, options_, std::chrono::milliseconds(0));
    });
    EXPECT_EQ(code, c.code);
    EXPECT_FALSE(std::filesystem::exists(output));
    ASSERT_TRUE(std::filesystem::exists(directory_ / "out.bin.part"));
    CountingTokenizer rest;
    const Prepared second = prepare_file(directory_ / "rows.jsonl", output, &rest, options_);
    EXPECT_GT(second.resumed_bytes, 1 << 20);
    EXPECT_LT(rest.count, encodings * 3 / 4) << "what was done is not done again";
    EXPECT_TRUE(read_file(output) == whole);
    EXPECT_FALSE(std::filesystem::exists(directory_ / "out.bin.part"));
    std::filesystem::remove(output);
  }
}

TEST_F(PrepareTest, OtherOptionsOrAnotherSourceBeginAnew) {
  write_rows("rows.jsonl", 3 << 20);
  const auto output = directory_ / "out.bin";
  const auto killed = [&] {
    CountingTokenizer tokenizer;
    tokenizer.at = 12000, tokenizer.act = +[] { raise(SIGKILL); };
    EXPECT_EQ(child([&] { prepare_file(directory_ / "rows.jsonl", output, &tokenizer, options_, std::chrono::milliseconds(0)); }),
              -SIGKILL);
  };
  killed();
  options_.seed = 43;
  EXPECT_EQ(prepare_file(directory_ / "rows.jsonl", output, &tokenizer_, options_).resumed_bytes, 0);
  killed();
  write_rows("rows.jsonl", 2 << 20);
  EXPECT_EQ(prepare_file(directory_ / "rows.jsonl", output, &tokenizer_, options_).resumed_bytes, 0);
  EXPECT_TRUE(read_file(output) == prepared("whole.bin", 1));
  // Parts that were cut short by hand.
  killed();
  std::filesystem::resize_file(directory_ / "out.bin.part" / "documents", 32);
  EXPECT_EQ(prepare_file(directory_ / "rows.jsonl", output, &tokenizer_, options_).resumed_bytes, 0);
  EXPECT_TRUE(read_file(output) == read_file(directory_ / "whole.bin"));
}

// As a disk that is full: no file may grow beyond a limit.
TEST_F(PrepareTest, AFullDiskIsOneLineAndTheRunGoesOnLater) {
  write_rows("rows.jsonl", 3 << 20);
  const auto output = directory_ / "out.bin";
  const auto limited = [&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4 << 20, 4 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string line =
        refusal_of([&] { prepare_file(directory_ / "rows.jsonl", output, &tokenizer_, options_, std::chrono::milliseconds(0)); },
                   kExitFault);
    if (!says(line, "out.bin.part/squad.bin: cannot be written: ")) fail(kExitUsage, "{}", line);
  };
  EXPECT_EQ(child(limited), 0);
  EXPECT_GT(prepare_file(directory_ / "rows.jsonl", output, &tokenizer_, options_).resumed_bytes, 0);
  EXPECT_TRUE(read_file(output) == prepared("whole.bin", 1));
}

TEST_F(PrepareTest, TheFirstBadRowIsNamedAndNothingStays) {
  write_rows("rows.jsonl", 3 << 20);
  std::string text = read_file(directory_ / "rows.jsonl");
  const auto lines = std::count(text.begin(), text.end(), '\n');
  text += "{\"id\": \"x\", \"prompt\": \"p\", \"completion\": \"\"}\n{\"id\": \"y\", \"prompt\": \"p\", \"completion\": \"\"}\n";
  directory_.write("rows.jsonl", text);
  for (const int threads : {1, 4}) {
    options_.threads = threads;
    EXPECT_TRUE(says(refusal_of([&] { prepare_file(directory_ / "rows.jsonl", directory_ / "out.bin", &tokenizer_, options_); }),
                     fmt::format("line {} (id \"x\") trains nothing", lines + 1)));
    EXPECT_FALSE(std::filesystem::exists(directory_ / "out.bin.part"));
    EXPECT_FALSE(std::filesystem::exists(directory_ / "out.bin"));
  }
}

// 16 MB of text become 47 MB of tokens, and other parts.
TEST_F(PrepareTest, MemoryIsBounded) {
  write_rows("rows.jsonl", 16 << 20);
  const int code = child([&] {
    const auto peak = [] {
      rusage usage;
      getrusage(RUSAGE_SELF, &usage);
      return usage.ru_maxrss;
    };
    const long before = peak();
    prepare_file(directory_ / "rows.jsonl", directory_ / "out.bin", &tokenizer_, options_);
    if (peak() - before > 40 << 10) fail(kExitUsage, "{} KiB", peak() - before);
  });
  EXPECT_EQ(code, 0);
  EXPECT_GT(std::filesystem::file_size(directory_ / "out.bin"), 40u << 20);
}

TEST_F(PrepareTest, ProgressIsInBytes) {
  write_rows("rows.jsonl", 3 << 20);
  const auto size = int64_t(std::filesystem::file_size(directory_ / "rows.jsonl"));
  const PhaseRecord phases;
  prepare_file(directory_ / "rows.jsonl", directory_ / "out.bin", &tokenizer_, options_);
  ASSERT_FALSE(phases.shown.empty());
  EXPECT_EQ(phases.shown.back(), (PhaseRecord::Shown{"tokenising", size, size}));
}

// Long texts are divided, and nothing is lost.
TEST_F(PrepareTest, PlainTextIsDivided) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += fmt::format("Line {}.\n", i);
  directory_.write("book.txt", text);
  options_.valid_split = 0;
  const Dataset d = load_dataset(directory_ / "book.txt", &tokenizer_, options_);
  EXPECT_GT(d.documents.size(), 50u);
  std::string all;
  for (const Document& doc : d.documents) {
    EXPECT_LE(doc.length, 400);
    EXPECT_EQ(doc.target_tokens, doc.length - 1);
  }
  for (const int32_t id : all_tokens(d))
    all += id >= FakeTokenizer::kFirstByte ? std::string(1, char(id - FakeTokenizer::kFirstByte)) : "";
  EXPECT_TRUE(says(all, text.substr(0, text.size() - 1)));
}

// Whether a question that lost its evidence is kept is known at the end. What it counts for is not lost until then.
TEST_F(PrepareTest, HeldOutQuestionsWithoutEvidenceCount) {
  const std::string answer(200, 'a');
  std::string text;
  for (int i = 0; i < 8; ++i) {
    text += fmt::format(
                R"({{"title": "t{}", "context": "c {}", "question": "q", "answers": {{"text": ["{}"], "answer_start": [2]}}}})",
                i, answer, answer) +
            "\n";
  }
  directory_.write("rows.jsonl", text);
  options_.max_tokens = 150;
  options_.valid_split = 0.5;
  options_.template_name = TemplateName::kChatml;
  const ChatTokenizer tokenizer;
  const PrepareReport report = prepare_file(directory_ / "rows.jsonl", directory_ / "a.bin", &tokenizer, options_).report;
  EXPECT_EQ(report.validation_samples, 4);
  EXPECT_EQ(report.train_samples, 0);
  EXPECT_EQ(report.refused_total(), 4);
  EXPECT_EQ(report.truncated, 4);
  EXPECT_EQ(report.ends_lost, 4);
}

TEST(HeldOut, IsTheSameHoweverFewKeysFitInMemory) {
  std::mt19937_64 random(3);
  for (const size_t groups : {1, 2, 7, 500}) {
    std::vector<GroupKeys> keys(2000);
    std::vector<uint64_t> names(groups);
    for (uint64_t& n : names) n = random();
    for (GroupKeys& k : keys) k = {names[random() % groups], random() % 3 ? random() : 7};
    const auto for_each = [&](const std::function<void(const GroupKeys&)>& visit) {
      std::for_each(keys.begin(), keys.end(), visit);
    };
    for (const double share : {0.0, 0.001, 0.1, 0.5, 0.999}) {
      const HeldOut all = choose_held_out(share, keys.size(), for_each);
      const HeldOut few = choose_held_out(share, keys.size(), for_each, 17);
      EXPECT_EQ(all.subgroups, few.subgroups);
      EXPECT_EQ(all.below, few.below);
      std::vector<uint64_t> distinct;
      for (const GroupKeys& k : keys) distinct.push_back(all.subgroups ? k.subgroup : k.group);
      std::sort(distinct.begin(), distinct.end());
      distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
      const auto held = std::count_if(distinct.begin(), distinct.end(), [&](uint64_t k) { return k < all.below; });
      if (share > 0) {
        EXPECT_EQ(held, std::clamp<int64_t>(std::llround(share * double(distinct.size())), 1, int64_t(distinct.size()) - 1));
      } else {
        EXPECT_EQ(held, 0);
      }
    }
  }
}

}  // namespace
}  // namespace tll
