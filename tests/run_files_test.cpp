// What a run leaves for people and other programs, of runs of the smallest model.
#include "src/commands/run_files.h"

#include <algorithm>
#include <fstream>

#include "src/commands/run_page.h"
#include "tests/json_lines.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class RunFilesTest : public Run {
 protected:
  Json json(const std::string& output, const std::string& file) const { return parse_json(bytes(output, file), file); }
  std::vector<fs::path> event_files(const std::string& output) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(directory_ / output / "runs"))
      if (entry.is_regular_file()) found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }
};

TEST_F(RunFilesTest, AWholeRun) {
  train(parse("a", "--max-steps 12 --eval-steps 4 --save-steps 4"));
  const Json run = json("a", "run.json"), state = json("a", "trainer_state.json");
  EXPECT_EQ(state.at("global_step"), 12);
  EXPECT_EQ(state.at("max_steps"), 12);
  EXPECT_EQ(state.at("eval_steps"), 4);
  EXPECT_EQ(state.at("train_batch_size"), 2);
  EXPECT_GT(state.at("total_flos"), 0);
  const Json lines = json_lines(directory_ / "a" / "metrics.jsonl");
  EXPECT_EQ(state.at("log_history").size(), lines.size() + 1) << "each line, and the sum of the run";
  EXPECT_EQ(state.at("log_history")[1].at("loss"), lines[1].at("loss"));
  EXPECT_EQ(state.at("log_history").back().at("step"), 12);
  EXPECT_GT(state.at("log_history").back().at("train_runtime"), 0);
  const Json before = json("a/checkpoint-4", "trainer_state.json");
  EXPECT_EQ(before.at("global_step"), 4);
  EXPECT_EQ(before.at("log_history").size(), 5u) << "one evaluation and four steps";

  const std::string started = run.at("dates").at("started");
  EXPECT_EQ(started.size(), std::string("2026-11-27T09:30:00+01:00").size()) << started;
  EXPECT_GE(run.at("dates").at("ended").get<std::string>(), started);
  EXPECT_TRUE(run.at("program").contains("commit"));
  EXPECT_TRUE(run.at("host").at("threads").is_number());
  EXPECT_EQ(run.at("data").at("bytes"), fs::file_size(directory_ / "data.jsonl"));
  EXPECT_GT(run.at("data").at("trained_share"), 0);
  EXPECT_EQ(run.at("data").at("train_documents").get<int>() + run.at("data").at("validation_documents").get<int>(), 40);
  EXPECT_NE(run.at("command_line").get<std::string>().find(" train --model "), std::string::npos);
  EXPECT_NE(std::find(run.at("given").begin(), run.at("given").end(), "rank"), run.at("given").end());

  EXPECT_EQ(event_files("a").size(), 1u);
  const std::string svg = bytes("a", "curves.svg"), page = bytes("a", "report.html");
  EXPECT_NE(svg.find(">validation</text>"), std::string::npos);
  for (const char* part : {"id=\"curves\"", "id=\"memory\"", "id=\"options\"", "id=\"machine\"", "id=\"use\"", "id=\"repeat\"",
                           "PeftModel.from_pretrained", "--lora-modules", "peak: ", ">finished<"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
}

// A page that looks for nothing outside: what is in quotes after src, href and url is a place on the page.
void expect_no_network(const std::string& page) {
  for (const char* outside : {"src=", "url(", "@import", "<link", "<script", "<iframe", "<img", "<object", "javascript:"})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  for (size_t at = page.find("href=\""); at != std::string::npos; at = page.find("href=\"", at + 1))
    EXPECT_EQ(page[at + 6], '#') << page.substr(at, 60);
  size_t names = 0;  // of namespaces alone
  for (size_t at = page.find("http"); at != std::string::npos; at = page.find("http", at + 1)) {
    const std::string around = page.substr(at - std::min<size_t>(at, 7), 40);
    names += around.starts_with("xmlns=\"http") || around.find("http-equiv") != std::string::npos ? 0 : 1;
  }
  EXPECT_EQ(names, 0u);
}

TEST_F(RunFilesTest, ThePageNeedsNoNetwork) {
  train(parse("a", "--max-steps 3"));
  expect_no_network(bytes("a", "report.html"));
  expect_no_network(bytes("a", "curves.svg"));
}

TEST_F(RunFilesTest, NothingThatARunSaysIsMarkup) {
  const std::string hostile = "</dd></style></title></svg>\"'><script>alert(1)</script><img src=x onerror=alert(2)>&lt;";
  // Each text of run.json is replaced, wherever it stands.
  train(parse("a", "--max-steps 3"));
  Json run = json("a", "run.json");
  run["examples"] = {{{"prompt", ""}, {"before", ""}, {"after", ""}, {"reference", ""}}};
  run["result"]["error"] = "";
  run["dates"]["resumed"] = {""};
  run["data"]["notes"] = {""};
  std::function<void(Json&)> poison = [&](Json& value) {
    if (value.is_string() && value != "train" && value != "lora" && value != "pretrained") value = hostile;
    if (value.is_structured())
      for (Json& item : value) poison(item);
  };
  poison(run);
  for (const char* part : {"host", "device", "program", "options"}) run[part][hostile] = hostile;
  run["plan"]["bytes"][hostile] = 7;
  run["measured"]["memory"][hostile] = {{"planned", 1}};
  RunHistory history(10);
  history.sample(0, hostile);
  history.step({1, 2.0, 1, 1, 1, 1, 1});
  const std::string page = run_page(run, history, "");
  EXPECT_NE(page.find("&lt;script&gt;alert(1)"), std::string::npos);
  EXPECT_GT(page.size(), 60 * hostile.size()) << "they are there";
  for (const char* markup : {"<script", "<img", "</title></svg>", "</dd></style>"})
    EXPECT_EQ(page.find(markup), std::string::npos) << markup;
  EXPECT_NE(page.find("&amp;lt;"), std::string::npos) << "what looks escaped is shown as it is";
}

TEST_F(RunFilesTest, AnOddRunJsonMakesAPageToo) {
  const RunHistory none(1);
  for (const char* text : {"{}", "null", "[]", R"({"run":7,"options":[],"result":"x","data":3,"plan":{"bytes":"x"},"given":{}})"})
    EXPECT_NE(run_page(Json::parse(text), none, "").find("</html>"), std::string::npos) << text;
}

TEST_F(RunFilesTest, AnInterruptedRunHasThemAndAResumedOneOfAllSteps) {
  train(parse("a", "--max-steps 12 --save-steps 3"), 7);
  EXPECT_EQ(json("a", "trainer_state.json").at("global_step"), 7);
  EXPECT_NE(bytes("a", "report.html").find("interrupted"), std::string::npos);
  const std::string dates = json("a", "run.json").at("dates").at("started");
  train(parse("a", "--max-steps 12 --save-steps 3 --resume"));
  train(parse("b", "--max-steps 12"));
  const Json resumed = json("a", "trainer_state.json"), whole = json("b", "trainer_state.json");
  EXPECT_EQ(resumed.at("global_step"), 12);
  const auto losses = [](const Json& state) {
    Json all = Json::array();
    for (const Json& entry : state.at("log_history"))
      if (entry.contains("loss")) all.push_back({entry.at("step"), entry.at("loss")});
    return all;
  };
  EXPECT_EQ(losses(resumed), losses(whole));
  const Json run = json("a", "run.json");
  EXPECT_EQ(run.at("dates").at("started"), dates);
  EXPECT_EQ(run.at("dates").at("resumed").size(), 1u);
  EXPECT_EQ(event_files("a").size(), 2u) << "one of each part";
}

TEST_F(RunFilesTest, ARunRepeatedFromItsRunJsonGivesTheSameBytes) {
  train(parse("a", "--max-steps 6 --dropout 0.1 --schedule linear --warmup-ratio 0.5 --targets q,up"));
  Options options = parse_options(
      words(fmt::format("--config {} --output {}", (directory_ / "a" / "run.json").string(), (directory_ / "b").string())));
  resolve_options(options);
  options.quiet = true;
  train(options);
  EXPECT_EQ(bytes("a", "adapter_model.safetensors"), bytes("b", "adapter_model.safetensors"));
  EXPECT_EQ(json("a", "run.json").at("run"), json("b", "run.json").at("run"));
  Json given = json("a", "run.json").at("given");
  given.erase(std::find(given.begin(), given.end(), "quiet"));
  EXPECT_EQ(given, json("b", "run.json").at("given"));
}

TEST_F(RunFilesTest, AnEarlierRunIsNotWrittenOver) {
  train(parse("a", "--max-steps 2"));
  const std::string state = bytes("a", "trainer_state.json"), page = bytes("a", "report.html");
  const size_t files = event_files("a").size();
  Options options = parse_options(words("--config " + (directory_ / "a" / "run.json").string() + " --max-steps 3"));
  resolve_options(options);
  options.quiet = true;
  train(options);
  EXPECT_EQ(bytes("a/earlier-1", "trainer_state.json"), state);
  EXPECT_EQ(bytes("a/earlier-1", "report.html"), page);
  EXPECT_EQ(event_files("a/earlier-1").size(), files);
  EXPECT_EQ(event_files("a").size(), 1u) << "its own";
  EXPECT_EQ(json("a", "trainer_state.json").at("global_step"), 3);
}

TEST_F(RunFilesTest, WithoutTensorBoard) {
  train(parse("a", "--max-steps 2 --report-to none"));
  EXPECT_FALSE(fs::exists(directory_ / "a" / "runs"));
}

TEST_F(RunFilesTest, WhatCannotBeWrittenEndsNoRun) {
  directory_.write("a/runs", "a file in its place");
  testing::internal::CaptureStderr();
  TrainingRun<float> run(parse("a", "--max-steps 2 --save-steps 1"));
  run.start();
  for (const char* name : {"curves.svg", "report.html", "trainer_state.json"})
    fs::create_directories(directory_ / "a" / name / "in the way");
  run.evaluate_before();
  while (!run.finished()) run.step();
  run.save();
  run.evaluate_after();
  run.finish();
  const std::string notes = testing::internal::GetCapturedStderr();
  for (const char* name : {"a/runs/", "curves.svg", "report.html", "trainer_state.json"})
    EXPECT_NE(notes.find(name), std::string::npos) << notes;
  EXPECT_EQ(bytes("a", "runs"), "a file in its place");
  EXPECT_TRUE(fs::exists(directory_ / "a" / "adapter_model.safetensors"));
  EXPECT_EQ(json("a", "run.json").at("result").at("finished"), true);
}

}  // namespace
}  // namespace tll
