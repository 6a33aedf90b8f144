// prepare, squad.bin and show: what is trained, what is left out, and that a damaged file is refused.
#include "data/dataset.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "data/prepare.h"
#include "data/sample.h"
#include "data/squad_bin.h"
#include "data/tokenize.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "tests/dataset_values.h"
#include "tests/fake_tokenizer.h"
#include "tests/refusal.h"
#include "tests/signed_prepared.h"
#include "tests/temporary_directory.h"
#include "tests/test_data.h"

namespace tll {
namespace {

class DatasetTest : public testing::Test {
 protected:
  Dataset prepare(const Json& json) {
    directory_.write("squad.json", json.dump());
    return load_dataset(directory_ / "squad.json", &tokenizer_, options_);
  }

  const TemporaryDirectory directory_;
  FakeTokenizer tokenizer_;
  PrepareOptions options_;
};

Json question(const std::string& id, const std::vector<std::string>& answers) {
  Json list = Json::array();
  for (const std::string& a : answers) list.push_back({{"text", a}, {"answer_start", 0}});
  return {{"id", id}, {"question", "Q" + id + "?"}, {"answers", list}};
}

// Articles of one context each, with one answerable and one unanswerable question.
Json squad(int articles) {
  Json data = Json::array();
  for (int i = 0; i < articles; ++i) {
    const std::string word = "w" + std::to_string(i);
    const Json qas = {question(std::to_string(i), {word, word, word + " is"}), question("u" + std::to_string(i), {})};
    data.push_back({{"title", "t" + std::to_string(i)}, {"paragraphs", {{{"context", word + " is here."}, {"qas", qas}}}}});
  }
  return {{"version", "v2.0"}, {"data", data}};
}

TEST_F(DatasetTest, TrainsTheAnswerAndEos) {
  const Dataset d = prepare(squad(2));
  ASSERT_EQ(d.documents.size(), 2u);
  const Document& doc = d.documents[1];
  EXPECT_EQ(d.id_of(doc), "1");
  EXPECT_EQ(d.answers_of(doc), (std::vector<std::string>{"w1", "w1 is"}));
  EXPECT_EQ(tokenizer_.decode(d.prompt_of(doc)), "Context: w1 is here.\nQuestion: Q1?\nAnswer:");
  EXPECT_EQ(tokenizer_.decode(d.tokens_of(doc), false), "Context: w1 is here.\nQuestion: Q1?\nAnswer: w1</s>");
  const std::span<const int32_t> tokens = d.tokens_of(doc);
  const std::vector<int32_t> labels = d.labels_of(doc);
  for (int t = 0; t < doc.length; ++t) EXPECT_EQ(labels[t], t < doc.prompt_tokens ? kNotTrained : tokens[t]) << t;
  EXPECT_EQ(doc.target_tokens, 4);  // ' ', 'w', '1', EOS
  EXPECT_EQ(d.rules, SquadRules::kV2);
  EXPECT_EQ(d.report.unanswerable_left_out, 2);
  EXPECT_EQ(d.report.samples, 2);
  EXPECT_EQ(d.report.target_tokens, 8);
  EXPECT_EQ(d.report.json()["refused"], 0);
}

TEST_F(DatasetTest, UnanswerableCanBeTrained) {
  options_.unanswerable = Unanswerable::kTrain;
  const Dataset d = prepare(squad(1));
  ASSERT_EQ(d.documents.size(), 2u);
  EXPECT_TRUE(d.answers_of(d.documents[1]).empty());
  EXPECT_TRUE(d.unanswerable_trained);
  EXPECT_TRUE(tokenizer_.decode(d.tokens_of(d.documents[1])).ends_with("Answer: no answer"));
  EXPECT_EQ(d.report.unanswerable_trained, 1);
}

TEST_F(DatasetTest, SetsThatTrainNothingAreRefused) {
  Json json = squad(2);
  json["data"][1]["paragraphs"][0]["qas"][0] = question("blank", {" "});
  const std::string message = refusal_of([&] { prepare(json); });
  EXPECT_TRUE(says(message, "data[1].paragraphs[0].qas[0]"));
  EXPECT_TRUE(says(message, "blank"));
  json["data"].erase(1);
  json["data"][0]["paragraphs"][0]["qas"].erase(0);
  EXPECT_TRUE(says(refusal_of([&] { prepare(json); }), "--unanswerable train"));
  options_.allow_empty = true;  // keeps samples, and here is none
  EXPECT_TRUE(says(refusal_of([&] { prepare(json); }), "1 unanswerable"));
  json["data"][0]["paragraphs"][0]["qas"][0] = question("blank", {""});
  const Dataset d = prepare(json);
  EXPECT_EQ(d.report.empty, 1);
  EXPECT_EQ(d.documents[0].target_tokens, 0);
}

TEST_F(DatasetTest, LongContextsAreCutAtTheirEnd) {
  Json json = squad(1);
  Json& paragraph = json["data"][0]["paragraphs"][0];
  std::string context = "w0 is here.";
  for (int i = 0; i < 200; ++i) context += " \xE6\x97\xA5";
  paragraph["context"] = context;
  const std::string rest = "Context: \nQuestion: Q0?\nAnswer: w0";
  for (const int limit : {60, 61, 62, 63, 64, 100}) {
    options_.max_tokens = limit;
    const Dataset d = prepare(json);
    ASSERT_EQ(d.report.truncated, 1);
    const std::string text = tokenizer_.decode(d.tokens_of(d.documents[0]));
    EXPECT_LE(d.documents[0].length, limit);
    EXPECT_GE(d.documents[0].length, limit - 4) << "more was cut than had to be";
    const std::string kept = text.substr(9, text.size() - rest.size());
    EXPECT_EQ(text, "Context: " + kept + "\nQuestion: Q0?\nAnswer: w0");
    EXPECT_TRUE(context.starts_with(kept));
    EXPECT_NE((uint8_t(context[kept.size()]) & 0xC0), 0x80) << "cut inside a character";
  }
}

TEST_F(DatasetTest, SamplesThatDoNotFitAreRefusedWithTheReasonAndTheRemedy) {
  Json json = squad(2);
  Json& context = json["data"][0]["paragraphs"][0]["context"];
  const auto report = [&] {
    const PrepareReport r = prepare(json).report;
    EXPECT_EQ(r.samples, 1);
    return r;
  };
  context = "w0" + std::string(100, 'x');
  options_.max_tokens = 80;
  options_.long_samples = LongSamples::kDrop;
  EXPECT_EQ(report().refused, (std::map<std::string, int64_t>{{"too long", 1}}));
  options_.long_samples = LongSamples::kCut;
  context = std::string(100, 'x') + " w0";
  EXPECT_EQ(report().refused, (std::map<std::string, int64_t>{{"answer cut off", 1}}));
  const std::vector<std::string> notes = report().notes();
  EXPECT_EQ(std::count(notes.begin(), notes.end(), "1 sample refused: answer cut off at --seq-len"), 1);
  EXPECT_EQ(parse_dataset(dataset_bytes(prepare(json)), "f").report.refused, report().refused);
  Json& question = json["data"][1]["paragraphs"][0]["qas"][0]["question"];
  question = std::string(200, '?');
  const std::string none = refusal_of([&] { prepare(json); });
  EXPECT_TRUE(
      says(none, "no sample is left to train on: 1 answer cut off at --seq-len 80, 1 too long for --seq-len 80, 2 unanswerable"));
  EXPECT_TRUE(says(none, "--seq-len 138 or more, or train unanswerable questions too with --unanswerable train"));
  options_.max_tokens = 138;
  EXPECT_EQ(report().refused.size(), 1u) << "the remedy helps";
}

TEST_F(DatasetTest, RepeatedIdsAreCounted) {
  Json json = squad(4);
  for (const int i : {1, 3}) json["data"][i]["paragraphs"][0]["qas"][0]["id"] = "0";
  const Dataset d = prepare(json);
  EXPECT_EQ(d.documents.size(), 4u);
  EXPECT_EQ(d.report.repeated_ids, 2);
  const std::vector<std::string> notes = d.report.notes();
  const std::string note = "2 samples with the id of an earlier one (the first such id is \"0\")";
  EXPECT_EQ(std::count(notes.begin(), notes.end(), note), 1);
  EXPECT_EQ(parse_dataset(dataset_bytes(d), "f").report.repeated_ids, 2);
  EXPECT_EQ(prepare(squad(4)).report.repeated_ids, 0);
}

TEST_F(DatasetTest, FilesWithoutASampleAreRefused) {
  options_.allow_empty = true;
  for (const std::string& text : std::vector<std::string>{"", " \n\t\r\n", "\xEF\xBB\xBF\n", "[]", R"({"data": []})",
                                                          R"({"data": [{"title": "T", "paragraphs": []}]})", "null"}) {
    SCOPED_TRACE(text);
    for (const char* name : {"squad.json", "rows.jsonl"}) {
      directory_.write(name, text);
      refusal_of([&] { load_dataset(directory_ / name, &tokenizer_, options_); });
    }
  }
  Dataset none;
  none.max_tokens = 10;
  directory_.write("none.bin", dataset_bytes(none));
  EXPECT_TRUE(says(refusal_of([&] { load_dataset(directory_ / "none.bin", &tokenizer_, options_); }), "no sample"));
}

TEST_F(DatasetTest, SplitsByArticleOrByContext) {
  options_.valid_split = 0.2;
  options_.unanswerable = Unanswerable::kTrain;
  const Dataset d = prepare(squad(10));
  EXPECT_EQ(d.count(Split::kValidation), 4);  // two articles of two questions
  std::map<std::string, std::set<Split>> of_title;
  for (const Document& doc : d.documents) of_title[d.title_of(doc)].insert(doc.split);
  for (const auto& [title, splits] : of_title) EXPECT_EQ(splits.size(), 1u) << title;
  EXPECT_EQ(prepare(squad(10)).content_hash(), d.content_hash());
  options_.unanswerable = Unanswerable::kSkip;  // does not move an article to the other side
  const Dataset answerable = prepare(squad(10));
  for (const Document& doc : answerable.documents) EXPECT_TRUE(of_title[answerable.title_of(doc)].contains(doc.split));

  Json one_article = squad(10);
  for (Json& article : one_article["data"]) article["title"] = "same";
  EXPECT_EQ(prepare(one_article).count(Split::kValidation), 2);
  options_.valid_split = 1;
  refusal_of([&] { prepare(squad(2)); }, kExitUsage);
}

// Spans of a format that is neither SQuAD nor rows.
TEST_F(DatasetTest, OnlyTheSpanThatMayBeShortenedIs) {
  const Span question{.text = "12345"}, answer{.text = "67", .trained = true, .ends_text = true};
  const Span history{.may_shorten = true, .ids = {7, 8, 9, 10}, .labels = {-100, -100, -100, -100}};
  options_.max_tokens = 10;
  const auto tokenized = [&](std::vector<Span> spans) {
    return tokenize_sample({.spans = std::move(spans)}, "f", &tokenizer_, options_);
  };
  EXPECT_EQ(tokenized({question, answer, question, answer}).refused, "too long");
  const TokenizedSample kept = tokenized({history, question, answer});
  EXPECT_TRUE(kept.shortened);
  ASSERT_EQ(kept.documents.size(), 1u);
  const Tokens& tokens = kept.documents[0];
  EXPECT_EQ(tokenizer_.decode(tokens.ids),
            "\x04\x05"
            "1234567");
  EXPECT_EQ(tokens.prompt_tokens, 7);
  EXPECT_EQ(count_targets(tokens.labels), 3);
}

TEST_F(DatasetTest, VocabularyOfModelAndTokenizerMustAgree) {
  options_.vocab_size = 50;
  EXPECT_TRUE(says(refusal_of([&] { prepare(squad(1)); }), "below 50"));
  refusal_of([&] { load_dataset(directory_ / "squad.json", nullptr, {}); });
}

TEST_F(DatasetTest, SquadBinKeepsEverything) {
  options_.valid_split = 0.3;
  options_.unanswerable = Unanswerable::kTrain;
  const Dataset a = prepare(squad(10));
  const std::string bytes = dataset_bytes(a);
  prepare_file(directory_ / "squad.json", directory_ / "squad.bin", &tokenizer_, options_);
  EXPECT_EQ(read_file(directory_ / "squad.bin"), bytes);
  const Dataset b = load_dataset(directory_ / "squad.bin", &tokenizer_, {});
  EXPECT_EQ(all_tokens(a), all_tokens(b));
  EXPECT_EQ(all_labels(a), all_labels(b));
  EXPECT_EQ(a.content_hash(), b.content_hash());
  EXPECT_EQ(a.report.json(), b.report.json());
  EXPECT_EQ(a.tokenizer_fingerprint, b.tokenizer_fingerprint);
  EXPECT_EQ(b.template_name, "squad");
  EXPECT_EQ(b.rules, SquadRules::kV2);
  EXPECT_TRUE(b.unanswerable_trained);
  ASSERT_EQ(a.documents.size(), b.documents.size());
  for (size_t i = 0; i < a.documents.size(); ++i) {
    const Document &x = a.documents[i], &y = b.documents[i];
    EXPECT_EQ(std::tie(x.begin, x.length, x.prompt_tokens, x.target_tokens, x.split, x.question, x.answer_trained),
              std::tie(y.begin, y.length, y.prompt_tokens, y.target_tokens, y.split, y.question, y.answer_trained));
    EXPECT_EQ(a.id_of(x), b.id_of(y));
    EXPECT_EQ(a.title_of(x), b.title_of(y));
    EXPECT_EQ(a.answers_of(x), b.answers_of(y));
  }
  EXPECT_EQ(bytes, dataset_bytes(b));

  const FakeTokenizer other({"more"});
  EXPECT_TRUE(says(refusal_of([&] { load_dataset(directory_ / "squad.bin", &other, {}); }), "another tokenizer"));
  options_.max_tokens = 20;
  EXPECT_TRUE(says(refusal_of([&] { load_dataset(directory_ / "squad.bin", &tokenizer_, options_); }), "--seq-len 20"));
  options_ = {.vocab_size = 50};
  EXPECT_TRUE(says(refusal_of([&] { load_dataset(directory_ / "squad.bin", nullptr, options_); }), "below"));
}

TEST_F(DatasetTest, DamagedFilesAreRefused) {
  const std::string good = dataset_bytes(prepare(squad(3)));
  for (size_t size = 0; size < good.size(); size += 1 + size / 50)
    refusal_of([&] { parse_dataset(std::string_view(good).substr(0, size), "f"); });
  for (size_t i = 0; i < good.size(); ++i) {  // the checksums see every bit
    std::string bad = good;
    bad[i] = char(bad[i] ^ (1 << (i % 8)));
    refusal_of([&] { parse_dataset(bad, "f"); });
  }
}

PreparedLayout layout_of(const std::string& bytes) {
  PreparedHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  return PreparedLayout(header);
}

TEST_F(DatasetTest, EveryFieldIsChecked) {
  const std::string good = dataset_bytes(prepare(squad(3)));
  const PreparedLayout layout = layout_of(good);
  const size_t table = layout.documents;
  struct Change {
    size_t offset;
    uint32_t value;
  };
  const std::pair<std::vector<Change>, const char*> cases[] = {
      {{{0, 0}}, "TLLSQUAD"},
      {{{8, 1}}, "version 1, and this program reads 2; run `prepare` again"},
      {{{12, 3}}, "token id"},
      {{{12, 0x80000000}}, "vocab_size"},
      {{{16, 5}}, "length is out of range"},
      {{{20, 2}}, "labels must be 0 or 1"},
      {{{20, 1}}, "do not fit"},
      {{{24, 0xFFFFFFFF}}, "do not fit"},
      {{{28, 0xFFFFFFFF}}, "do not fit"},
      {{{32, 0xFFFFFFFF}}, "do not fit"},
      {{{36, 0xFFFFFFFF}}, "do not fit"},
      {{{44, 0xFFFFFFFF}}, "do not fit"},
      {{{52, 0xFFFFFFFF}}, "do not fit"},
      {{{table, 0xFFFFFFFF}, {table + 4, 0xFFFFFFFF}}, "beginning is out of range"},
      {{{table + 32, 0}}, "beginning is out of range"},
      {{{table + 8, 0}}, "length is out of range"},
      {{{16, 0x7FFFFFFF}, {table + 8, 0x7FFFFFFF}}, "length is out of range"},
      {{{table + 12, 1000}}, "prompt is longer"},
      {{{table + 16, 1000}}, "trained tokens is out of range"},
      {{{table + 16, 1}}, "trained tokens is wrong"},
      {{{table + 20, 2}}, "split"},
      {{{table + 20, 0x0200}}, "mark"},
      {{{table + 24, 0x7FFFFFFF}}, "texts are out of range"},
      {{{layout.strings, 0x7FFFFFFF}}, "strings do not add up"},
      {{{layout.strings + 4, 0x7F}}, "strings do not add up"},
      {{{kPreparedBody, 0xFFFFFFFF}}, "token id"},
      {{{layout.facts, 0}}, "facts"},
  };
  for (const auto& [changes, part] : cases) {
    std::string bad = good;
    for (const Change& c : changes) std::memcpy(bad.data() + c.offset, &c.value, 4);
    sign(bad);
    EXPECT_TRUE(says(refusal_of([&] { parse_dataset(bad, "f"); }), part)) << "at offset " << changes[0].offset;
  }
}

// With checksums that fit: the reader must hold against files that were made to harm. What it accepts must be consistent. A
// mapped file finds out later: when it is used.
TEST_F(DatasetTest, HostileFilesAreRefusedOrConsistent) {
  const std::string good = dataset_bytes(prepare(squad(3)));
  const PreparedLayout layout = layout_of(good);
  std::mt19937 random(7);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    const int changes = 1 + int(random() % 3);
    for (int c = 0; c < changes; ++c) {
      const size_t places[] = {random() % 72, kPreparedBody + random() % (layout.documents - kPreparedBody),
                               layout.documents + random() % (bad.size() - layout.documents), random() % bad.size()};
      const size_t at = places[random() % 4];
      const uint8_t values[] = {0, 1, 0x7F, 0x80, 0xFF, uint8_t(random()), uint8_t(bad[at] + 1), uint8_t(bad[at] - 1)};
      bad[at] = char(values[random() % 8]);
    }
    if (random() % 8 == 0) bad.resize(random() % bad.size() + 8);
    sign(bad);
    const bool mapped = round % 8 == 0;
    try {
      if (mapped) directory_.write("bad.bin", bad);
      const Dataset d = mapped ? load_dataset(directory_ / "bad.bin", nullptr, {.any_length = true}) : parse_dataset(bad, "f");
      int64_t at = 0;
      for (const Document& doc : d.documents) {
        ASSERT_GE(doc.begin, at);
        ASSERT_GE(doc.length, 1);
        ASSERT_LE(doc.prompt_tokens, doc.length);
        at = doc.begin + doc.length;
        d.id_of(doc);
        for (const int32_t id : d.tokens_of(doc)) ASSERT_TRUE(id >= 0 && id < d.vocab_size);
        for (const int32_t id : d.labels_of(doc)) ASSERT_TRUE(id == kNotTrained || (id >= 0 && id < d.vocab_size));
      }
      dataset_bytes(d);
      ++accepted;
    } catch (const Error& e) {
      ASSERT_EQ(e.exit_code, kExitBadFile);
    }
  }
  EXPECT_GT(accepted, 100);  // a change of a token or a letter is no damage
  EXPECT_LT(accepted, 18000);
}

// Opening reads neither tokens nor texts. What is used is checked then, and no more.
TEST_F(DatasetTest, DamageOfAMappedFileIsFoundWhereItIsUsed) {
  Dataset rows;
  rows.vocab_size = 10, rows.max_tokens = 1000;
  for (int i = 0; i < 1000; ++i) {
    std::vector<int32_t> ids(1000, i % 10), labels = ids;
    labels[7] = 3;
    rows.add(ids, labels, {}, {.id = std::to_string(i)});
  }
  rows.count_documents();
  std::string bytes = dataset_bytes(rows);
  bytes[kPreparedBody + 2 * kPreparedChunk + 5] ^= 1;  // in the tokens
  write_file_atomic(directory_ / "rows.bin", bytes);
  const Dataset d = load_dataset(directory_ / "rows.bin", nullptr, {});
  EXPECT_EQ(d.content_hash(), rows.content_hash());
  EXPECT_EQ(d.tokens_of(d.documents[0])[0], 0);
  EXPECT_EQ(d.labels_of(d.documents[501])[7], 3);
  EXPECT_EQ(d.id_of(d.documents[999]), "999");
  const Document& damaged = d.documents[2 * (kPreparedChunk / 4000)];
  EXPECT_TRUE(says(refusal_of([&] { d.tokens_of(damaged); }), "bytes 2101248 to 3149823 are damaged"));
  d.documents[0].split = Split::kValidation;  // in memory alone
  EXPECT_EQ(load_dataset(directory_ / "rows.bin", nullptr, {}).documents[0].split, Split::kTrain);
}

TEST_F(DatasetTest, ShowMarksTheTrainedPart) {
  Json json = squad(1);
  json["data"][0]["paragraphs"][0]["context"] = "w0 \x1b[31mred";
  const Dataset d = prepare(json);
  const std::string text = show_text(d, 0, tokenizer_, false);
  EXPECT_TRUE(says(text, "Answer:« w0</s>»"));
  EXPECT_TRUE(says(text, "w0 \\x1b[31mred"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_TRUE(says(show_text(d, 0, tokenizer_, true), "\x1b[1;32m« w0\x1b[36m</s>\x1b[1;32m»\x1b[0m"));
  const Json shown = show_json(d, 0, tokenizer_);
  EXPECT_EQ(shown["segments"][1]["text"], " w0</s>");
  EXPECT_EQ(shown["segments"][1]["trained"], true);
  EXPECT_EQ(shown["split"], "train");
  EXPECT_EQ(shown["labels"].size(), shown["tokens"].size());
  refusal_of([&] { show_text(d, 1, tokenizer_, false); }, kExitUsage);
}

TEST_F(DatasetTest, RealFile) {
  const std::filesystem::path path = test_data("squad-v2.0-dev-5-articles.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing (set TLL_TEST_DATA)";
  options_.max_tokens = 8192;  // bytes
  options_.valid_split = 0.2;
  const Dataset d = load_dataset(path, &tokenizer_, options_);
  EXPECT_EQ(d.report.samples, 705);
  EXPECT_EQ(d.report.unanswerable_left_out, 702);
  EXPECT_EQ(d.report.refused_total(), 0);
  std::set<std::string> train, validation;
  for (const Document& doc : d.documents) (doc.split == Split::kTrain ? train : validation).insert(d.title_of(doc));
  EXPECT_EQ(train.size(), 4u);
  EXPECT_EQ(validation.size(), 1u);
  EXPECT_EQ(parse_dataset(dataset_bytes(d), "f").content_hash(), d.content_hash());
}

}  // namespace
}  // namespace tll
