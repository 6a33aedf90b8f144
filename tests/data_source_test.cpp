// DataSource: every format and container, what is refused, how blocks and threads divide the rows, and going on where one
// stopped.
#include "data/data_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <random>
#include <thread>

#include "data/sample.h"
#include "src/base/json.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

using namespace std::string_literals;

std::string gzip(const std::string& text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = uInt(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = uInt(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// What an example is, as one line for comparisons.
std::string shown(const Example& e) {
  std::string out =
      fmt::format("{}|{}|{}|{}|{}|{}|{}|{}|", int(e.kind), e.id, e.title, e.where, e.prompt, e.context, e.response, e.text);
  for (const std::string& a : e.answers) out += a + ";";
  for (const Message& m : e.messages) out += fmt::format("{}:{}{};", m.role, m.content, m.trained ? "" : " (not trained)");
  for (size_t i = 0; i < e.ids.size(); ++i) out += fmt::format("{}/{} ", e.ids[i], e.labels[i]);
  return out + fmt::format("|{:x},{:x}", e.group, e.subgroup);
}

class DataSourceTest : public testing::Test {
 protected:
  struct Read {
    SourceFacts facts;
    std::vector<Example> examples;
    SourceFindings findings;
    std::vector<int64_t> ends, rows;  // of the blocks
    std::string text() const {
      std::string out;
      for (const Example& e : examples) out += shown(e) + "\n";
      return out;
    }
  };

  Read read(const std::filesystem::path& name, int threads = 1, const ReadLimits& limits = {}) {
    const auto source = DataSource::open(directory_ / name, options_, threads, limits);
    Read out{.facts = source->facts(), .examples = {}, .findings = {}, .ends = {}, .rows = {}};
    int64_t rows = 0;
    while (const std::optional<SourceBlock> block = source->next()) {
      EXPECT_EQ(block->first_row, rows);
      EXPECT_EQ(block->where.size(), block->ends.size());
      EXPECT_FALSE(block->ends.empty());
      rows += int64_t(block->ends.size());
      EXPECT_GT(block->end_bytes, out.ends.empty() ? 0 : out.ends.back());
      out.ends.push_back(block->end_bytes);
      out.rows.push_back(rows);
      for (Example& e : source->parse(*block, out.findings)) out.examples.push_back(std::move(e));
    }
    EXPECT_EQ(rows, out.facts.rows);
    return out;
  }
  Read read_text(const std::string& name, const std::string& content) {
    directory_.write(name, content);
    return read(name);
  }
  // The one example of a file with one row.
  Example only(const std::string& content, const std::string& name = "f.jsonl") {
    SCOPED_TRACE(content);
    const Read r = read_text(name, content);
    EXPECT_EQ(r.examples.size(), 1u);
    return r.examples.empty() ? Example() : r.examples[0];
  }
  std::string error(const std::string& name, const std::string& content, ExitCode code = kExitBadFile) {
    SCOPED_TRACE(content.substr(0, 200));
    directory_.write(name, content);
    const std::string message = refusal_of([&] { read(name); }, code);
    EXPECT_LT(message.size(), 620u) << message;
    return message;
  }

  const TemporaryDirectory directory_;
  PrepareOptions options_;
};

constexpr const char* kAlpacaRow = R"({"instruction": "Add.", "input": "1 2", "output": "3"})";
constexpr const char* kMessagesRow =
    R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]})";

TEST_F(DataSourceTest, EveryFormatOfRows) {
  struct Case {
    DataFormat format;
    const char* row;
    const char* expected;  // behind the kind
  };
  const Case cases[] = {
      {DataFormat::kSquad,
       R"({"id": 7, "title": "T", "context": "one two", "question": "q", "answers": {"text": ["two"], "answer_start": [4]}})",
       "0|7|T|line 1|q|one two|||two;|"},
      {DataFormat::kAlpaca, kAlpacaRow, "1|||line 1|Add.|1 2|3||"},
      {DataFormat::kAlpaca, R"({"instruction": "Go.", "output": 12})", "1|||line 1|Go.||12||"},
      {DataFormat::kAlpaca, R"({"instruction": "Go.", "input": null, "output": "x", "text": "all"})", "1|||line 1|Go.||x||"},
      {DataFormat::kDolly, R"({"instruction": "i", "context": "c", "response": "r", "category": "open_qa"})",
       "1|||line 1|i|c|r||"},
      {DataFormat::kPrompt, R"({"prompt": "p", "completion": "c"})", "2|||line 1|p||c||"},
      {DataFormat::kPrompt, R"({"prompt": "p", "response": "c", "id": "x"})", "2|x||line 1|p||c||"},
      {DataFormat::kPrompt,
       R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})",
       "3|||line 1|||||user:a (not trained);assistant:b (not trained);user:c (not trained);assistant:d;"},
      {DataFormat::kMessages, kMessagesRow, "3|||line 1|||||user:hi;assistant:ho;"},
      {DataFormat::kMessages,
       R"({"messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"role": "assistant", "content": "c", "weight": 0}], "tools": []})",
       "3|||line 1|||||system:s;user:ab;assistant:c (not trained);"},
      {DataFormat::kMessages,
       R"({"messages": [{"role": "user", "content": "a", "train": false}, {"role": "assistant", "content": "b", "train": false}, {"role": "assistant", "content": "c", "loss": true}, {"role": "assistant", "content": "d", "training": 0}]})",
       "3|||line 1|||||user:a;assistant:b (not trained);assistant:c;assistant:d (not trained);"},
      {DataFormat::kShareGpt,
       R"({"id": "z", "conversations": [{"from": "gpt", "value": "lost"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"})",
       "3|z||line 1|||||system:s;user:a;assistant:b;"},
      {DataFormat::kText, R"({"text": "once \u00e4"})", "4|||line 1||||once \xC3\xA4|"},
      {DataFormat::kIds, R"({"input_ids": [5, 6], "labels": [-100, 6]})", "5|||line 1|||||5/-100 6/6 "},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.row);
    const std::string row = c.row;
    for (const std::string& content : {row, "\xEF\xBB\xBF" + row + "\r\n\r\n", "\n \n" + row + "\n"}) {
      const Read r = read_text("f.jsonl", content);
      ASSERT_EQ(r.facts.format, c.format) << r.facts.decision;
      ASSERT_EQ(r.examples.size(), 1u);
      const std::string line = content[0] == '\n' ? "line 3" : "line 1";
      std::string expected = c.expected;
      expected.replace(expected.find("line 1"), 6, line);
      EXPECT_TRUE(shown(r.examples[0]).starts_with(expected)) << shown(r.examples[0]) << "\n" << expected;
      EXPECT_TRUE(says(r.facts.decision, data_format_names()[size_t(c.format)]));
    }
    // The same row in other containers has only another place.
    const auto other = [&](const std::string& content, const std::string& place) {
      Example e = only(content, "f.json");
      EXPECT_EQ(e.where, place);
      e.where = "line 1";
      if (e.id == place) e.id = "line 1";
      EXPECT_EQ(shown(e), shown(only(row)));
    };
    other("[" + row + "]", "[0]");
    other("[\n  " + row + "\n]\n", "[0]");
    other(R"({"version": "1", "data": [)" + row + "]}", "data[0]");
    other("{\n\"data\":\n[" + row + "],\n\"version\": [1]}", "data[0]");
    const std::string pretty = parse_json(row, "").dump(2);
    other(pretty, "line 1");
  }
}

