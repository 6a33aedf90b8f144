// encode_parts: markup and texts as one text, and where each token begins. That its ids are those of transformers, and its places
// transformers' offsets, is compared at large by dev/template_compare.
#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

using Parts = std::vector<TextPart>;
using Begins = std::vector<uint32_t>;

Json byte_level_json() {
  Json j = small_json();
  for (const auto& [token, id] : {std::pair("Ġ", 20), {"Ċ", 21}, {"Ã", 22}, {"©", 23}, {"Ġa", 24}})
    j["model"]["vocab"][token] = id;
  j["model"]["merges"].push_back("Ġ a");
  j["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  j["decoder"] = j["pre_tokenizer"];
  j["added_tokens"] = Json::parse(R"([{"id": 30, "content": "<s>", "special": true},
    {"id": 31, "content": "<|end|>", "special": true, "rstrip": true}, {"id": 32, "content": "<c>", "special": false}])");
  return j;
}

TEST(EncodeParts, SpecialTokensAreFoundInMarkupOnly) {
  const auto t = load_json(small_json());
  EXPECT_EQ(t->encode_parts(Parts{{"<s>ab", true}}).ids, (Ids{1, 6}));
  EXPECT_EQ(t->encode_parts(Parts{{"<s>ab", false}}).ids, t->encode("<s>ab"));
  EXPECT_EQ(t->encode_parts(Parts{{"<s>", true}, {"<s>ab", false}}).ids, (Ids{1, 0, 0, 0, 6}));
  // Not across a boundary, but across parts that are both markup. A part that ends inside a mark does not hide the next mark.
  EXPECT_EQ(t->encode_parts(Parts{{"<", false}, {"s>", true}}).ids, (Ids{0, 0, 0}));
  EXPECT_EQ(t->encode_parts(Parts{{"<", true}, {"", false}, {"s>", true}}).ids, (Ids{1}));
  EXPECT_EQ(t->encode_parts(Parts{{"<|end", false}, {"|><s>", true}}).ids.back(), 1);
  EXPECT_EQ(t->encode_parts(Parts{}).ids, Ids{});
}

TEST(EncodeParts, TextsBetweenSpecialTokensAreOne) {
  const auto t = load_json(small_json());
  const PlacedTokens p = t->encode_parts(Parts{{"a", true}, {"bc<", false}, {"<s>", true}, {"a", false}, {"b", true}});
  EXPECT_EQ(p.ids, (Ids{8, 0, 1, 6}));
  EXPECT_EQ(p.begins, (Begins{0, 3, 4, 7}));
}

TEST(EncodeParts, AMarkTakesTheSpacesBehindIt) {
  const auto t = load_json(byte_level_json());
  const PlacedTokens p = t->encode_parts(Parts{{"<|end|>\n", true}, {"  a a", false}});
  EXPECT_EQ(p.ids, (Ids{31, 2, 24}));
  EXPECT_EQ(p.begins, (Begins{0, 10, 11}));
  // Tokens that are not special are found in texts too, and across parts.
  EXPECT_EQ(t->encode_parts(Parts{{"a<", true}, {"c>", false}}).ids, (Ids{2, 32}));
}

TEST(EncodeParts, PlacesInBytes) {
  const auto t = load_json(byte_level_json());
  const PlacedTokens p = t->encode_parts(Parts{{"<s>", true}, {"é a\nab", false}});
  EXPECT_EQ(p.ids, (Ids{1, 22, 23, 24, 21, 6}));
  EXPECT_EQ(p.begins, (Begins{0, 3, 4, 5, 7, 8}));
  // Characters that no token has vanish: the token around one is made of what is left.
  Json dropping = byte_level_json();
  dropping["model"]["unk_token"] = nullptr;
  const PlacedTokens d = load_json(dropping)->encode_parts(Parts{{"xaxbx", false}, {"ac", false}});
  EXPECT_EQ(d.ids, (Ids{6, 2, 4}));
  EXPECT_EQ(d.begins, (Begins{1, 5, 6}));
}

