#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

constexpr int32_t kFirst = 259;  // id of "▁" in the small model with bytes
enum Piece : int32_t { kMark = kFirst, kH, kE, kL, kO, kHe, kLl, kHell, kHello, kMarkHello, kMarks, kLo, kAccent };

std::unique_ptr<Tokenizer> load(const SmallSentencePiece& model) { return load_as("tokenizer.model", model.content()); }

TEST(SentencePiece, MergesByScoreThenFromTheLeft) {
  const auto t = load({});
  EXPECT_EQ(t->encode("hello"), (Ids{kMarkHello}));
  EXPECT_EQ(t->encode("hello hello"), (Ids{kMarkHello, kMarkHello}));
  EXPECT_EQ(t->encode("hell"), (Ids{kMark, kHell}));
  EXPECT_EQ(t->encode("lllo"), (Ids{kMark, kLl, kLo}));  // ll has the better score, and the leftmost ll merges
  EXPECT_EQ(t->encode(""), Ids{});
  EXPECT_EQ(t->encode(" "), (Ids{kMarks}));
  EXPECT_EQ(t->encode("  "), (Ids{kMarks, kMark}));
  EXPECT_EQ(t->encode("▁"), t->encode(" "));
}

TEST(SentencePiece, UnknownCharactersBecomeBytes) {
  const auto t = load({});
  EXPECT_EQ(t->encode("x"), (Ids{kMark, 'x' + 3}));
  EXPECT_EQ(t->encode("é€"), (Ids{kMark, kAccent, 0xE2 + 3, 0x82 + 3, 0xAC + 3}));
  EXPECT_EQ(t->encode("\xE2\x82"), (Ids{kMark, 0xEF + 3, 0xBF + 3, 0xBD + 3, 0xEF + 3, 0xBF + 3, 0xBD + 3}));
  EXPECT_EQ(t->encode("<s>"), (Ids{kMark, '<' + 3, 's' + 3, '>' + 3}));
}

TEST(SentencePiece, WithoutBytesARunOfUnknownCharactersIsOneUnk) {
  const SmallSentencePiece model{.byte_fallback = false};
  const auto t = load(model);
  EXPECT_EQ(t->encode("xyz h q"), (Ids{3, 0, 3, 4, 3, 0}));
  EXPECT_EQ(t->decode(Ids{3, 0, 3, 4}), " \u2047  h");
  EXPECT_EQ(t->unk(), 0);
}

TEST(SentencePiece, UserDefinedPiecesStayWhole) {
  const auto t = load({.more_pieces = piece_field("ello", 0, 4) + piece_field("el", 0, 4)});
  EXPECT_EQ(t->encode("hello"), (Ids{kMark, kH, kAccent + 1}));
  EXPECT_EQ(t->encode("hel"), (Ids{kMark, kH, kAccent + 2}));
}

TEST(SentencePiece, UnusedPiecesAreSplitAgain) {
  const auto t = load({.unused = 8});  // hello, through which ▁hello is made
  EXPECT_EQ(t->encode("hello"), (Ids{kMarkHello}));
  EXPECT_EQ(t->encode("xhello"), (Ids{kMark, 'x' + 3, kHell, kO}));
}

TEST(SentencePiece, NormalizerFlags) {
  const auto plain = load({.dummy_prefix = false});
  EXPECT_EQ(plain->encode("hello"), (Ids{kHello}));
  EXPECT_EQ(plain->decode(Ids{kMarkHello}), " hello");
  const auto tidy = load({.remove_spaces = true});
  EXPECT_EQ(tidy->encode("  hello   hello "), (Ids{kMarkHello, kMarkHello}));
  EXPECT_EQ(tidy->encode("   "), Ids{});
}

TEST(SentencePiece, Decodes) {
  const auto t = load({});
  EXPECT_EQ(t->decode(Ids{1, kMarkHello, kMarkHello, 2}), "hello hello");
  EXPECT_EQ(t->decode(Ids{kMark, kMarkHello}), " hello");
  EXPECT_EQ(t->decode(Ids{0x20 + 3, kMarkHello}), "  hello");
  EXPECT_EQ(t->decode(Ids{0xC3 + 3, 0xA9 + 3, 0xC3 + 3}), "é\uFFFD");
  EXPECT_EQ(t->decode(Ids{0xC3 + 3, 1, 0xA9 + 3}), "\uFFFD\uFFFD");  // a control piece separates bytes
  EXPECT_THROW(t->decode(Ids{-1}), Error);
  EXPECT_THROW(t->decode(Ids{t->vocab_size()}), Error);
}