TEST_F(DataSourceTest, EveryContainerOfManyRows) {
  std::string lines, list, values, table = "instruction,input,output\r\n";
  for (int i = 0; i < 300; ++i) {
    const Json row = {{"instruction", fmt::format("say {}\n\"{}\"", i, i)},
                      {"input", i % 3 ? "" : "x,;\t"},
                      {"output", std::string(size_t(i), 'o') + "\\[{"}};
    lines += row.dump() + "\n";
    list += (i ? ",\n" : "[") + row.dump(i % 2 ? 1 : -1);
    values += row.dump(2) + "\n";
    table += fmt::format("\"say {}\n\"\"{}\"\"\",{},{}\r\n", i, i, i % 3 ? "" : "\"x,;\t\"", row["output"].get<std::string>());
  }
  list += "]";
  const std::pair<const char*, std::string> files[] = {{"lines.jsonl", lines},
                                                       {"list.json", list},
                                                       {"data.json", "{\"version\": 1, \"data\": " + list + "}"},
                                                       {"values.json", values},
                                                       {"table.csv", table}};
  std::vector<Example> first;
  for (const auto& [name, content] : files) {
    SCOPED_TRACE(name);
    Read r = read_text(name, content);
    EXPECT_EQ(r.facts.rows, 300);
    EXPECT_EQ(r.facts.bytes, int64_t(content.size()));
    EXPECT_EQ(r.facts.format, DataFormat::kAlpaca);
    for (Example& e : r.examples) e.where = "";
    if (first.empty()) first = r.examples;
    ASSERT_EQ(r.examples.size(), first.size());
    for (size_t i = 0; i < first.size(); ++i) ASSERT_EQ(shown(r.examples[i]), shown(first[i]));
    // Compressed in one piece, in several, and with what may stand between.
    const size_t half = content.size() / 2;
    const std::string a = content.substr(0, half), b = content.substr(half);
    const std::string skippable = "\x53\x2A\x4D\x18\x03\0\0\0abc"s;
    const std::pair<std::string, std::string> packed[] = {
        {"", gzip(content)},     {".gz", gzip(a) + gzip("") + gzip(b)},   {".gz", gzip(content) + std::string(600, '\0')},
        {".zst", zstd(content)}, {".zst", zstd(a) + skippable + zstd(b)}, {"", skippable + zstd(content)}};
    const std::string plain = read(name).text();
    for (const auto& [ending, bytes] : packed) {
      const std::string packed_name = name + ending;
      directory_.write(packed_name, bytes);
      EXPECT_EQ(read(packed_name).text(), plain) << ending;
      EXPECT_TRUE(says(read(packed_name).facts.decision, bytes[0] == '\x1F' ? "gzip" : "zstd"));
    }
    directory_.write(name, content);
  }
}

