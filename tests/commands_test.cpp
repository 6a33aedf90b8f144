// Commands, run in this process: what they say of an interruption, which messages they take, where answers end.
#include "src/commands/commands.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <iostream>
#include <set>

#include "data/example_reader.h"
#include "src/base/file.h"
#include "src/base/phase.h"
#include "src/commands/source.h"
#include "src/options/options.h"
#include "tests/chat_tokenizer.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"
#include "tests/words.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

// What the action prints to standard output and to standard error.
template <class Action>
std::pair<std::string, std::string> printed_by(const Action& action) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  action();
  std::fflush(stdout);
  const std::string printed = testing::internal::GetCapturedStdout();
  return {printed, testing::internal::GetCapturedStderr()};
}

// As a signal in this phase, once it has begun.
struct StopsIn : PhaseView {
  explicit StopsIn(std::string_view name) : activity(name), before(set_phase_view(this)) {}
  ~StopsIn() override { set_phase_view(before); }
  void show(const char* now, int64_t, int64_t) override {
    if (activity != now || calls++ != 1) return;
    stopped = true;
    throw Stopped(now);
  }
  void end() override {}
  std::string_view activity;
  int calls = 0;
  bool stopped = false;
  PhaseView* before;
};

TEST(CommandPrepare, SaysWhatAnInterruptionLeaves) {
  const TemporaryDirectory directory;
  std::string rows;
  for (int i = 0; i < 50; i++) rows += fmt::format("{{\"prompt\": \"p{}\", \"completion\": \"c\"}}\n", i);
  directory.write("rows.jsonl", rows);
  const std::string path = directory.path().string();
  const auto prepare = [&](std::string_view stop, const std::string& data, const std::string& output) {
    const StopsIn stops(stop);
    Options options = parse_options(words("prepare --model data/demo --quiet --data " + data + " --output " + output));
    int code = 0;
    const auto [printed, notes] = printed_by([&] { code = command_prepare(options); });
    EXPECT_EQ(stops.stopped, !stop.empty());
    EXPECT_EQ(code, stop.empty() ? kExitDone : kExitInterrupted);
    return notes;
  };
  const std::string data = path + "/rows.jsonl", output = path + "/out.bin";
  EXPECT_EQ(prepare("looking through the data", data, output),
            "note: interrupted while looking through the data; " + output + " was not written\n");
  EXPECT_FALSE(fs::exists(output + ".part"));
  EXPECT_EQ(prepare("tokenising", data, "/dev/null"), "note: interrupted while tokenising; /dev/null was not written\n");
  // By a link: the part is beside the file itself.
  directory.write("real.bin", "");
  fs::create_symlink("real.bin", directory / "out.bin");
  const std::string part = fs::canonical(directory.path()).string() + "/real.bin.part";
  EXPECT_EQ(prepare("tokenising", data, output),
            "note: interrupted while tokenising; what is done is in " + part + ": run the same command to go on\n");
  EXPECT_TRUE(fs::exists(part + "/state.json"));
  EXPECT_EQ(prepare("", data, output), "");
  EXPECT_FALSE(fs::exists(part));
  EXPECT_EQ(prepare("checking data", output, path + "/copy.bin"),
            "note: interrupted while checking data; " + path + "/copy.bin was not written\n");
}

constexpr const char* kPlain = R"([{"role":"system","content":"s"},{"role":"user","content":"ab"},)"
                               R"({"role":"assistant","content":"c"},{"role":"user","content":"d"}])";
constexpr const char* kOther = R"([{"role":"developer","content":"s"},{"from":"human","value":[{"type":"text","text":"a"},"b"]},)"
                               R"({"role":"model","content":"c","weight":0,"mood":"x"},{"role":"prompter","content":"d"}])";

TEST(Messages, AreThoseOfADataSet) {
  SourceFindings findings;
  const auto messages = read_messages(parse_json(kOther, ""), "FILE", findings);
  ASSERT_EQ(messages.size(), 4u);
  const Message expected[] = {{"system", "s"}, {"user", "ab"}, {"assistant", "c", false}, {"user", "d"}};
  for (size_t i = 0; i < 4; i++) {
    EXPECT_EQ(messages[i].role, expected[i].role);
    EXPECT_EQ(messages[i].content, expected[i].content);
    EXPECT_EQ(messages[i].trained, expected[i].trained);
  }
  EXPECT_EQ(findings.unknown_keys, (std::map<std::string, int64_t>{{"mood", 1}}));
  for (const auto& [text, message] :
       {std::pair(R"({"role":"user"})", "FILE: messages: expected a list of messages, found "),
        {"[]", "FILE: messages: this list has no message"},
        {R"([{"role":"user","content":"x"},{"role":"tool","content":"x"}])", "FILE: messages[1]: role: the role is \"tool\""},
        {R"([{"role":"user"}])", "FILE: messages[0].content: this field is missing"},
        {R"([{"role":"user","content":"x","images":["y"]}])", "FILE: messages[0]: key \"images\""}}) {
    const std::string found = refusal_of([&] { read_messages(parse_json(text, ""), "FILE", findings); });
    EXPECT_TRUE(says(found, message));
  }
}

