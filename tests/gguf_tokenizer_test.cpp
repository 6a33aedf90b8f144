#include <gtest/gtest.h>

#include "data/template.h"
#include "src/base/text_files.h"
#include "src/files/gguf_model.h"
#include "tests/gguf_tokenizers.h"
#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

class GgufTokenizerTest : public testing::Test {
 protected:
  static constexpr int kHe = kGgufFirstMerged, kLines = kHe + 1, kTwelve = kHe + 2, kWord = kHe + 3;
  TextFiles texts(const GgufBytes& g, std::vector<std::string>* notes = nullptr) const {
    return {dir / "m.gguf", gguf_tokenizer_files(GgufModel(dir.write("m.gguf", g.bytes()) / "m.gguf"), notes)};
  }
  std::unique_ptr<Tokenizer> load(const GgufBytes& g) const { return Tokenizer::read(texts(g)); }
  std::string refusal(const GgufBytes& g) const {
    return refusal_of([&] { load(g); });
  }
  static Ids bytes(std::string_view text) {
    Ids ids;
    for (const char byte : text) ids.push_back(3 + static_cast<uint8_t>(byte));
    return ids;
  }

  TemporaryDirectory dir;
};

// What tells the four ways of cutting apart: whether digits are cut before white space is, how many are together, what is taken
// whole, and what is composed.
TEST_F(GgufTokenizerTest, TheNameOfThePreTokenizerDecidesHowTextsAreCut) {
  struct Case {
    const char* pre;
    Ids lines, twelve, word, accent;
  };
  const Ids apart = {3 + '\n', 3 + '\n', 3 + '1'}, together = {kLines, 3 + '1'}, twelve = {kTwelve}, digits = {3 + '1', 3 + '2'};
  const Ids e = bytes("e\u0301"), composed = bytes("\u00E9"), letters = bytes(" WORD"), word = {kWord};
  const Case cases[] = {{"smollm", together, digits, letters, e},
                        {"starcoder", together, digits, letters, e},
                        {"gpt-2", apart, twelve, letters, e},
                        {"llama-bpe", together, twelve, word, e},
                        {"llama3", together, twelve, word, e},
                        {"qwen2", together, digits, letters, composed},
                        {"deepseek-r1-qwen", together, digits, letters, e}};
  for (const Case& c : cases) {
    const auto t = load(gguf_bpe(c.pre));
    EXPECT_EQ(t->encode("\n\n1"), c.lines) << c.pre;
    EXPECT_EQ(t->encode("12"), c.twelve) << c.pre;
    EXPECT_EQ(t->encode(" WORD"), c.word) << c.pre;
    EXPECT_EQ(t->encode("e\u0301"), c.accent) << c.pre;
    EXPECT_EQ(t->encode("he"), Ids{kHe}) << c.pre;
    EXPECT_EQ(t->decode(t->encode("he said\xC2\xA0: 12")), "he said\xC2\xA0: 12") << c.pre;
  }
}

TEST_F(GgufTokenizerTest, LiteralTokens) {
  const auto t = load(gguf_bpe("smollm"));
  EXPECT_EQ(t->special_id("<|end|>"), 0);
  EXPECT_EQ(t->special_id("<|begin|>"), 1);
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->eos(), 0);
  EXPECT_EQ(t->encode("<|end|>"), bytes("<|end|>"));  // a user's text
  EXPECT_EQ(t->encode("a<tool>"), (Ids{3 + 'a', 2}));
  EXPECT_EQ(t->encode_parts(std::vector<TextPart>{{"<|begin|>", true}}).ids, Ids{1});
  EXPECT_EQ(t->encode("[PAD263]"), bytes("[PAD263]"));
}

TEST_F(GgufTokenizerTest, TokensAroundAText) {
  GgufBytes g = gguf_bpe("smollm");
  EXPECT_EQ(load(g)->encode_with_special("a"), Ids{3 + 'a'});
  g.flag("tokenizer.ggml.add_bos_token", true);
  g.flag("tokenizer.ggml.add_eos_token", true);
  EXPECT_EQ(load(g)->encode_with_special("a"), (Ids{1, 3 + 'a', 0}));
  g.remove("tokenizer.ggml.bos_token_id");
  EXPECT_TRUE(says(refusal(g), "key \"tokenizer.ggml.bos_token_id\" is missing"));
  g = gguf_bpe("llama-bpe");
  EXPECT_EQ(load(g)->encode_with_special("a"), (Ids{1, 3 + 'a'}));
  g.flag("tokenizer.ggml.add_bos_token", false);
  EXPECT_EQ(load(g)->encode_with_special("a"), Ids{3 + 'a'});
  // Of a byte-level tokenizer nobody knows the ids that the file does not have.
  g.remove("tokenizer.ggml.eos_token_id");
  EXPECT_EQ(load(g)->eos(), std::nullopt);
}