// Sizes of blocks and threads change nothing, and reading goes on at the end of every block.
TEST_F(DataSourceTest, BlocksThreadsAndGoingOn) {
  std::mt19937 random(7);
  std::string lines, list = "[", text;
  for (int i = 0; i < 400; ++i) {
    const Json row = {
        {"text", std::string(random() % 40 == 0 ? random() % 90000 : random() % 200, char('a' + i % 26)) + "\xC3\xA4 \\\"]}"}};
    lines += row.dump() + (random() % 5 ? "\n" : "\r\n\n");
    list += (i ? " , " : "") + row.dump();
    text += "line " + std::to_string(i) + " " + std::string(random() % 20000, 'x') + "\n" + (i % 7 ? "" : "\n");
  }
  list += "]\n\n";
  directory_.write("f.jsonl", lines)
      .write("f.json", list)
      .write("f.json.gz", gzip(list))
      .write("f.txt", text)
      .write("folder/b.jsonl", lines);
  directory_.write("folder/a/c.json.zst", zstd(list)).write("folder/d.txt", text);
  for (const char* name : {"f.jsonl", "f.json", "f.json.gz", "f.txt", "folder"}) {
    SCOPED_TRACE(name);
    const Read whole = read(name);
    EXPECT_GT(whole.facts.rows, 1);
    for (const size_t block : {size_t(1), size_t(100), size_t(5000), size_t(1) << 30}) {
      for (const int threads : {1, 3}) {
        const ReadLimits limits{.block_bytes = block};
        const Read r = read(name, threads, limits);
        EXPECT_EQ(r.text(), whole.text());
        EXPECT_EQ(r.facts.decision, whole.facts.decision);
        EXPECT_EQ(r.facts.bytes, whole.facts.bytes);
        if (block == 1) {
          EXPECT_EQ(int64_t(r.ends.size()), r.facts.rows);
        }
        const auto source = DataSource::open(directory_ / name, options_, threads, limits);
        for (size_t stop = 0; stop < r.ends.size(); stop += r.ends.size() / 5 + 1) {
          source->seek(r.ends[stop], r.rows[stop]);
          std::string rest;
          SourceFindings findings;
          while (const auto b = source->next()) {
            for (const Example& e : source->parse(*b, findings)) rest += shown(e) + "\n";
          }
          ASSERT_TRUE(whole.text().ends_with(rest)) << "behind block " << stop;
          ASSERT_EQ(std::count(rest.begin(), rest.end(), '\n') > 0, stop + 1 < r.ends.size());
        }
      }
    }
    const auto source = DataSource::open(directory_ / name, options_);
    EXPECT_TRUE(says(refusal_of([&] { source->seek(whole.ends[0] + 1, 1); }), "has the file changed"));
  }
}

TEST_F(DataSourceTest, ParsingIsOfAnyThread) {
  std::string lines;
  for (int i = 0; i < 2000; ++i) lines += fmt::format("{{\"text\": \"row {}\", \"extra\": {}}}\n", i, i + 1);
  directory_.write("f.jsonl", lines);
  const auto source = DataSource::open(directory_ / "f.jsonl", options_, 2, {.block_bytes = 1000});
  std::vector<SourceBlock> blocks;
  while (auto block = source->next()) blocks.push_back(std::move(*block));
  std::vector<SourceFindings> findings(blocks.size());
  std::vector<size_t> counts(blocks.size());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (size_t b = t; b < blocks.size(); b += 3) counts[b] = source->parse(blocks[b], findings[b]).size();
    });
  }
  for (std::thread& thread : threads) thread.join();
  SourceFindings all;
  size_t rows = 0;
  for (size_t b = 0; b < blocks.size(); ++b) all.add(findings[b]), rows += counts[b];
  EXPECT_EQ(rows, 2000u);
  EXPECT_EQ(all.lines("f"), std::vector<std::string>{"f: key \"extra\" is not known and is ignored (2000 times)"});
}

TEST_F(DataSourceTest, AllRowsDecideAndMixturesAreRefused) {
  const std::string alpaca = kAlpacaRow + "\n"s, messages = kMessagesRow + "\n"s;
  const Read r = read_text("f.jsonl", R"({"instruction": "a", "output": "b"})" + "\n"s +
                                          R"({"instruction": "a", "input": null, "output": "b", "more": 1})" + "\n" + alpaca);
  EXPECT_EQ(r.facts.format, DataFormat::kAlpaca);
  EXPECT_EQ(r.examples.size(), 3u);
  EXPECT_TRUE(says(r.facts.decision, "3 rows"));
  for (const int rows : {1, 50}) {
    std::string many;
    for (int i = 0; i < rows; ++i) many += alpaca;
    const std::string message = error("f.jsonl", many + "\n" + messages + messages);
    EXPECT_TRUE(says(message, fmt::format("alpaca ({} row{}, the first is line 1)", rows, rows > 1 ? "s" : "")));
    EXPECT_TRUE(says(message, fmt::format("messages (2 rows, the first is line {})", rows + 2)));
  }
  EXPECT_TRUE(says(error("f.jsonl", alpaca + "{\"foo\": 1}"), "rows with the keys \"foo\" (1 row, the first is line 2)"));
  EXPECT_TRUE(says(error("f.jsonl", alpaca + "[1]"), "line 2: expected an object, found a list"));
  EXPECT_TRUE(says(error("f.json", "[" + alpaca + "," + messages + "]"), "messages (1 row, the first is [1])"));
  directory_.write("both/a.jsonl", alpaca).write("both/b.jsonl", messages);
  EXPECT_TRUE(says(refusal_of([&] { read("both"); }), "messages (1 row, the first is b.jsonl: line 1)"));
  directory_.write("texts/a.jsonl", alpaca).write("texts/b.txt", "some text");
  EXPECT_TRUE(says(refusal_of([&] { read("texts"); }), "plain text (1 row, the first is b.txt)"));
  // Null counts where nothing else tells.
  EXPECT_TRUE(
      says(error("f.jsonl", messages + R"({"messages": null})"), "line 2: messages: expected a list of messages, found null"));
  const std::string both = R"({"messages": null, "prompt": "p", "completion": "c"})";
  EXPECT_EQ(read_text("f.jsonl", both).facts.format, DataFormat::kPrompt);
}

