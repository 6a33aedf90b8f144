// Data files of other kinds: each is refused with what it looks like and what to do.
#include "data/foreign_file.h"

#include <gtest/gtest.h>

#include "data/dataset.h"
#include "tests/fake_tokenizer.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

using namespace std::string_literals;

class ForeignFile : public testing::Test {
 protected:
  std::string refusal(const std::filesystem::path& name) {
    SCOPED_TRACE(name);
    const std::string message = refusal_of([&] { load_dataset(directory_ / name, &tokenizer_, {}); });
    EXPECT_TRUE(says(message, name.string()));
    EXPECT_LT(message.size(), 420u);
    return message;
  }
  void expect(const std::filesystem::path& name, const std::string& content, const char* looks, const char* advice) {
    directory_.write(name, content);
    const std::string message = refusal(name);
    EXPECT_TRUE(says(message, "this looks like "s + looks)) << content;
    EXPECT_TRUE(says(message, "expected SQuAD JSON, rows {\"input_ids\""));
    EXPECT_TRUE(says(message, advice));
  }

  const TemporaryDirectory directory_;
  const FakeTokenizer tokenizer_;
};

TEST_F(ForeignFile, RowsOfOtherTrainers) {
  const std::string tokenise = "tokenise each sample";
  const std::pair<const char*, const char*> rows[] = {
      {R"({"messages": [{"role": "user", "content": "hi"}], "text": "x"})", "chat rows"},
      {R"({"conversations": [{"from": "human", "value": "hi"}], "id": "1"})", "ShareGPT rows"},
      {R"({"conversation": []})", "chat rows"},
      {R"({"prompt": "p", "chosen": "a", "rejected": "b"})", "preference pairs"},
      {R"({"instruction": "do", "input": "", "output": "done"})", "Alpaca rows"},
      {R"({"instruction": "do", "context": "", "response": "done", "category": "qa"})", "Dolly rows"},
      {R"({"prompt": "p", "completion": "c"})", "rows of prompt and completion"},
      {R"({"prompt": "p", "response": "c"})", "rows of prompt and response"},
      {R"({"input": "p", "output": "c"})", "rows of input and output"},
      {R"({"question": "q", "answer": "a"})", "rows of question and answer without a context"},
      {R"({"text": "once upon a time"})", "rows of plain text"},
  };
  for (const auto& [row, looks] : rows) {
    const std::string text = row;
    for (const std::string& content : {text, text + "\n" + text + "\n", "[" + text + "]", "[\n" + text + ",\n" + text + "\n]\n"})
      for (const char* name : {"f.json", "f.jsonl"}) expect(name, content, looks, tokenise.c_str());
  }
}

TEST_F(ForeignFile, OtherJsonOfAProject) {
  expect("f.json", R"({"model_type": "llama"})", "a model's config.json", "--model");
  expect("f.json", R"({"version": "1.0", "added_tokens": [], "model": {}})", "a tokenizer.json", "--model");
  expect("f.json", R"({"peft_type": "LORA"})", "an adapter_config.json", "--adapter");
  expect("f.json", R"({"train": [], "test": []})", "a data set of several splits", "a file of its own");
  expect("f.json", R"({"context": {"0": "c"}, "question": {"0": "q"}, "answers": {"0": []}})", "a table by columns", "records");
  expect("f.json", R"({"context": ["c"], "question": ["q"], "answers": [[]]})", "a table by columns", "records");
  expect("f.json", R"({"features": {}})", "a description of a data set", "to_json");
}

TEST_F(ForeignFile, RowsOfNoKnownKind) {
  const std::pair<std::string, const char*> rows[] = {
      {R"({"foo": 1, "bar": 2})", R"(the first row has the keys "bar", "foo"; expected SQuAD JSON)"},
      {R"([{}])", "the first row has no keys"},
      {R"([7])", "the first row is 7"},
      {R"([["a"]])", "the first row is a list"},
      {R"({"Data": [{"paragraphs": []}]})", "if \"data\" is meant"},
      {R"([{"inputIds": [1]}])", "if \"input_ids\" is meant"},
      {R"([{"context": "c", "questions": "q", "answers": []}])", "if \"question\" is meant"},
      {R"({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1, "i": 1})", "\"h\", ...; expected"},
  };
  for (const auto& [content, part] : rows) {
    directory_.write("f.json", content);
    EXPECT_TRUE(says(refusal("f.json"), part));
  }
}

