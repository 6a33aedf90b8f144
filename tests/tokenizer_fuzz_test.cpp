// Mutations of small files, the same in every run: each ends in an Error or in a tokenizer that works.
#include <functional>
#include <random>
#include <tuple>

#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

const std::string kTexts[] = {"hello hello", "  a  12\n\nhell\xC3\xA9", "ab abc <s> \xF0\x9F\x98\x80", std::string(100, 'l'),
                              std::string("\0\xFF", 2)};

std::string mutate(std::string content, std::mt19937& random) {
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  const std::function<void(size_t)> changes[] = {
      [&](size_t at) { content[at] = static_cast<char>(content[at] ^ 1 << below(8)); },
      [&](size_t at) { content[at] = static_cast<char>(below(256)); },
      [&](size_t at) { content.resize(at); },
      [&](size_t at) { content.erase(at, 1 + below(4)); },
      [&](size_t at) { content.insert(at, content.substr(below(content.size()), 1 + below(40))); },
      [&](size_t at) { content.insert(at, below(2) ? "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F" : "999999999999"); }};
  for (size_t change = 0; change <= below(3) && !content.empty(); ++change) {
    const size_t at = below(content.size());
    changes[below(6)](at);
  }
  return content;
}

void fuzz(const std::string& file, const std::string& content, int count) {
  const TemporaryDirectory directory;
  std::mt19937 random(42);
  int worked = 0;
  for (int i = 0; i < count; ++i) {
    directory.write(file, mutate(content, random));
    try {
      const auto t = Tokenizer::load(directory);
      ++worked;
      for (const std::string& text : kTexts) {
        try {
          const Ids ids = t->encode_with_special(text);
          for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < t->vocab_size());
          t->decode(ids);
        } catch (const Error& e) {
          const std::string message = e.what();
          ASSERT_TRUE(message.find("not UTF-8") != message.npos || message.find("unk_token") != message.npos) << message;
        }
      }
    } catch (const Error& e) {
      ASSERT_EQ(e.exit_code, kExitBadFile);
      ASSERT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }
  EXPECT_GT(worked, 0);  // some changes are harmless: the loop above did encode
  EXPECT_LT(worked, count);
}

TEST(TokenizerFuzz, SentencePiece) {
  fuzz("tokenizer.model", SmallSentencePiece{.byte_fallback = false}.content(), 1000);
  fuzz("tokenizer.model", SmallSentencePiece().content(), 200);
}

TEST(TokenizerFuzz, Tiktoken) { fuzz("tokenizer.model", tiktoken_content(small_tiktoken_tokens()), 200); }