TEST_F(DataSourceTest, FormatForces) {
  options_.format = DataFormat::kText;
  EXPECT_EQ(only(R"({"text": "x", "instruction": "a", "output": "b"})").text, "x");
  EXPECT_EQ(only("[1, 2", "f.txt").text, "[1, 2");
  EXPECT_TRUE(says(error("f.jsonl", R"({"text": "x"})"
                                    "\n"
                                    R"({"body": "y"})"),
                   "line 2: --format text needs \"text\", and this row has the keys \"body\""));
  options_.format = DataFormat::kDolly;
  EXPECT_EQ(only(R"({"instruction": "a", "output": "b", "response": "c"})").response, "c");
  EXPECT_TRUE(says(error("f.jsonl", kAlpacaRow), "--format dolly needs \"instruction\" and \"response\""));
  EXPECT_TRUE(says(error("f.txt", "hello"), "this is plain text, and --format dolly expects rows"));
  options_.format = DataFormat::kCsv;
  EXPECT_EQ(only("prompt,response\np,\"r,\"\n", "f.txt").response, "r,");
  options_.format = DataFormat::kParquet;
  EXPECT_TRUE(says(error("f.txt", "hello"), "this is no Parquet file"));
}

TEST_F(DataSourceTest, ColumnsGiveFieldsOtherNames) {
  options_.columns = {"prompt=question", "response=answer"};
  const Read r = read_text("f.jsonl", R"({"question": "q", "answer": "a", "prompt": "other"})");
  EXPECT_EQ(r.facts.format, DataFormat::kPrompt);
  EXPECT_TRUE(says(r.facts.decision, "prompt=question, response=answer"));
  EXPECT_TRUE(shown(r.examples[0]).starts_with("2|||line 1|q||a|"));
  EXPECT_TRUE(shown(only("question,answer\nq,a\n", "f.csv")).starts_with("2|||line 2|q||a|"));
  options_.columns = {"messages=chat", "role=speaker", "content=said"};
  EXPECT_EQ(only(R"({"chat": [{"speaker": "user", "said": "hi"}]})").messages[0].content, "hi");
  options_.columns = {"context=passage", "answers=gold"};
  EXPECT_EQ(only(R"({"passage": "c", "question": "q", "gold": "g"})").answers, std::vector<std::string>{"g"});
  const std::pair<std::vector<std::string>, const char*> wrong[] = {
      {{"prompt"}, "expected FIELD=NAME"},
      {{"=x"}, "expected FIELD=NAME"},
      {{"prompts=question"}, "there is no field \"prompts\"; there are: prompt, response"},
      {{"prompt=a", "prompt=b"}, "twice"},
      {{"prompt=q", "response=answer"}, "no row has \"q\"; the rows have \"answer\", \"question\""},
      {{"role=a", "from=b"}, "twice"},
  };
  for (const auto& [columns, part] : wrong) {
    options_.columns = columns;
    EXPECT_TRUE(says(error("f.jsonl", R"({"question": "q", "answer": "a"})", kExitUsage), part));
  }
}

TEST_F(DataSourceTest, RowsThatAreRefusedSayWhatToDo) {
  const std::pair<const char*, const char*> rows[] = {
      {R"({"question": "q", "answer": "a"})", "--columns prompt=question,response=answer"},
      {R"({"input": "q", "output": "a"})", "--columns prompt=input,response=output"},
      {R"({"query": "q", "response": "a"})", "--columns prompt=query"},
      {R"({"instruction": "q", "answer": "a"})", "--columns output=answer"},
      {R"({"instruction": "q", "input": "x", "response": "a"})", "--columns context=input"},
      {R"({"instruction": "q", "context": "x", "output": "a"})", "--columns input=context"},
      {R"({"document": "d", "summary": "s"})", "--columns prompt=document,response=summary"},
      {R"({"conversation": [{"role": "user", "content": "x"}]})", "--columns messages=conversation"},
      {R"({"content": "a text"})", "--columns text=content"},
      {R"({"prompt": "p", "chosen": "a", "rejected": "b"})", "preference pairs (chosen, rejected)"},
      {R"({"chosen": [{"role": "user", "content": "x"}], "rejected": [{}]})", "--columns messages=chosen"},
      {R"({"prompt": "p", "completion": "a", "label": true})", "rows of good and bad answers"},
      {R"({"text": "t", "label": 1})", "--columns prompt=text,response=label"},
      {R"({"question": "q", "choices": ["a"], "answer": 0})", "multiple choice"},
      {R"({"prompt": "p", "text": "t"})", "--columns response=text"},
      {R"({"model_type": "llama"})", "a model's config.json"},
      {R"({"train": [], "test": []})", "several splits"},
      {R"({"features": [], "rows": []})", "data server"},
      {R"({"context": ["c"], "question": ["q"], "answers": [[]]})", "a table by columns"},
      {R"({"translation": {"en": "a", "de": "b"}})", "translations"},
      {R"({"foo": 1, "bar": 2})", "the first row has the keys \"foo\", \"bar\"; expected rows of"},
      {R"({})", "the first row has no keys"},
      {R"({"Messages": []})", "if \"messages\" is meant"},
      {R"([7])", "[0]: expected an object, found 7"},
      {R"({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]})",
       "messages[0]: key \"tool_calls\" is a list: it changes what is trained"},
      {R"({"messages": [{"role": "tool", "content": "x"}]})",
       "messages[0]: role: the role is \"tool\"; tools are not trained here"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "content[0]: type: expected text, found \"image_url\""},
      {R"({"messages": [{"role": "user", "content": "x"}], "tools": [{}]})", "line 1: key \"tools\" is a list"},
      {R"({"messages": [{"role": "cat", "content": "x"}]})",
       "expected system (developer), user (human) or assistant (gpt, model), found \"cat\""},
      {R"({"messages": [{"role": "user", "content": null}]})", "messages[0].content: expected a string, found null"},
      {R"({"messages": [{"role": "user"}]})", "messages[0].content: this field is missing"},
      {R"({"messages": []})", "this list has no message"},
      {R"({"messages": "[]"})", "expected a list of messages, found a string"},
      {R"({"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]})", "weight: expected 0 or 1"},
      {R"({"messages": [{"role": "user", "content": "x", "weight": 0}]})", "found 0 of a message of user"},
      {R"({"messages": [{"role": "assistant", "content": "x", "loss_mask": 0}]})", "say what is trained by \"weight\""},
      {R"({"messages": [{"role": "assistant", "content": "x"}], "train": false})", "it changes what is trained"},
      {R"({"messages": [{"role": "system", "content": "x"}], "system": "y"})", "another one in the messages"},
      {R"({"conversations": [{"from": "human", "value": "x"}, {"from": "observation", "value": "y"}]})", "tools are not trained"},
      {R"({"instruction": "a", "output": "b", "history": [["x", "y"]]})", "key \"history\" is a list"},
      {R"({"prompt": "p", "completion": "a", "response": "b"})", "say which is trained"},
      {R"({"prompt": "p", "completion": [{"role": "user", "content": "x"}]})", "prompt: expected a list of messages"},
      {R"({"instruction": ["a"], "output": "b"})", "line 1: instruction: expected a string, found a list"},
      {R"({"instruction": "a", "output": null})", "line 1: output: expected a string"},
      {R"({"prompt": "p", "completion": 1.5})", "completion: expected a string or a whole number"},
      {R"({"input_ids": [[1, 2]]})", "a batch dimension?"},
      {R"({"text": 5})", "text: expected a string, found 5"},
  };
  for (const auto& [row, part] : rows) EXPECT_TRUE(says(error("f.jsonl", row), part)) << row;
}

