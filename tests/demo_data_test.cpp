// The committed demo: what its sample set, its tokenizer and its configuration promise each other.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "src/base/file.h"
#include "src/base/json.h"
#include "src/files/config.h"
#include "src/files/model_files.h"
#include "tests/squad_file.h"
#include "tokenizer/tokenizer.h"

namespace tll {
namespace {

const std::filesystem::path kDemo = "data/demo";

const SquadFile& squad() {
  static const SquadFile file = read_squad_file(kDemo / "squad.json");
  return file;
}

const Tokenizer& tokenizer() {
  static const std::unique_ptr<Tokenizer> loaded = Tokenizer::load(kDemo);
  return *loaded;
}

// Words that begin with a capital inside a sentence, joined where they follow one another: "Vena Dunley". A sentence's first
// word counts too, unless it is the article.
std::set<std::string> names_in(const std::string& text) {
  std::set<std::string> names;
  std::string name;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    std::string word = text.substr(begin, end - begin);
    const bool last = word.ends_with('.');
    if (last) word.pop_back();
    const bool capital = word[0] >= 'A' && word[0] <= 'Z' && word != "The";
    if (capital) name += (name.empty() ? "" : " ") + word;
    if ((!capital || last) && !name.empty()) names.insert(std::exchange(name, ""));
    begin = end + 1;
  }
  if (!name.empty()) names.insert(name);
  return names;
}

TEST(DemoData, EveryAnswerStandsInItsContext) {
  ASSERT_GE(squad().questions.size(), 600u);
  EXPECT_EQ(squad().offset_mismatches, 0);
  EXPECT_EQ(squad().unanswerable, 0);
  std::map<std::string, size_t> starts;
  for (const Json& article : parse_json(read_file(kDemo / "squad.json"), "squad.json")["data"]) {
    for (const Json& paragraph : article["paragraphs"]) {
      for (const Json& qa : paragraph["qas"]) starts[qa["id"]] = qa["answers"][0]["answer_start"];
    }
  }
  std::set<std::string> ids, questions;
  for (const SquadQuestion& s : squad().questions) {
    EXPECT_TRUE(ids.insert(s.id).second) << s.id;
    EXPECT_TRUE(questions.insert(s.context + s.question).second) << s.id;
    ASSERT_EQ(s.answers.size(), 1u) << s.id;
    // Whole words: "tea" must not be taken out of "teacher". Contexts are ASCII, so code points are bytes.
    const size_t begin = starts.at(s.id), end = begin + s.answers[0].size();
    EXPECT_TRUE(begin == 0 || s.context[begin - 1] == ' ') << s.id;
    EXPECT_TRUE(end < s.context.size() && (s.context[end] == ' ' || s.context[end] == '.')) << s.id;
  }
}

TEST(DemoData, NoArticleSharesANameWithAnother) {
  std::map<std::string, std::set<std::string>> articles_of;
  for (const SquadQuestion& s : squad().questions)
    for (const std::string& name : names_in(s.context)) articles_of[name].insert(s.title);
  EXPECT_GE(articles_of.size(), 400u);
  for (const auto& [name, articles] : articles_of) EXPECT_EQ(articles.size(), 1u) << name;
}

TEST(DemoData, TheTokenizerIsOfTheLlama2Kind) {
  EXPECT_EQ(tokenizer().unk(), 0);
  EXPECT_EQ(tokenizer().bos(), 1);
  EXPECT_EQ(tokenizer().eos(), 2);
  EXPECT_TRUE(tokenizer().adds_bos());
  EXPECT_FALSE(tokenizer().adds_eos());
  EXPECT_EQ(tokenizer().encode("\n").back(), 3 + '\n');  // byte fallback
  EXPECT_EQ(tokenizer().decode(tokenizer().encode(" two  spaces \xE2\x82\xAC")), " two  spaces \xE2\x82\xAC");
}

TEST(DemoData, NamesOutsideTheCorpusAreSpelledFromKnownParts) {
  for (const SquadQuestion& s : squad().questions) {
    for (const std::string& name : names_in(s.context))
      for (const int32_t id : tokenizer().encode(name)) EXPECT_GT(id, 2 + 256) << name << " needs a byte piece";
    EXPECT_EQ(tokenizer().decode(tokenizer().encode(s.context)), s.context);
  }
}

TEST(DemoData, TheConfigurationFitsTheTokenizerAndTheRepository) {
  const Json config = parse_json(read_file(kDemo / "config.json"), "config.json");
  EXPECT_EQ(config.at("vocab_size"), tokenizer().vocab_size());
  EXPECT_EQ(config.at("bos_token_id"), tokenizer().bos());
  EXPECT_EQ(config.at("eos_token_id"), tokenizer().eos());
  uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kDemo)) bytes += entry.file_size();
  EXPECT_LE(bytes, uintmax_t(8) << 20);
}

TEST(DemoData, TheModelHasTheWeightsThatTheConfigurationNames) {
  const LlamaConfig config = load_config(kDemo / "config.json");
  EXPECT_GE(parameter_count(config), 1'000'000);
  EXPECT_LE(parameter_count(config), 4'000'000);
  EXPECT_NO_THROW(ModelFiles(kDemo, config));
}

}  // namespace
}  // namespace tll