TEST(TokenizerFuzz, TokenizerJson) {
  Json j = small_json();
  j["normalizer"] = {{"type", "NFC"}};
  j["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, {{"type", "ByteLevel"}, {"use_regex", true}}}}};
  j["decoder"] = {{"type", "ByteLevel"}};
  fuzz("tokenizer.json", j.dump(), 900);
  Json metaspace = small_json();
  metaspace["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}};
  metaspace["decoder"] = metaspace["pre_tokenizer"];
  for (const char* token :
       {R"({"id": 11, "content": "ell", "lstrip": true, "rstrip": true})", R"({"id": 12, "content": "12", "single_word": true})",
        R"({"id": 13, "content": "hello", "normalized": false})"})
    metaspace["added_tokens"].push_back(Json::parse(token));
  fuzz("tokenizer.json", metaspace.dump(), 900);
}

TEST(TokenizerFuzz, DeepJson) {
  EXPECT_NE(refusal("tokenizer.json", std::string("{\"a\":") + std::string(1000000, '[')), "");
  std::string nested = R"({"type": "NFC"})";
  for (int i = 0; i < 5000; ++i) nested = R"({"type": "Sequence", "normalizers": [)" + nested + "]}";
  EXPECT_NE(refusal("tokenizer.json", R"({"normalizer": )" + nested + "}"), "");
}

// Small files that ask for long lists of steps, or for texts that double with each step.
TEST(TokenizerFuzz, ManySteps) {
  const auto sequence = [](const char* key, const Json& step, int count) {
    Json out = {{"type", "Sequence"}, {key, Json::array()}};
    for (int i = 0; i < count; ++i) out[key].push_back(step);
    return out;
  };
  const Json doubling = Json::parse(R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})");
  const std::tuple<const char*, const char*, Json> lists[] = {
      {"normalizer", "normalizers", Json{{"type", "NFC"}}},
      {"pre_tokenizer", "pretokenizers", Json{{"type", "Digits"}}},
      {"decoder", "decoders", Json{{"type", "Fuse"}}},
  };
  for (const auto& [name, key, step] : lists) {
    Json j = small_json();
    j[name] = sequence(key, step, 100000);
    EXPECT_TRUE(says(refusal("tokenizer.json", j.dump()), "more than 64 steps")) << name;
    j[name] = sequence(key, step, 64);
    EXPECT_EQ(refusal("tokenizer.json", j.dump()), "") << name;
  }
  Json j = small_json();
  j["normalizer"] = sequence("normalizers", doubling, 60);
  j["decoder"] = sequence("decoders", doubling, 60);
  const auto t = load_json(j);
  EXPECT_EQ(t->encode("b"), (Ids{3}));
  EXPECT_THROW(t->encode("a"), Error);
  EXPECT_THROW(t->decode(Ids{2}), Error);
}

TEST(TokenizerFuzz, ManyTokensAroundAText) {
  Json j = small_json();
  Json& post = j["post_processor"];
  post = Json::parse(R"({"type": "TemplateProcessing", "single": [], "special_tokens": {"a": {"ids": [2, 2]}}})");
  for (int i = 0; i < 32; ++i) post["single"].push_back({{"SpecialToken", {{"id", "a"}}}});
  post["single"].push_back({{"Sequence", {{"id", "A"}}}});
  EXPECT_EQ(load_json(j)->encode_with_special("b").size(), 65u);
  post["special_tokens"]["a"]["ids"].push_back(2);
  EXPECT_TRUE(says(refusal("tokenizer.json", j.dump()), "more than 64"));
}

TEST(TokenizerFuzz, TokensAroundATextMustExist) {
  Json j = small_json();
  j["post_processor"] = Json::parse(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a"}},
    {"Sequence": {"id": "A"}}], "special_tokens": {"a": {"ids": [10]}}})");
  EXPECT_EQ(load_json(j)->encode_with_special("b"), (Ids{10, 3}));
  j["post_processor"]["special_tokens"]["a"]["ids"][0] = 11;
  EXPECT_TRUE(says(refusal("tokenizer.json", j.dump()), "expected a whole number below 11, found 11"));
}

TEST(TokenizerFuzz, AKeyOfAnyKindIsShownOnOneShortLine) {
  for (const std::string& key : {std::string("a\nb"), std::string(5000, 'a')}) {
    Json j = small_json();
    j["post_processor"] = {{"type", "TemplateProcessing"},
                           {"single", {{{"SpecialToken", {{"id", key}}}}, {{"Sequence", {{"id", "A"}}}}}},
                           {"special_tokens", Json::object()}};
    const std::string missing = refusal("tokenizer.json", j.dump());
    EXPECT_TRUE(says(missing, "is missing"));
    j["post_processor"]["special_tokens"][key] = {{"ids", {-1}}};
    const std::string wrong = refusal("tokenizer.json", j.dump());
    EXPECT_TRUE(says(wrong, "expected a whole number"));
    EXPECT_LT(missing.size() + wrong.size(), 700u);
  }
}

TEST(TokenizerFuzz, LongListsBesideATokenizer) {
  const TemporaryDirectory d;
  d.write("tokenizer.json", small_json().dump());
  d.write("generation_config.json", R"({"eos_token_id": [1, 70, 71, 72]})");
  const auto t = Tokenizer::load(d);
  EXPECT_EQ(t->end_ids(), Ids{1});
  EXPECT_EQ(t->warnings().size(), 1u);
  d.write("generation_config.json", Json{{"eos_token_id", std::vector<int>(2000, 1)}}.dump());
  EXPECT_TRUE(says(message_of([&] { Tokenizer::load(d); }), "expected at most 1024 token ids"));
}

TEST(TokenizerFuzz, SideFiles) {
  const TemporaryDirectory d;
  d.write("tokenizer.model", SmallSentencePiece().content());
  for (const char* config :
       {"[]", "{", R"({"bos_token": 3})", R"({"add_bos_token": "yes"})", R"({"added_tokens_decoder": {"x": {"content": "a"}}})",
        R"({"added_tokens_decoder": {"99999999999": {"content": "a"}}})", R"({"added_tokens_decoder": {"300": {}}})"}) {
    d.write("tokenizer_config.json", config);
    EXPECT_THROW(Tokenizer::load(d), Error) << config;
  }
}

}  // namespace
}  // namespace tll