TEST_F(DataSourceTest, FilesThatAreRefused) {
  const std::string row = kAlpacaRow + "\n"s;
  const std::pair<std::pair<const char*, std::string>, const char*> files[] = {
      {{"f.json", "\xFF\xFE{\0\"\0d\0\"\0:\0"s}, "this looks like text in UTF-16"},
      {{"f.json", "\xFF\xFE{\0\"\0d\0\"\0:\0"s}, "iconv -f UTF-16 -t UTF-8"},
      {{"f.json", "{\0\"\0d\0a\0t\0a\0\"\0:\0"s}, "iconv -f UTF-16LE -t UTF-8"},
      {{"f.json", "\0{\0\"\0d\0a\0t\0a\0\"\0:"s}, "iconv -f UTF-16BE -t UTF-8"},
      {{"f.json", "{\0\0\0\"\0\0\0d\0\0\0\"\0\0\0"s}, "iconv -f UTF-32LE -t UTF-8"},
      {{"f.jsonl", row + "{\"instruction\": \"caf\xE9\", \"output\": \"\"}"},
       "line 2, byte 20: found the byte 0xE9, which is not UTF-8"},
      {{"f.txt", "first\nsecond caf\xE9\n"}, "line 2, byte 10: found the byte 0xE9"},
      {{"f.jsonl", row + "{\"instruction\": \"\\ud800\", \"output\": \"\"}"}, "line 2, byte"},
      {{"f.jsonl", row + "{\"instruction\": \"a\", \"output\": \"b\""}, "line 2"},
      {{"f.jsonl", row + "{\"a\": 1, \"a\": 2}"}, "line 2, byte 11: the key \"a\" appears twice"},
      {{"f.jsonl", "hello\n"}, "this looks like plain text (\"hello\"), named as JSON"},
      {{"f.jsonl", "a,b\n1,2\n"}, "a table in text (CSV)"},
      {{"f.jsonl", "{'a': 1}"}, "Python's notation"},
      {{"f.json", ""}, "an empty file"},
      {{"f.json", " \n\t\r\n"}, "no sample"},
      {{"f.json", "[]"}, "there is no sample in this file"},
      {{"f.json", "{\"data\": []}"}, "there is no sample in this file"},
      {{"f.json", "[" + row + ","}, "expected an element, found the end of the file"},
      {{"f.json", "[" + row}, "the file ends inside the list, behind element 0"},
      {{"f.json", "[" + row + "] x"}, "line 2: not valid JSON: expected nothing behind the list, found \"x\""},
      {{"f.json", "[" + row + row + "]"}, "expected \",\" or \"]\" behind an element"},
      {{"f.json", "[" + row + ", {\"instruction\": \"cut of"},
       "the file ends inside [1], which begins at line 2; is it cut off?"},
      {{"f.json", "[{\"instruction\": \"a\", \"output\": \"b\"]}]"}, "[0], byte"},
      {{"f.json", "{\"data\": [" + row + "], \"data\": 1}"}, "appears twice"},
      {{"f.json", "{\"data\": [" + row + "], 5}"}, "expected a key in quotes"},
      {{"f.csv", "prompt,response\na\n"}, "line 2: this record has 1 fields, and the header has 2 columns"},
      {{"f.csv", "prompt,response\na,\"b\nc"}, "line 2: this field begins with a quote that is never closed"},
      {{"f.csv", "prompt,response\n\"a\"b,c\n"}, "line 2: expected a comma or a line end behind a closing quote, found \"b\""},
      {{"f.csv", "prompt,prompt\na,b\n"}, "two columns have the name \"prompt\""},
      {{"f.csv", "prompt,,x\na,b,c\n"}, "column 2 has no name"},
      {{"f.csv", "a,b\n1,2\n"}, "the first row has the keys \"a\", \"b\""},
      {{"f.csv", "prompt,response\n"}, "no sample"},
      {{"f.gz", "\x1F\x8B\x08\0\0\0\0\0"s}, "the gzip data is cut off"},
      {{"f.gz", gzip(row).substr(0, 30)}, "the gzip data is cut off"},
      {{"f.gz", gzip(row).replace(20, 4, "abcd")}, "the gzip data is damaged near byte"},
      {{"f.gz", gzip(row) + "more"}, "other bytes stand behind the stream"},
      {{"f.zst", zstd(row).substr(0, 30)}, "the zstd data is cut off"},
      {{"f.zst", zstd(row) + "more"}, "the zstd data is damaged"},
      {{"f.gz", gzip(gzip(row))}, "compressed twice"},
      {{"f.bin", "\x01\x02\0\xFF\xFE\xFD"s}, "a binary file"},
      {{"f.html", "<!DOCTYPE html><html>"}, "a web page (HTML)"},
      {{"f.png", "\x89PNG\r\n\x1A\n"}, "an image"},
      {{"f.zip", "PK\x03\x04\x14\0\0\0"s}, "a zip archive"},
      {{"f.arrow", "ARROW1\0\0"s}, "an Arrow file"},
      {{"f.pkl", "\x80\x04\x95\x10\0\0\0\0"s}, "a Python pickle"},
      {{"f.safetensors", "\x08\0\0\0\0\0\0\0{\"a\":1}}"s}, "a safetensors file"},
      {{"f.gguf", "GGUF\x03\0\0\0"s}, "a GGUF"},
      {{"f", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"}, "git lfs pull"},
      {{"f.pdf.gz", gzip("%PDF-1.7\nxx")}, "a PDF document that is compressed"},
  };
  for (const auto& [file, part] : files) EXPECT_TRUE(says(error(file.first, file.second), part)) << file.first;
  EXPECT_TRUE(says(refusal_of([&] { read("missing.json"); }), "no such file"));
  EXPECT_TRUE(says(refusal_of([&] { DataSource::open("nobody/squad", options_); }), "the name of a data set on the hub"));
  EXPECT_TRUE(says(refusal_of([&] { DataSource::open("/dev/null/x", options_); }), "no such file"));
}

// The error of the first row comes, however many threads look.
TEST_F(DataSourceTest, TheFirstErrorIsTold) {
  std::string lines;
  for (int i = 0; i < 3000; ++i)
    lines += i % 1000 == 999 ? "{\"text\": bad}\n" : "{\"text\": \"" + std::string(50, 'x') + "\"}\n";
  directory_.write("f.jsonl", lines).write("f.json", "[{\"text\": bad}," + std::string(1000, ' ') + "{\"text\": \"x\"");
  for (const int threads : {1, 2, 5}) {
    EXPECT_TRUE(says(refusal_of([&] { read("f.jsonl", threads, {.block_bytes = 500}); }), "line 1000, byte")) << threads;
    EXPECT_TRUE(says(refusal_of([&] { read("f.json", threads, {.block_bytes = 1}); }), "[0], byte")) << threads;
  }
}

TEST_F(DataSourceTest, LongRowsAreRefused) {
  const ReadLimits limits{.block_bytes = 100, .row_bytes = 300000};
  const std::string fits = "{\"text\": \"" + std::string(299000, 'x') + "\"}",
                    over = "{\"text\": \"" + std::string(600000, 'x') + "\"}";
  directory_.write("a.jsonl", fits + "\n" + fits)
      .write("b.jsonl", fits + "\n" + over)
      .write("c.json", "[" + fits + "," + over + "]");
  directory_.write("d.csv", "text\n" + std::string(299000, 'x') + "\n\"" + std::string(600000, 'x') + "\"\n");
  EXPECT_EQ(read("a.jsonl", 1, limits).examples.size(), 2u);
  for (const char* name : {"b.jsonl", "c.json", "d.csv"}) {
    EXPECT_TRUE(says(refusal_of([&] { read(name, 1, limits); }), "this row is longer than 293 KiB")) << name;
  }
}

// Behind the first bytes, by which a file is known, NUL is a byte as others are.
TEST_F(DataSourceTest, NulBetweenValuesIsNoValue) {
  const std::string value = "{\n  \"text\": \"" + std::string(70000, 'x') + "\"\n}\n";
  EXPECT_EQ(read_text("f.json", value + value).examples.size(), 2u);
  for (const std::string& end : {"\0"s + value, std::string(200000, '\0'), "\0\0\n"s, value + "7\0"s}) {
    EXPECT_TRUE(says(error("f.json", value + end), "f.json: line ")) << end.size();
    EXPECT_TRUE(says(error("f.json", value + end), "expected JSON")) << end.size();
  }
}

TEST_F(DataSourceTest, WorksWithoutThreads) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  size_t usual = 0;
  ASSERT_EQ(pthread_attr_getstacksize(&attributes, &usual), 0);
  const auto set_stack = [&](size_t bytes) {
    return pthread_attr_setstacksize(&attributes, bytes) == 0 && pthread_setattr_default_np(&attributes) == 0;
  };
  directory_.write("f.jsonl", R"({"text": "a"})"
                              "\n"
                              R"({"text": "b"})");
  ASSERT_TRUE(set_stack(size_t(1) << 47));  // more than there are addresses, so that no thread can be started
  EXPECT_THROW(std::thread([] {}), std::system_error);
  EXPECT_EQ(read("f.jsonl", 4).examples.size(), 2u);
  ASSERT_TRUE(set_stack(usual));
  pthread_attr_destroy(&attributes);
}

TEST_F(DataSourceTest, TextFiles) {
  EXPECT_EQ(only("\xEF\xBB\xBFOnce\r\nupon\r\n\r\na time", "f.txt").text, "Once\nupon\n\na time");
  for (const char* text : {"[link](x) and", "[Music] plays", "{x} is a set", "hello, world\nmore, of it, here\n", "\"quoted\"",
                           "1,2", "\n\n  indented\n"}) {
    EXPECT_EQ(only(text, "f.md").text, text);
    EXPECT_EQ(only(text, "plain").text, text);
  }
  // Long texts are divided behind a line end with a letter behind it, and nothing is lost.
  std::string text;
  std::mt19937 random(3);
  while (text.size() < (size_t(3) << 20)) {
    text += "A line of words " + std::to_string(random()) + "\n";
    if (random() % 3 == 0) text += "\n";
    if (random() % 5 == 0) text += "  indented\n";
  }
  Read r = read_text("f.txt", text);
  EXPECT_GE(r.examples.size(), 3u);
  std::string all;
  for (const Example& e : r.examples) {
    EXPECT_LE(e.text.size(), size_t(1) << 20);
    if (!all.empty()) {
      EXPECT_TRUE(all.ends_with("\n") && !all.ends_with("\n\n") && e.text[0] == 'A');
    }
    EXPECT_EQ(e.where, "line " + std::to_string(1 + std::count(all.begin(), all.end(), '\n')));
    EXPECT_EQ(e.group, r.examples[0].group);
    all += e.text;
  }
  EXPECT_EQ(all, text);
  ASSERT_EQ(r.facts.notes.size(), 1u);
  EXPECT_TRUE(says(r.facts.notes[0], "1 file longer than 1.00 MiB, divided at ends of lines into"));
  // Without a good place: behind any line end, at a space, between code points.
  std::string indented, spaces, euros;
  while (indented.size() < (size_t(2) << 20)) indented += "   x\n\n", spaces += " word  x", euros += "\xE2\x82\xAC";
  for (const std::string* whole : {&indented, &spaces, &euros}) {
    r = read_text("f.txt", *whole);
    all.clear();
    for (const Example& e : r.examples) {
      if (whole == &indented && !all.empty()) {
        EXPECT_EQ(all.back(), '\n');
      }
      if (whole == &spaces && !all.empty()) {
        EXPECT_EQ(e.text[0], ' ');
      }
      if (whole == &euros && !all.empty()) {
        EXPECT_EQ(e.text[0], '\xE2');
      }
      all += e.text;
    }
    EXPECT_EQ(all, *whole);
  }
}

TEST_F(DataSourceTest, Folders) {
  const std::string row = kAlpacaRow + "\n"s;
  directory_.write("set/README.md", "# About")
      .write("set/data/train-1.jsonl", row + row)
      .write("set/data/train-0.json.gz", gzip("[" + row + "]"));
  directory_.write("set/data/more.csv", "instruction;output\na;b\n")
      .write("set/.git/config", "x")
      .write("set/.hidden", "x")
      .write("set/pic.png", "\x89PNG\r\n\x1A\n");
  directory_.write("set/empty.jsonl", "").write("set/test.jsonl", row);
  const Read r = read("set");
  EXPECT_EQ(r.facts.format, DataFormat::kAlpaca);
  std::string places;
  for (const Example& e : r.examples) places += e.where + " ";
  EXPECT_EQ(places,
            "data/more.csv: line 2 data/train-0.json.gz: [0] data/train-1.jsonl: line 1 data/train-1.jsonl: line 2 test.jsonl: "
            "line 1 ");
  EXPECT_TRUE(says(r.facts.decision, "alpaca: 5 rows of 4 files of "));
  EXPECT_TRUE(says(r.facts.decision, "(CSV with semicolons, a JSON list, gzip, JSON lines)"));
  ASSERT_EQ(r.facts.notes.size(), 4u);
  EXPECT_TRUE(says(r.facts.notes[0], "1 file left out: about the data, such as README.md"));
  EXPECT_TRUE(says(r.facts.notes[1], "1 file left out: an image, such as pic.png"));
  EXPECT_TRUE(says(r.facts.notes[2], "1 file left out: empty"));
  EXPECT_TRUE(says(r.facts.notes[3], "test.jsonl of this folder is data, too"));
  directory_.write("books/a.txt", "one").write("books/sub/b.md", "two").write("books/c", "[three]");
  const Read books = read("books");
  ASSERT_EQ(books.examples.size(), 3u);
  EXPECT_EQ(books.examples[0].text + books.examples[1].text + books.examples[2].text, "one[three]two");
  EXPECT_NE(books.examples[0].group, books.examples[1].group);
  directory_.write("saved/train/data-00000-of-00001.arrow", "ARROW1\0\0"s).write("pictures/a.png", "\x89PNG\r\n\x1A\n");
  EXPECT_TRUE(says(refusal_of([&] { read("saved"); }), "a data set that datasets' save_to_disk wrote"));
  EXPECT_TRUE(says(refusal_of([&] { read("pictures"); }), "there is no data file in this folder (1 file left out: an image"));
  directory_.write("wide/a.txt", "\xFF\xFEh\0"s).write("wide/b.txt", "x");
  EXPECT_TRUE(says(refusal_of([&] { read("wide"); }), "wide/a.txt: this looks like text in UTF-16"));
  directory_.write("bad/a.jsonl", row).write("bad/b.jsonl", "{\"instruction\": 5, \"output\": \"\"}");
  EXPECT_TRUE(says(refusal_of([&] { read("bad"); }), "bad: b.jsonl: line 1: instruction: expected a string"));
}

TEST_F(DataSourceTest, PipesAreReadTwice) {
  const std::filesystem::path pipe = directory_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(pipe) << kAlpacaRow << "\n" << kAlpacaRow << "\n"; });
  const Read r = read("pipe");
  writer.join();
  EXPECT_EQ(r.examples.size(), 2u);
  EXPECT_EQ(r.facts.format, DataFormat::kAlpaca);
}