TEST_F(GgufTokenizerTest, SentencePieceEqualsItsFile) {
  GgufBytes g = gguf_pieces();
  const auto t = load(g), of = load_as("tokenizer.model", SmallSentencePiece().content());
  for (const char* text : {"", "hello", "hello hello", " hello  é", "lohell\n\xE2\x96\x81", "世界", "<s>hello"}) {
    EXPECT_EQ(t->encode(text), of->encode(text)) << text;
    EXPECT_EQ(t->encode_with_special(text), of->encode_with_special(text)) << text;
    EXPECT_EQ(t->decode(of->encode(text)), of->decode(of->encode(text))) << text;
  }
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->eos(), 2);
  EXPECT_TRUE(t->adds_bos());
  g.flag("tokenizer.ggml.add_bos_token", false);
  g.flag("tokenizer.ggml.add_space_prefix", false);
  const auto bare = load(g), no_prefix = load_as("tokenizer.model", SmallSentencePiece{.dummy_prefix = false}.content());
  EXPECT_FALSE(bare->adds_bos());
  EXPECT_EQ(bare->encode("hello"), no_prefix->encode("hello"));
  EXPECT_NE(bare->encode("hello"), t->encode("hello"));
}

TEST_F(GgufTokenizerTest, Phi3sMarksTakeTheSpaceBehind) {
  GgufBytes g = gguf_pieces();
  const auto after_mark = [&] { return load(g)->encode_parts(std::vector<TextPart>{{"</s>\nhello", true}}).ids; };
  const Ids kept = after_mark();
  g.text("general.name", "Phi-3 Mini");
  EXPECT_LT(after_mark().size(), kept.size());
}

TEST_F(GgufTokenizerTest, TemplatesAndSpecialNames) {
  GgufBytes g = gguf_bpe("smollm");
  EXPECT_EQ(read_chat_template(texts(g)), "");
  g.text("tokenizer.chat_template", "{{ messages }}\n\"é\"");
  g.u32("tokenizer.ggml.padding_token_id", 0);
  EXPECT_EQ(read_chat_template(texts(g)), "{{ messages }}\n\"é\"");
  EXPECT_EQ(load(g)->pad(), 0);
  EXPECT_EQ(load(g)->warnings(), std::vector<std::string>{});
}

TEST_F(GgufTokenizerTest, UnknownWaysOfCuttingNeedATokenizerFile) {
  for (const char* pre : {"", "default", "tekken"}) {
    EXPECT_TRUE(says(refusal(gguf_bpe(pre)), "how texts are cut into words is not known"));
    EXPECT_TRUE(says(refusal(gguf_bpe(pre)), "put the model's tokenizer.json beside the file"));
  }
  dir.write("tokenizer.json", small_json().dump());
  GgufBytes g = gguf_bpe("tekken");
  g.text("tokenizer.chat_template", "one");
  std::vector<std::string> notes;
  const TextFiles files = texts(g, &notes);
  EXPECT_EQ(Tokenizer::read(files)->encode("abc"), Ids{8});
  EXPECT_EQ(read_chat_template(files), "one");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_TRUE(says(notes[0], "is read in place of its tokenizer"));
  EXPECT_EQ(load(gguf_bpe("smollm"))->encode("he"), Ids{kHe});  // what the file has itself counts
}

TEST_F(GgufTokenizerTest, BadTokenizersAreRefused) {
  const auto with = [&](const std::function<void(GgufBytes&)>& change, bool sentencepiece = false) {
    GgufBytes g = sentencepiece ? gguf_pieces() : gguf_bpe("smollm");
    change(g);
    return refusal(g);
  };
  EXPECT_TRUE(
      says(with([](auto& g) { g.text("tokenizer.ggml.model", "bert"); }), "expected \"gpt2\" (byte-level BPE) or \"llama\""));
  EXPECT_TRUE(says(with([](auto& g) { g.remove("tokenizer.ggml.model"); }), "has no tokenizer"));
  EXPECT_TRUE(says(with([](auto& g) { g.remove("tokenizer.ggml.tokens"); }), "is missing, or empty"));
  EXPECT_TRUE(says(with([](auto& g) { g.remove("tokenizer.ggml.merges"); }), "\"tokenizer.ggml.merges\" is missing"));
  EXPECT_TRUE(says(with([](auto& g) { g.texts("tokenizer.ggml.merges", {"h zz"}); }), "needs the token \"zz\""));
  EXPECT_TRUE(says(with([](auto& g) { g.texts("tokenizer.ggml.merges", {"he"}); }), "two tokens"));
  EXPECT_TRUE(says(with([](auto& g) { g.i32s("tokenizer.ggml.token_type", {1}); }), "a type for each of 264 tokens"));
  EXPECT_TRUE(
      says(with([](auto& g) { g.i32s("tokenizer.ggml.token_type", std::vector<int32_t>(264, 9)); }), "types from 1 to 6"));
  EXPECT_TRUE(says(with([](auto& g) { g.u32("tokenizer.ggml.eos_token_id", 264); }), "the id of one of 264 tokens"));
  EXPECT_TRUE(says(with([](auto& g) {
                     g.texts("tokenizer.ggml.tokens", {"a", "b", "a"}), g.remove("tokenizer.ggml.token_type");
                   }),
                   "tokens 0 and 2 are both \"a\""));
  EXPECT_TRUE(says(with([](auto& g) {
                     g.texts("tokenizer.ggml.tokens", {"a", ""}), g.remove("tokenizer.ggml.token_type");
                   }),
                   "token 1 is empty"));
  EXPECT_TRUE(says(with([](auto& g) { g.f32s("tokenizer.ggml.scores", {1}); }, true), "a score for each of 272 tokens"));
  EXPECT_TRUE(says(with([](auto& g) { g.remove("tokenizer.ggml.scores"); }, true), "found nothing"));
  EXPECT_TRUE(says(with([](auto& g) { g.text("tokenizer.ggml.precompiled_charsmap", "x"); }, true), "a table of replacements"));
}

}  // namespace
}  // namespace tll