TEST(Messages, AreTheSameToTokenizeAndGenerate) {
  const TemporaryDirectory directory;
  const auto tokenized = [&](const char* messages) {
    directory.write("lines", messages);
    const int before = dup(STDIN_FILENO), file = open((directory / "lines").c_str(), O_RDONLY | O_CLOEXEC);
    dup2(file, STDIN_FILENO);
    Options options = parse_options(words("tokenize --chat --model data/demo --template chatml"));
    const auto [printed, notes] = printed_by([&] { EXPECT_EQ(command_tokenize(options), kExitDone); });
    std::cin.clear();
    dup2(before, STDIN_FILENO);
    close(before), close(file);
    return printed;
  };
  const Json plain = parse_json(tokenized(kPlain), "plain"), other = parse_json(tokenized(kOther), "other");
  EXPECT_EQ(plain.at("text"), other.at("text"));
  EXPECT_EQ(plain.at("ids"), other.at("ids"));
  const Json::array_t mask = other.at("mask"), trained = plain.at("mask");
  EXPECT_TRUE(std::find(mask.begin(), mask.end(), 1) == mask.end()) << "its only answer has weight 0";
  EXPECT_FALSE(std::find(trained.begin(), trained.end(), 1) == trained.end());

  const auto generated = [&](const char* messages) {
    directory.write("messages.json", messages);
    Options options = parse_options(words("generate --json --model data/demo --template chatml --max-new-tokens 4 --messages " +
                                          (directory / "messages.json").string()));
    return printed_by([&] { EXPECT_EQ(command_generate(options), kExitDone); });
  };
  const auto plain_text = generated(kPlain), other_text = generated(kOther);
  EXPECT_EQ(plain_text.first, other_text.first);
  EXPECT_TRUE(says(other_text.second, "\"mood\""));
}

// The options of sampling reach the sampler, and the text ends where a stop text would begin.
TEST(Generate, SamplesAndStopsAsAsked) {
  const auto generated = [](const std::string& rest) {
    Options options = parse_options(words("generate --json --model data/demo --prompt The --max-new-tokens 12 " + rest));
    const std::string printed = printed_by([&] { EXPECT_EQ(command_generate(options), kExitDone); }).first;
    return parse_json(printed, "printed");
  };
  const Json greedy = generated("");
  const std::string text = greedy.at("text");
  ASSERT_GT(text.size(), 8u);
  EXPECT_EQ(generated("--temperature 2 --top-k 1"), greedy);
  EXPECT_EQ(generated("--temperature 2 --top-p 1e-6"), greedy);
  EXPECT_EQ(generated("--temperature 2 --min-p 1"), greedy);
  EXPECT_NE(generated("--temperature 2"), greedy);
  const Json::array_t ids = generated("--repeat-penalty 100").at("ids");
  EXPECT_EQ(std::set<Json>(ids.begin(), ids.end()).size(), ids.size()) << "an id came twice";
  const std::string stop = text.substr(5, 2);
  const Json stopped = generated("--stop=" + stop);
  EXPECT_EQ(stopped.at("text"), text.substr(0, text.find(stop)));
  EXPECT_LT(stopped.at("ids").size(), greedy.at("ids").size());
}

// A squad.bin has a template, and the model may have none.
TEST(TemplateInForce, IsThatOfTheDataUnlessOneIsGiven) {
  ModelSource source;
  source.tokenizer = std::make_unique<ChatTokenizer>();
  source.eos = {7};
  Dataset data;
  Options options;
  EXPECT_EQ(template_in_force(options, source, data), std::nullopt);
  add_end_marks(source, data);
  EXPECT_EQ(source.eos, std::vector<int32_t>{7});
  data.template_name = "chatml";
  EXPECT_EQ(template_in_force(options, source, data), TemplateName::kChatml);
  for (int i = 0; i < 2; i++) add_end_marks(source, data);
  EXPECT_EQ(source.eos, (std::vector<int32_t>{7, ChatTokenizer::kEnd}));
  options.chat_template = TemplateName::kZephyr;
  EXPECT_EQ(template_in_force(options, source, data), TemplateName::kZephyr);
  data.template_name = "squad";
  EXPECT_EQ(template_in_force({}, source, data), TemplateName::kSquad);
  source.tokenizer = nullptr;
  data.template_name = "llama3";
  add_end_marks(source, data);
}

}  // namespace
}  // namespace tll