TEST_F(DataSourceTest, AFileThatChangesIsNoticed) {
  directory_.write("f.jsonl", kAlpacaRow + "\n"s);
  const auto source = DataSource::open(directory_ / "f.jsonl", options_);
  directory_.write("f.jsonl", kAlpacaRow + "\n"s + kAlpacaRow);
  EXPECT_TRUE(source->next().has_value());
  EXPECT_TRUE(says(refusal_of([&] { source->next(); }), "has changed while it was read: it had 1 rows, and has 2"));
}

// With Apache Arrow this file is damaged; without, the way to read one is told.
TEST_F(DataSourceTest, ParquetNeedsArrow) {
  const std::string message = error("f.parquet", "PAR1" + std::string(40, 'x') + "PAR1");
  EXPECT_TRUE(says(message, "f.parquet: this "));
  if (message.find("cannot be read") == message.npos) {
    EXPECT_TRUE(says(message, "make ARROW=DIR"));
    EXPECT_TRUE(says(message, "pandas.read_parquet"));
  }
}

// Two rows of a column "text" of strings, "fine" and "caf\xE9 x", as pyarrow 26 writes them without a compression, a dictionary,
// statistics and a schema of Arrow's.
TEST_F(DataSourceTest, ParquetTextsAreUtf8) {
  const std::string_view hex =
      "504152311500153015302c15041500150615061c0000000200000004010400000066696e6506000000636166e920781504192c3500180673"
      "6368656d61150200150c250218047465787425004c1c0000001604191c191c26001c150c1925060019180474657874150016041656165626"
      "08491c150015001502003c16141906192600040000001656160426081656002820706172717565742d6370702d6172726f77207665727369"
      "6f6e2032362e302e31191c1c0000008800000050415231";
  std::string file;
  for (size_t i = 0; i < hex.size(); i += 2) file += char(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  const std::string message = error("f.parquet", file);
  if (says(message, "make ARROW=DIR")) GTEST_SKIP() << "this build reads no Parquet";
  EXPECT_TRUE(says(message, "f.parquet: row 2, column \"text\", byte 3: found the byte 0xE9, which is not UTF-8"));
}

TEST_F(DataSourceTest, SquadKeepsItsGroups) {
  const Read r =
      read_text("f.json", R"({"version": "x", "extra": {"k": 1}, "data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [
    {"id": "1", "question": "q", "answers": []}, {"id": "2", "question": "r", "answers": [{"text": "no", "answer_start": 0}]}]}]}]})");
  ASSERT_EQ(r.examples.size(), 2u);
  EXPECT_EQ(r.examples[0].group, group_key("T"s, 42));
  EXPECT_EQ(r.examples[0].subgroup, group_key("c"s, 42));
  EXPECT_EQ(r.examples[1].where, "data[0].paragraphs[0].qas[1]");
  EXPECT_EQ(r.findings.unanswerable, 1);
  EXPECT_EQ(r.findings.offset_mismatches, 1);
  EXPECT_EQ(r.findings.lines("f.json"),
            std::vector<std::string>{"answers not at the answer_start that the file gives: 1 (the first "
                                     "is of data[0].paragraphs[0].qas[1], id \"2\")"});
  ASSERT_EQ(r.facts.notes.size(), 1u);
  EXPECT_TRUE(says(r.facts.notes[0], "key \"extra\" is not known and is ignored"));
}

TEST(AsMessages, EveryKind) {
  const auto text = [](const Example& e) {
    std::string out;
    for (const Message& m : as_messages(e)) out += m.role + ":" + m.content + ";";
    return out;
  };
  EXPECT_EQ(text({.kind = ExampleKind::kQuestion, .prompt = "q", .context = "c", .answers = {"a", "b"}}),
            "user:Context: c\nQuestion: q;assistant:a;");
  EXPECT_EQ(text({.kind = ExampleKind::kQuestion, .prompt = "q", .context = "c"}),
            "user:Context: c\nQuestion: q;assistant:no answer;");
  EXPECT_EQ(text({.kind = ExampleKind::kInstruction, .prompt = "i", .context = "c", .response = "r"}),
            "user:i\n\nc;assistant:r;");
  EXPECT_EQ(text({.kind = ExampleKind::kInstruction, .prompt = "i", .response = "r"}), "user:i;assistant:r;");
  EXPECT_EQ(text({.kind = ExampleKind::kCompletion, .prompt = "p", .response = "r"}), "user:p;assistant:r;");
  EXPECT_EQ(text({.messages = {{"system", "s"}}}), "system:s;");
}

}  // namespace
}  // namespace tll