TEST_F(ForeignFile, TextThatIsNoJson) {
  expect("f.json", "{'input_ids': [1, 2]}", "Python's notation", "json.dump");
  expect("f.json", "\n[{'input_ids': [1, 2]}]", "Python's notation", "json.dump");
  expect("f.txt", "Once upon a time, there was {a cat}.\n", "plain text", "tokenise");
  expect("f.jsonl", "hello\n", "plain text", "tokenise");
  expect("f", "\"a string\"\n", "plain text", "tokenise");
  expect("f", "instruction,input,output\nDo,,done\n", "a table in text (CSV)", "to_json");
  expect("f.txt", "\"question\";\"answer\"\r\nq;a\r\n", "a table in text (CSV)", "to_json");
  expect("f.csv", "a text, in one column\n", "a table in text (CSV)", "to_json");
  expect("f", "id\ttext\n1\thi\n", "a table in text (TSV)", "to_json");
  expect("f.tsv", "one column\n", "a table in text (TSV)", "to_json");
  for (const char* line : {"a,", ",a", "a,,b", "a, b", "a"}) expect("f", line, "plain text", "");
}

TEST_F(ForeignFile, Containers) {
  expect("f.json", "", "an empty file", "download");
  expect("f.json", "\xFF\xFE{\0\"\0d\0\"\0"s, "text in UTF-16", "save it as UTF-8");
  expect("f.json", "{\0\0\0\"\0\0\0d\0\0\0\"\0\0\0"s, "text in UTF-32", "save it as UTF-8");
  expect("f.json", "\x1F\x8B\x08\0\0\0\0\0"s, "a gzip archive", "unpack");
  expect("f.json", "PK\x03\x04\x14\0\0\0"s, "a zip archive", "unpack");
  expect("f.json", "<!DOCTYPE html><html>", "a web page", "download the file itself");
  expect("f.parquet", "PAR1\x15\x04", "a Parquet file", "to_json");
  expect("f.arrow", "ARROW1\0\0"s, "an Arrow file", "to_json");
  expect("f.pdf", "%PDF-1.7\n", "a PDF", "export");
  expect("f.gguf", "GGUF\x03\0\0\0"s, "a GGUF", "");
  expect("f.pkl", "\x80\x04\x95\x10\0\0\0\0"s, "a Python pickle", "");
  expect("f.safetensors", "\x08\0\0\0\0\0\0\0{\"a\":1}}"s, "a safetensors file", "");
  expect("f.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a git-lfs pointer", "git lfs pull");
  expect("f.json", "\x01\x02\0\xFF\xFE\xFD"s, "a binary file", "");
}

TEST_F(ForeignFile, TextInAnotherEncodingIsNamedByLineAndByte) {
  directory_.write("f.jsonl", "{\"input_ids\": [1]}\n{\"text\": \"caf\xE9\"}\n");
  EXPECT_TRUE(says(refusal("f.jsonl"), "line 2, byte 32: found the byte 0xE9, which is not UTF-8; save the file as UTF-8"));
  directory_.write("f.jsonl", "  \n \t\r\n");
  EXPECT_TRUE(says(refusal("f.jsonl"), "no sample in this file"));
}

TEST_F(ForeignFile, DirectoriesAndNames) {
  directory_.write("saved/train/data-00000-of-00001.arrow", "ARROW1")
      .write("hub/data/train.parquet", "PAR1")
      .write("plain/f.json", "");
  EXPECT_TRUE(says(refusal("saved"), "this looks like a data set that datasets' save_to_disk wrote"));
  EXPECT_TRUE(says(refusal("hub"), "a directory of Parquet files"));
  EXPECT_TRUE(says(refusal("plain"), "this is a directory; expected a file"));
  EXPECT_TRUE(says(refusal("missing.json"), "no such file"));
  const auto named = [&](const char* name) { return refusal_of([&] { load_dataset(name, &tokenizer_, {}); }); };
  EXPECT_TRUE(says(named("nobody/squad"), "the name of a data set on the hub"));
  EXPECT_TRUE(says(named("nobody/squad"), "load_dataset(\"nobody/squad\", split=\"train\")"));
  for (const char* name : {"squad", "nobody/squad.json", "tests/squad", "/nobody/squad", "a/b/c"})
    EXPECT_TRUE(says(named(name), "no such file")) << name;
}

}  // namespace
}  // namespace tll