TEST(SentencePiece, StreamsWholeCharacters) {
  const auto t = load({});
  StreamDecoder stream(*t);
  EXPECT_EQ(stream.push(kMarkHello), "hello");
  EXPECT_EQ(stream.push(0xC3 + 3), "");
  EXPECT_EQ(stream.push(0xA9 + 3), "");
  EXPECT_EQ(stream.push(kMarkHello), "é hello");
  EXPECT_EQ(stream.push(0xC3 + 3), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(SentencePiece, SideFilesNameTokens) {
  TemporaryDirectory d;
  d.write("tokenizer.model", SmallSentencePiece().content());
  d.write("added_tokens.json", R"({"<old>": 272})");  // not read beside added_tokens_decoder
  d.write(
      "tokenizer_config.json",
      R"({"add_bos_token": false, "add_eos_token": true, "eos_token": {"content": "<|end|>"}, "pad_token": "<pad>", "bos_token": null,
    "added_tokens_decoder": {"272": {"content": "<pad>", "special": true}, "273": {"content": "<|end|>", "special": true, "rstrip": true},
                             "0": {"content": "<unk>"}}})");
  d.write("generation_config.json", R"({"eos_token_id": [2, 273, 999]})");
  const auto t = Tokenizer::load(d);
  EXPECT_EQ(t->vocab_size(), 274);
  EXPECT_EQ(t->pad(), 272);
  EXPECT_EQ(t->eos(), 273);
  EXPECT_EQ(t->bos(), std::nullopt);
  EXPECT_EQ(t->end_ids(), (Ids{2, 273}));
  EXPECT_TRUE(t->adds_eos());
  EXPECT_FALSE(t->adds_bos());
  EXPECT_EQ(t->encode_with_special("hello"), (Ids{kMarkHello, 273}));
  EXPECT_EQ(t->decode(Ids{kMarkHello, 273}, false), "hello<|end|>");
  EXPECT_EQ(t->decode(Ids{kMarkHello, 273}), "hello");
  EXPECT_TRUE(t->added_tokens().back().rstrip);
  EXPECT_EQ(t->warnings().size(), 1u);  // 999
}

TEST(SentencePiece, FingerprintFollowsWhatChangesIds) {
  const auto plain = load({});
  EXPECT_EQ(plain->fingerprint().size(), 32u);
  EXPECT_EQ(plain->fingerprint(), load({})->fingerprint());
  EXPECT_NE(plain->fingerprint(), load({.dummy_prefix = false})->fingerprint());
  EXPECT_NE(plain->fingerprint(), load({.unused = 8})->fingerprint());
  TemporaryDirectory d;
  d.write("tokenizer.model", SmallSentencePiece().content()).write("tokenizer_config.json", R"({"add_bos_token": false})");
  EXPECT_NE(plain->fingerprint(), Tokenizer::load(d)->fingerprint());
}

TEST(SentencePiece, RefusesByName) {
  const auto refused = [](const SmallSentencePiece& m) { return refusal("tokenizer.model", m.content()); };
  EXPECT_TRUE(says(refused({.trainer = number_field(3, 1)}), "UNIGRAM"));
  EXPECT_TRUE(says(refused({.trainer = number_field(24, 1)}), "treat_whitespace_as_suffix"));
  EXPECT_TRUE(says(refused({.normalizer = bytes_field(1, "nmt_nfkc") + bytes_field(2, "x")}), "nmt_nfkc"));
  EXPECT_TRUE(says(refused({.normalizer = number_field(5, 0)}), "escape_whitespaces"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("he", 0, 1)}), "are both"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("<0x00>", 0, 1)}), "are both"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("<0x1>", 0, 6)}), "BYTE"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("\xFF", 0, 1)}), "not UTF-8"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("q", 0, 7)}), "piece type 7"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("q", std::numeric_limits<float>::quiet_NaN(), 1)}), "finite"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("<unk2>", 0, 2)}), "UNKNOWN"));
  EXPECT_TRUE(says(refused({.trainer = number_field(41, 1 << 30)}), "bos_id"));
  EXPECT_TRUE(says(refused({.trainer = number_field(3, 5)}), "model type 5"));
  EXPECT_TRUE(says(refused({.trainer = number_field(44, 1)}), "field 44 with wire type 0 instead of 2"));
  EXPECT_TRUE(says(refused({.trainer = bytes_field(44, std::string(1025, 'x'))}), "unk_surface"));
  EXPECT_TRUE(says(refused({.trainer = varint(0) + varint(0)}), "field number 0"));
  EXPECT_TRUE(says(refused({.trainer = varint(50 << 3 | 3)}), "wire type 3"));
  EXPECT_TRUE(says(refused({.trainer = varint(50 << 3) + std::string(11, '\xFF')}), "more than ten bytes"));
  EXPECT_TRUE(says(refused({.trainer = number_field(35, 0)}), "byte_fallback is false but there are 256 byte pieces"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field("", 0, 1)}), "an empty piece"));
  EXPECT_TRUE(says(refused({.more_pieces = piece_field(std::string(1025, 'x'), 0, 1)}), "has 1025 bytes"));
  EXPECT_EQ(refused({.trainer = varint(50 << 3 | 1) + std::string(8, 'x') + varint(51 << 3 | 5) + std::string(4, 'x')}), "");
  EXPECT_TRUE(says(refusal("tokenizer.model", piece_field("<unk>", 0, 2)), "1 pieces, no trainer_spec"));
  EXPECT_TRUE(says(refusal("tokenizer.model", "\n\xFF\xFF\xFF\xFF\x0F"), "left"));
  EXPECT_TRUE(says(refusal("tokenizer.model", ""), "empty"));
  EXPECT_TRUE(says(refusal("other", ""), "tokenizer.json or a tokenizer.model"));
}

}  // namespace
}  // namespace tll
