// The real vocabularies, when they are there: ids that the reference libraries give.
#include <ctime>

#include "tests/test_data.h"
#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

struct Vector {
  const char* text;
  Ids ids;
};

std::unique_ptr<Tokenizer> real(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? Tokenizer::load(path) : nullptr;
}

void expect_all(const Tokenizer& tokenizer, const std::vector<Vector>& vectors) {
  for (const Vector& v : vectors) EXPECT_EQ(tokenizer.encode(v.text), v.ids) << v.text;
}

// The reference `name` to the tokenizer in `file`, or the test is skipped.
#define REAL_TOKENIZER(name, file)                              \
  const std::unique_ptr<Tokenizer> name##_owner = real(file);   \
  if (!name##_owner) GTEST_SKIP() << (file) << " is not there"; \
  const Tokenizer& name = *name##_owner

TEST(Tokenizer, Llama2GivesTheReferencesIds) {
  REAL_TOKENIZER(t, test_data("llama2-tokenizer.model"));
  expect_all(t, {{"Hello world", {15043, 3186}},
                 {"Hello, world!", {15043, 29892, 3186, 29991}},
                 {"This is a test sentence.", {910, 338, 263, 1243, 10541, 29889}},
                 {"  two spaces", {259, 1023, 8162}},
                 {"\n", {29871, 13}},
                 {"日本語", {29871, 30325, 30346, 30968}},
                 {"😀", {29871, 243, 162, 155, 131}},
                 {"1234", {29871, 29896, 29906, 29941, 29946}},
                 {"", {}},
                 {" ", {259}},
                 {" a", {29871, 263}},
                 {"a            b", {263, 9651, 289}},
                 {"\r\n", {6756, 13}},
                 {"</s>", {1533, 29879, 29958}},
                 {"\uFFFD", {29871, 30140}},
                 {"\xFF", {29871, 30140}},
                 {"\xE4\xBD", {29871, 26308}}});
  EXPECT_EQ(t.encode(std::string_view("a\0b", 3)), (Ids{263, 3, 29890}));
  EXPECT_EQ(t.encode_with_special("Hello"), (Ids{1, 15043}));
  EXPECT_EQ(t.vocab_size(), 32000);
  EXPECT_EQ(t.bos(), 1);
  EXPECT_EQ(t.eos(), 2);
  EXPECT_EQ(t.pad(), std::nullopt);
  EXPECT_EQ(t.decode(Ids{1, 35, 15043}), "  Hello");
  EXPECT_EQ(t.decode(Ids{1, 29871, 15043}), " Hello");
  EXPECT_EQ(t.decode(Ids{1, 15043, 2}, false), "<s>Hello</s>");
  EXPECT_EQ(t.decode(Ids{0, 15043}), " \u2047  Hello");
  EXPECT_EQ(t.decode(Ids{3 + 0xE4, 3 + 0xBD, 3 + 0xA0, 3 + 0xFF}), "你\uFFFD");
}

TEST(Tokenizer, Llama3GivesTheReferencesIds) {
  REAL_TOKENIZER(t, test_data("llama3-tokenizer.model"));
  expect_all(t, {{"This is a test sentence.", {2028, 374, 264, 1296, 11914, 13}},
                 {"This is a response.", {2028, 374, 264, 2077, 13}},
                 {"Hello, world!", {9906, 11, 1917, 0}},
                 {"Hello, we can use", {9906, 11, 584, 649, 1005}},
                 {"  two spaces", {220, 1403, 12908}},
                 {"a\n\n  b\n", {64, 271, 220, 293, 198}},
                 {"日本語", {102433, 102158}},
                 {"😀", {76460, 222}},
                 {"1234567", {4513, 10961, 22}},
                 {"I'M don't", {40, 28703, 1541, 956}},
                 {"Café déjà vu.", {34, 2642, 978, 46939, 33614, 13}},
                 {"x = 1;\r\n\ty += 2", {87, 284, 220, 16, 464, 14862, 1447, 220, 17}},
                 {" Việt", {101798}},
                 {"", {}}});
  EXPECT_EQ(t.vocab_size(), 128256);
  EXPECT_EQ(t.encode_with_special("user"), (Ids{128000, 882}));
  EXPECT_EQ(t.end_ids(), (Ids{128001, 128008, 128009}));
  EXPECT_EQ(t.special_id("<|eot_id|>"), 128009);
  EXPECT_EQ(t.special_id("<|finetune_right_pad_id|>"), 128004);
  EXPECT_EQ(t.special_id("<|reserved_special_token_2|>"), 128005);
  EXPECT_EQ(t.special_id("<|reserved_special_token_3|>"), 128011);
  EXPECT_EQ(t.special_id("<|reserved_special_token_247|>"), 128255);
  EXPECT_GT(t.encode("<|eot_id|>").size(), 1u);
  EXPECT_EQ(t.decode(Ids{128000, 9906, 128009}), "Hello");
  EXPECT_EQ(t.decode(Ids{128000, 9906, 128009}, false), "<|begin_of_text|>Hello<|eot_id|>");
  EXPECT_THROW(t.decode(Ids{128256}), Error);
}

TEST(Tokenizer, SmolLm2GivesTheReferencesIds) {
  REAL_TOKENIZER(t, "models/smollm2-135m/tokenizer.json");
  expect_all(t, {{"Hello, we can use", {19556, 28, 392, 416, 722}},
                 {"The capital of France is", {504, 3575, 282, 4649, 314}},
                 {"Hello world! 123", {19556, 905, 17, 216, 33, 34, 35}},
                 {"  multiple   spaces", {216, 2701, 256, 5600}},
                 {"\n", {198}},
                 {"Café déjà vu.", {51, 1939, 2756, 32564, 90, 16739, 386, 101, 30}},
                 {"½ cup", {16738, 7118}},
                 {"in 1999", {254, 216, 33, 41, 41, 41}},
                 {"\n\n1. First", {1116, 33, 30, 3508}},
                 {"a  12", {81, 256, 33, 34}},
                 {"\n  2", {11181, 34}},
                 {" \x1d.", {1673}}});
  EXPECT_EQ(t.vocab_size(), 49152);
  EXPECT_EQ(t.special_id("<|im_end|>"), 2);
  EXPECT_FALSE(t.adds_bos());
  EXPECT_EQ(t.encode_with_special("Hello, we can use"), t.encode("Hello, we can use"));
  EXPECT_TRUE(t.warnings().empty());
}

TEST(Tokenizer, SmolLm2WithoutDigitsWarns) {
  const std::filesystem::path path = "models/smollm2-135m/tokenizer.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  Json json = Json::parse(std::ifstream(path));
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  const auto t = load_json(json);
  EXPECT_EQ(t->encode("\n\n1. First"), (Ids{198, 198, 33, 30, 3508}));
  ASSERT_EQ(t->warnings().size(), 1u);
  EXPECT_TRUE(says(t->warnings()[0], "Digits"));
}

// A million characters without a place to cut: quadratic work would take hours.
TEST(Tokenizer, AMegabyteWithoutSpacesTakesLinearTime) {
  std::string letters;
  for (uint32_t x = 1; letters.size() < 1000000; x = x * 1664525 + 1013904223) letters += static_cast<char>('a' + (x >> 24) % 26);
  bool any = false;
  for (const char* name : {"llama2-tokenizer.model", "llama3-tokenizer.model"}) {
    const auto t = real(test_data(name));
    if (!t) continue;
    any = true;
    for (const std::string& text : {letters, std::string(1000000, ' ')}) {
      const std::clock_t start = std::clock();
      const Ids ids = t->encode(text);
      EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 5.0) << name << " " << text.substr(0, 5);
      EXPECT_EQ(t->decode(ids), text);
    }
  }
  if (!any) GTEST_SKIP() << "no tokenizer.model in " << test_data("");
}

}  // namespace
}  // namespace tll