TEST(EncodeParts, PlacesBehindUnknownCharacters) {
  const auto t = load_json(small_json());
  EXPECT_EQ(t->encode_parts(Parts{{"aéxab", false}}).begins, (Begins{0, 1, 3, 4}));
  Json fused = small_json();
  fused["model"]["fuse_unk"] = true;
  EXPECT_EQ(load_json(fused)->encode_parts(Parts{{"aéxab", false}}).begins, (Begins{0, 1, 4}));
}

TEST(EncodeParts, PlacesThroughNormalizers) {
  Json composed = small_json();
  composed["model"]["vocab"]["é"] = 20;
  composed["normalizer"] = {{"type", "NFC"}};
  // e and an accent become one character, of which a token is made.
  const PlacedTokens p = load_json(composed)->encode_parts(Parts{{"a", false}, {"e\u0301", false}, {"b", false}});
  EXPECT_EQ(p.ids, (Ids{2, 20, 3}));
  EXPECT_EQ(p.begins, (Begins{0, 1, 4}));
  Json marked = small_json();
  marked["normalizer"] = Json::parse(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})");
  const PlacedTokens q = load_json(marked)->encode_parts(Parts{{"<s>", true}, {"b a", false}});
  EXPECT_EQ(q.ids, (Ids{1, 5, 3, 7}));
  EXPECT_EQ(q.begins, (Begins{0, 3, 3, 4}));
}

TEST(EncodeParts, SentencePiece) {
  constexpr int32_t kMark = 259, kO = kMark + 4, kHello = kMark + 8, kMarkHello = kMark + 9;
  const auto t = load_as("tokenizer.model", SmallSentencePiece().content());
  const PlacedTokens p = t->encode_parts(Parts{{"<s>", true}, {"hello€", false}, {"</s>", true}, {"o hello", false}});
  EXPECT_EQ(p.ids, (Ids{1, kMarkHello, 0xE2 + 3, 0x82 + 3, 0xAC + 3, 2, kMark, kO, kMarkHello}));
  EXPECT_EQ(p.begins, (Begins{0, 3, 8, 9, 10, 11, 15, 15, 16}));
  EXPECT_EQ(t->encode_parts(Parts{{"hello", true}}).ids, t->encode("hello"));
  // A byte that is not UTF-8 becomes three; they begin at it.
  EXPECT_EQ(t->encode_parts(Parts{{"o\xFFo", false}}).begins, (Begins{0, 0, 1, 1, 1, 2}));
  const auto plain = load_as("tokenizer.model", SmallSentencePiece{.byte_fallback = false, .dummy_prefix = false}.content());
  const PlacedTokens u = plain->encode_parts(Parts{{"xyh", false}, {"ello", false}});
  EXPECT_EQ(u.ids, (Ids{0, kHello - 256}));
  EXPECT_EQ(u.begins, (Begins{0, 2}));
}

TEST(EncodeParts, Tiktoken) {
  const auto t = load_as("tokenizer.model", tiktoken_content(small_tiktoken_tokens()));
  const PlacedTokens p =
      t->encode_parts(Parts{{"<|start_header_id|>", true}, {"hello", false}, {" world<|eot_id|>", true}, {"<|eot_id|>", false}});
  EXPECT_EQ(std::vector(p.ids.begin(), p.ids.begin() + 4), (Ids{262 + 6, 259, 260, 262 + 9}));
  EXPECT_EQ(std::vector(p.begins.begin(), p.begins.begin() + 5), (Begins{0, 19, 24, 30, 40}));
  EXPECT_EQ(p.ids.size(), 14u);
}

TEST(EncodeParts, RefusesBytesThatAreNoText) {
  const auto t = load_json(byte_level_json());
  EXPECT_TRUE(says(refusal_of([&] { t->encode_parts(Parts{{"ab", true}, {"\xFF", false}}); }), "byte 2 "));
}

}  // namespace
}  // namespace tll
