#include "tests/tokenizer_fixtures.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

std::vector<std::string> pieces(SplitPattern pattern, std::string_view text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = match_end(pattern, text, at);
    out.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

TEST(Pattern, CutsLikeTheRegularExpressions) {
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces(SplitPattern::kGpt2, "I'm 12345 o'Clock'S  x"),
            (Pieces{"I", "'m", " 12345", " o", "'", "Clock", "'", "S", " ", " x"}));
  EXPECT_EQ(pieces(SplitPattern::kLlama3, "I'M 12345!?\n\n x"), (Pieces{"I", "'M", " ", "123", "45", "!?\n\n", " x"}));
  EXPECT_EQ(pieces(SplitPattern::kQwen2, "a12"), (Pieces{"a", "1", "2"}));
  EXPECT_EQ(pieces(SplitPattern::kLlama3, "\ta \n \n  b  "), (Pieces{"\ta", " \n \n", " ", " b", "  "}));
  EXPECT_EQ(pieces(SplitPattern::kGpt2, "a \n \n  b  "), (Pieces{"a", " \n \n ", " b", "  "}));
  EXPECT_EQ(pieces(SplitPattern::kLlama3, "'\u017Fx'\u017F"), (Pieces{"'\u017F", "x", "'\u017F"}));
  EXPECT_EQ(pieces(SplitPattern::kLlama3, "e\u0301x \u3000y"), (Pieces{"e", "\u0301x", " ", "\u3000y"}));
}

TEST(Unicode, Classes) {
  EXPECT_EQ(char_class(U'é'), CharClass::kLetter);
  EXPECT_EQ(char_class(U'½'), CharClass::kNumber);
  EXPECT_EQ(char_class(0x85), CharClass::kSpace);
  EXPECT_EQ(char_class(0x180E), CharClass::kOther);
  EXPECT_EQ(char_class(0x1C), CharClass::kOther);
  EXPECT_EQ(char_class(0x301), CharClass::kOther);
  EXPECT_EQ(char_class(0x16D40), CharClass::kLetter);  // Unicode 16
  EXPECT_EQ(char_class(0x10FFFF), CharClass::kOther);
  size_t letters = 0, numbers = 0, spaces = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    letters += char_class(c) == CharClass::kLetter;
    numbers += char_class(c) == CharClass::kNumber;
    spaces += char_class(c) == CharClass::kSpace;
  }
  EXPECT_EQ(letters, 141028u);
  EXPECT_EQ(numbers, 1911u);
  EXPECT_EQ(spaces, 25u);
}

TEST(Unicode, ComposesCanonically) {
  EXPECT_EQ(nfc("plain"), "plain");
  EXPECT_EQ(nfc("e\u0301"), "é");
  EXPECT_EQ(nfc("\u1E9B\u0323"), "\u1E9B\u0323");          // blocked order is already canonical
  EXPECT_EQ(nfc("a\u0301\u0323"), "\u1EA1\u0301");         // marks are sorted, then the first composes
  EXPECT_EQ(nfc("\u1112\u1161\u11AB"), "\uD55C");          // Hangul
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093C");                // excluded from composition
  EXPECT_EQ(nfc("\u212B"), "\u00C5");                      // a singleton
  EXPECT_EQ(nfc("\u0301\u0301e\u0301"), "\u0301\u0301é");  // marks without a starter
}

TEST(Unicode, WordCharacters) {
  for (const char32_t c : {U'x', U'é', U'7', U'_', U'\u0301', U'\u200D', U'\u203F', U'\u2160'})
    EXPECT_TRUE(is_word_character(c)) << static_cast<uint32_t>(c);
  for (const char32_t c : {U' ', U'.', U'\u00BD', U'\u00B2', U'\u2581', U'\U0010FFFF'})
    EXPECT_FALSE(is_word_character(c)) << static_cast<uint32_t>(c);
  size_t count = 0;
  for (char32_t c = 0; c < 0x110000; ++c) count += is_word_character(c);
  EXPECT_EQ(count, 144667u);
}

TEST(Utf8, InvalidBytes) {
  EXPECT_EQ(find_invalid_utf8("abcdefgh\xC3\xA9 \xE2\x82"), 11u);
  EXPECT_EQ(replace_invalid_bytes("\xE2\x82x"), "\uFFFD\uFFFDx");
  EXPECT_EQ(replace_invalid_sequences("\xE2\x82x"), "\uFFFDx");
  EXPECT_EQ(replace_invalid_sequences("\xED\xA0\x80\xF0\x9F\x98"), "\uFFFD\uFFFD\uFFFD\uFFFD");
}

Json byte_level(bool use_regex) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}}; }

TEST(TokenizerJson, MergesByRank) {
  const auto t = load_json(small_json());
  EXPECT_EQ(t->encode("abcab"), (Ids{8, 6}));
  EXPECT_EQ(t->encode("▁ab"), (Ids{5, 6}));  // a b before ▁ a
  EXPECT_EQ(t->encode("axxb"), (Ids{2, 0, 0, 3}));
  EXPECT_EQ(t->decode(Ids{6, 4, 10}), "ab c");  // without a decoder: joined by spaces
  EXPECT_EQ(t->vocab_size(), 11);
  EXPECT_TRUE(t->added_tokens()[1].rstrip);
  EXPECT_EQ(t->encode("<|end|>").size(), 7u);
}

TEST(TokenizerJson, UnknownCharacters) {
  Json j = small_json();
  j["model"]["fuse_unk"] = true;
  EXPECT_EQ(load_json(j)->encode("axxb"), (Ids{2, 0, 3}));
  j["model"]["unk_token"] = nullptr;
  EXPECT_EQ(load_json(j)->encode("axxb"), (Ids{6}));  // they vanish before merging
  j["model"]["byte_fallback"] = true;
  j["model"]["vocab"]["<0x78>"] = 20;
  EXPECT_EQ(load_json(j)->encode("axb"), (Ids{2, 20, 3}));
  EXPECT_EQ(load_json(j)->encode("aéb"), (Ids{6}));  // not all of its bytes are there
}

TEST(TokenizerJson, WholePiecesAreNotMerged) {
  Json j = small_json();
  j["model"]["vocab"]["acb"] = 20;
  EXPECT_EQ(load_json(j)->encode("acb"), (Ids{2, 4, 3}));
  j["model"]["ignore_merges"] = true;
  EXPECT_EQ(load_json(j)->encode("acb"), (Ids{20}));
}

TEST(TokenizerJson, LegacyAndMetaspaceFormsOfLlama2) {
  Json legacy = small_json();
  legacy["normalizer"] = Json::parse(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})");
  EXPECT_EQ(load_json(legacy)->encode("a"), (Ids{7}));
  EXPECT_EQ(load_json(legacy)->encode(" a"), (Ids{5, 7}));
  EXPECT_EQ(load_json(legacy)->encode(""), Ids{});
  Json newer = small_json();
  newer["pre_tokenizer"] = Json::parse(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false})");
  EXPECT_EQ(load_json(newer)->encode(" a"), (Ids{7}));
  EXPECT_EQ(load_json(newer)->encode("a a"), (Ids{7, 7}));
}

TEST(TokenizerJson, DigitsEndWhatComesBehindThem) {
  Json j = small_json();
  for (const auto& [token, id] : {std::pair("Ġ", 20), {"ĠĠ", 21}}) j["model"]["vocab"][token] = id;
  j["model"]["merges"].push_back("Ġ Ġ");
  j["pre_tokenizer"] = byte_level(true);
  j["decoder"] = byte_level(true);
  EXPECT_EQ(load_json(j)->encode("a  1"), (Ids{2, 20, 20, 9}));
  j["pre_tokenizer"] = {{"type", "Sequence"},
                        {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)}}};
  const auto t = load_json(j);
  EXPECT_EQ(t->encode("a  1"), (Ids{2, 21, 9}));
  EXPECT_EQ(t->decode(Ids{2, 21, 9}), "a  1");
  EXPECT_TRUE(says(refusal_of([&] { t->encode("ab\xFF"); }), "byte 2 "));
}

TEST(TokenizerJson, TemplatesComeAroundTheText) {
  Json j = small_json();
  j["post_processor"] = Json::parse(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|end|>"}}],
    "special_tokens": {"<s>": {"ids": [1]}, "<|end|>": {"ids": [10]}}}]})");
  TemporaryDirectory d;
  d.write("tokenizer.json", j.dump())
      .write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "<|end|>", "add_eos_token": false})");
  const auto t = Tokenizer::load(d);
  EXPECT_EQ(t->encode_with_special("a"), (Ids{1, 2, 10}));
  EXPECT_TRUE(t->adds_bos());
  EXPECT_TRUE(t->adds_eos());
  EXPECT_EQ(t->warnings().size(), 1u);  // add_eos_token says the contrary
  EXPECT_EQ(t->end_ids(), (Ids{10}));
}

// What a text is cut into around "abc" that is added as token 6 with these flags; other characters have no tokens.
Ids with_added(const char* flags, std::string_view text, const char* normalizer = "null") {
  Json j = small_json();
  j["model"]["vocab"] = Json::parse(R"({"a": 0, "b": 1, "c": 2, " ": 3, "▁": 4, "<unk>": 5})");
  j["model"]["merges"] = Json::array();
  j["normalizer"] = Json::parse(normalizer);
  j["added_tokens"] = Json::parse(R"([{"id": 6, "content": "abc"}, {"id": 7, "content": "<bc>", "special": true}])");
  j["added_tokens"][0].merge_patch(Json::parse(flags));
  return load_json(j)->encode(text);
}

TEST(TokenizerJson, AddedTokensThatAreNotSpecialAreFoundInTexts) {
  EXPECT_EQ(with_added(R"({"normalized": false})", "abcab abc"), (Ids{6, 0, 1, 3, 6}));
  EXPECT_EQ(with_added(R"({"special": true})", "abc"), (Ids{0, 1, 2}));
  EXPECT_EQ(with_added(R"({"lstrip": true})", "a  abc abc "), (Ids{0, 6, 6, 3}));
  EXPECT_EQ(with_added(R"({"rstrip": true})", " abc  a"), (Ids{3, 6, 0}));
  EXPECT_EQ(with_added(R"({"rstrip": true, "lstrip": true})", "\u00A0\n abc \u3000"), (Ids{6}));
  EXPECT_EQ(with_added(R"({"single_word": true})", "abca abc"), (Ids{0, 1, 2, 0, 3, 6}));
  EXPECT_EQ(with_added(R"({"single_word": true})", "cabc"), (Ids{2, 0, 1, 2}));
  // Not inside of a special token, unless that is looked for in the text as it comes and the other one behind the normalizer.
  EXPECT_EQ(with_added(R"({"content": "bc>", "normalized": false})", "<bc>bc>"), (Ids{5, 1, 2, 5, 6}));
  EXPECT_EQ(with_added(R"({"content": "bc>"})", "<bc>bc>"), (Ids{5, 6, 6}));
}

TEST(TokenizerJson, AddedTokensAreNormalizedAsTheirTextIs) {
  const char* legacy = R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";
  EXPECT_EQ(with_added(R"({"normalized": true})", "abc abc aabc", legacy), (Ids{6, 6, 4, 0, 0, 1, 2}));
  // What is found before normalizing begins the text behind it anew.
  EXPECT_EQ(with_added(R"({"normalized": false})", "aabca", legacy), (Ids{4, 0, 6, 4, 0}));
}

TEST(TokenizerJson, AddedTokensReadAsTheyAreNormalized) {
  Json j = small_json();
  j["normalizer"] = {{"type", "Prepend"}, {"prepend", "▁"}};
  j["added_tokens"] = Json::parse(R"([{"id": 10, "content": "x"}, {"id": 11, "content": "y", "normalized": false},
    {"id": 12, "content": "<e>", "special": true, "normalized": true}])");
  j["decoder"] = {{"type", "Fuse"}};
  TemporaryDirectory d;
  d.write("tokenizer.json", j.dump()).write("tokenizer_config.json", R"({"eos_token": "<e>"})");
  const auto t = Tokenizer::load(d);
  EXPECT_EQ(t->decode(Ids{10, 11, 12}, false), "▁xy▁<e>");
  EXPECT_EQ(t->decode(Ids{10, 11, 12}), "▁xy");
  EXPECT_EQ(t->eos(), 12);
}

TEST(TokenizerJson, UnkThatIsNoTokenIsRefusedWhereItIsNeeded) {
  Json j = small_json();
  j["model"]["unk_token"] = "<gone>";
  const auto t = load_json(j);
  EXPECT_EQ(t->encode("ab"), (Ids{6}));
  EXPECT_TRUE(says(refusal_of([&] { t->encode("axb"); }), "<gone>"));
}

TEST(TokenizerJson, FallbackBytesDecodeAsARun) {
  Json j = small_json();
  for (const auto& [token, id] : {std::pair("<0xC3>", 20), {"<0xA9>", 21}}) j["model"]["vocab"][token] = id;
  j["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  const auto t = load_json(j);
  EXPECT_EQ(t->decode(Ids{7, 20, 21, 7}), "aé a");
  EXPECT_EQ(t->decode(Ids{20, 21, 20}), "\uFFFD\uFFFD\uFFFD");
  StreamDecoder stream(*t);
  EXPECT_EQ(stream.push(7), "a");
  EXPECT_EQ(stream.push(20), "");
  EXPECT_EQ(stream.push(1), "");  // skipped, and the run goes on
  EXPECT_EQ(stream.push(21), "");
  EXPECT_EQ(stream.push(7), "é a");
  EXPECT_THROW(stream.push(99), Error);
}

TEST(TokenizerJson, FingerprintDoesNotDependOnTheSpellingOfTheFile) {
  const Json j = small_json();
  const auto hash = load_json(j)->fingerprint();
  Json other = j;
  other["model"]["merges"] = Json::parse(R"([["a", "b"], "▁ a", ["ab", "c"]])");
  EXPECT_EQ(load_as("tokenizer.json", other.dump(2))->fingerprint(), hash);
  std::swap(other["model"]["merges"][0], other["model"]["merges"][1]);
  EXPECT_NE(load_json(other)->fingerprint(), hash);
  other = j;
  other["normalizer"] = {{"type", "NFC"}};
  EXPECT_NE(load_json(other)->fingerprint(), hash);
}

TEST(TokenizerJson, RefusesByName) {
  const auto refused = [](const char* patch) {
    Json j = small_json();
    j.merge_patch(Json::parse(patch));
    return refusal("tokenizer.json", j.dump());
  };
  const std::pair<const char*, const char*> cases[] = {
      {R"({"normalizer": {"type": "NFKC"}})", "NFKC"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}})", "normalizer.normalizers[0]"},
      {R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}})", "regular expression"},
      {R"({"pre_tokenizer": {"type": "Whitespace"}})", "Whitespace"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Isolated"}})", "\\w+"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated"}})", "not empty"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd"}})", "Odd"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]}})",
       "behind ByteLevel"},
      {R"({"post_processor": {"type": "RobertaProcessing"}})", "RobertaProcessing"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": []}})", "sequence A"},
      {R"({"decoder": {"type": "WordPiece"}})", "WordPiece"},
      {R"({"decoder": {"type": "Strip", "content": " ", "start": 0, "stop": 1}})", "stop"},
      {R"({"model": {"type": "Unigram"}})", "Unigram"},
      {R"({"model": {"dropout": 0.1}})", "model.dropout"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})", "end_of_word_suffix"},
      {R"({"model": {"vocab": {"x": 2}}})", "same id 2"},
      {R"({"model": {"vocab": {"x": -1}}})", "found \"-1\""},
      {R"({"model": {"vocab": {"x": 2147483648}}})", "2147483648"},
      {R"({"model": {"vocab": {"x": 1.5}}})", "1.5"},
      {R"({"model": {"merges": ["a q"]}})", "merge 0"},
      {R"({"model": {"merges": ["b a"]}})", "\"ba\""},
      {R"({"model": {"merges": ["a b c"]}})", "model.merges[0]"},
      {R"({"model": {"vocab": null}})", "'vocab' is missing"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "replacement": "▁"},
           {"type": "Metaspace", "replacement": "▁"}]}})",
       "a second Metaspace"},
      {R"({"post_processor": {"type": "Sequence", "processors": [
           {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"a": {"ids": [2]}}},
           {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}]}})",
       "a second TemplateProcessing"},
      {R"({"added_tokens": [{"id": 4294967296, "content": "x"}]})", "4294967296"},
      {R"({"added_tokens": [{"id": 11}]})", "'content' is missing"},
      {R"({"added_tokens": [{"content": "x"}]})", "'id' is missing"},
      {R"({"added_tokens": {}})", "added_tokens: expected an array"},
      {R"({"added_tokens": [{"id": 11, "content": "x", "special": 1}]})", "special: expected true or false"},
      {R"({"model": {"type": 1}})", "model.type: expected a string"},
      {R"({"model": {"vocab": {"": 11}}})", "the token 11 is empty"},
      {R"({"model": {"vocab": []}})", "model.vocab: expected an object"},
      {R"({"model": {"merges": {}}})", "model.merges: expected an array"},
      {R"({"model": {"merges": [["a"]]}})", "model.merges[0]: expected two tokens"},
      {R"({"model": {"merges": [["a", 1]]}})", "model.merges[0]: expected two tokens"},
      {R"({"model": {"merges": [1]}})", "model.merges[0]: expected two tokens, found 1"},
      {R"({"model": {"merges": ["ab"]}})", "model.merges[0]: expected two tokens"},
      {R"({"model": {"ignore_merges": "yes"}})", "model.ignore_merges: expected true or false"},
      {R"({"normalizer": {}})", "normalizer: the key 'type' is missing"},
      {R"({"normalizer": {"type": "Replace", "pattern": {}, "content": ""}})", "'Regex' is missing"},
      {R"({"normalizer": {"type": "Replace", "pattern": "a", "content": ""}})", "normalizer.pattern: expected an object"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": {}}})", "normalizer.normalizers: expected an array"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": ""}})", "pre_tokenizer.replacement: expected one character"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "ab"}})", "expected one character"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"}})", "always, first or never"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"}, "behavior": "Contiguous"}})",
       "Isolated, or with Removed and invert"},
      {R"({"decoder": {"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}})", "regular expression"},
      {R"({"decoder": {"type": "Strip", "content": "  ", "start": 0, "stop": 0}})", "decoder.content: expected one character"},
      {R"({"decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}})", "decoder.start: expected a whole number"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]}})", "sequence A"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}]}})",
       "sequence A"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a"}}], "special_tokens": {}}})",
       "'a' is missing"},
  };
  for (const auto& [patch, expected] : cases) EXPECT_TRUE(says(refused(patch), expected)) << patch;
  const std::string longest(1025, 'x');
  EXPECT_TRUE(says(refused(("{\"model\": {\"vocab\": {\"" + longest + "\": 11}}}").c_str()), "1025 bytes"));
  EXPECT_TRUE(says(refused(("{\"added_tokens\": [{\"id\": 11, \"content\": \"" + longest + "\"}]}").c_str()), "1025 bytes"));
  EXPECT_TRUE(
      says(refused(("{\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"" + longest + "\"}}").c_str()), "more than 1024"));
  Json none = small_json();
  none["model"]["vocab"] = Json::object();
  EXPECT_TRUE(says(refusal("tokenizer.json", none.dump()), "model.vocab: no tokens"));
}

// A key that this version does not know may change ids.
TEST(TokenizerJson, UnknownKeysAreRefusedWhereTheyAre) {
  const auto refused = [](const char* patch) {
    Json j = small_json();
    j.merge_patch(Json::parse(patch));
    return refusal("tokenizer.json", j.dump());
  };
  const std::pair<const char*, const char*> cases[] = {
      {R"({"novel": 1})", "\"novel\""},
      {R"({"model": {"novel": 1}})", "model: the key \"novel\""},
      {R"({"model": {"fuse_unks": true}})", "fuse_unk"},
      {R"({"added_tokens": [{"id": 1, "content": "<s>", "novel": true}]})", "added_tokens[0]"},
      {R"({"normalizer": {"type": "NFC", "novel": 1}})", "normalizer: the key"},
      {R"({"normalizer": {"type": "Prepend", "prepend": "x", "novel": 1}})", "normalizer"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": [], "novel": 1}})", "normalizer"},
      {R"({"normalizer": {"type": "Replace", "pattern": {"String": "a", "novel": 1}, "content": "b"}})", "normalizer.pattern"},
      {R"({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "b", "novel": 1}})", "normalizer"},
      {R"({"pre_tokenizer": {"type": "ByteLevel", "novel": 1}})", "pre_tokenizer"},
      {R"({"pre_tokenizer": {"type": "Digits", "novel": 1}})", "pre_tokenizer"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "novel": 1}})", "pre_tokenizer"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "novel": 1}})",
       "pre_tokenizer"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [], "novel": 1}})", "pre_tokenizer"},
      {R"({"decoder": {"type": "ByteLevel", "novel": 1}})", "decoder"},
      {R"({"decoder": {"type": "ByteFallback", "novel": 1}})", "decoder"},
      {R"({"decoder": {"type": "Fuse", "novel": 1}})", "decoder"},
      {R"({"decoder": {"type": "Strip", "content": " ", "start": 1, "stop": 0, "novel": 1}})", "decoder"},
      {R"({"decoder": {"type": "Metaspace", "replacement": "_", "novel": 1}})", "decoder"},
      {R"({"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "b", "novel": 1}})", "decoder"},
      {R"({"decoder": {"type": "Sequence", "decoders": [], "novel": 1}})", "decoder"},
      {R"({"post_processor": {"type": "ByteLevel", "novel": 1}})", "post_processor"},
      {R"({"post_processor": {"type": "Sequence", "processors": [], "novel": 1}})", "post_processor"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}], "novel": 1}})",
       "post_processor"},
  };
  for (const auto& [patch, expected] : cases) {
    EXPECT_TRUE(says(refused(patch), expected)) << patch;
  }
  EXPECT_EQ(refused(R"({"model": {"novel": null, "other": false}, "novel": ""})"), "");  // nothing is said
}

TEST(TokenizerJson, TruncationAndPaddingAreNoted) {
  Json j = small_json();
  j["truncation"] = Json::parse(R"({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0})");
  j["padding"] = Json::parse(R"({"strategy": {"Fixed": 9}, "pad_id": 0})");
  const auto t = load_json(j);
  EXPECT_EQ(t->encode("bbb"), (Ids{3, 3, 3}));
  ASSERT_EQ(t->warnings().size(), 2u);
  EXPECT_TRUE(says(t->warnings()[0], "truncation is not applied"));
  EXPECT_TRUE(says(t->warnings()[1], "padding is not applied"));
}

TEST(TokenizerJson, OtherJsonSaysWhatItLooksLike) {
  EXPECT_TRUE(says(refusal("tokenizer.json", R"({"tokenizer_class": "LlamaTokenizer"})"), "looks like tokenizer_config.json"));
  EXPECT_TRUE(says(refusal("tokenizer.json", R"({"model_type": "llama"})"), "looks like a model's config.json"));
  TemporaryDirectory d;
  d.write("vocab.json", R"({"a": 0, "b": 1})");
  EXPECT_TRUE(says(message_of([&] { Tokenizer::load(d / "vocab.json"); }), "looks like a vocab.json"));
  EXPECT_TRUE(says(refusal("tokenizer.json", R"({"version": "1.0"})"), "'model' is missing"));
  EXPECT_TRUE(says(refusal("tokenizer.json", "{}"), "'model' is missing"));
}

TEST(Tokenizer, OtherFilesSayWhatTheyLookLike) {
  EXPECT_TRUE(says(refusal("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git-lfs"));
  EXPECT_TRUE(says(refusal("tokenizer.model", "\x1F\x8B\x08..."), "gzip"));
  EXPECT_TRUE(says(refusal("tokenizer.json", "<!DOCTYPE html><html></html>"), "HTML"));
  EXPECT_TRUE(says(refusal("tokenizer.model", "GGUF.."), "GGUF"));
  EXPECT_TRUE(says(refusal("tokenizer.json", ""), "empty"));
  const auto directory = [](const char* file) {
    const TemporaryDirectory d;
    d.write(file, "{}");
    return message_of([&] { Tokenizer::load(d); });
  };
  EXPECT_TRUE(says(directory("vocab.json"), "a slow tokenizer (vocab.json)"));
  EXPECT_TRUE(says(directory("merges.txt"), "merges.txt); this version reads a tokenizer.json"));
  EXPECT_TRUE(says(directory("vocab.txt"), "WordPiece"));
  EXPECT_TRUE(says(directory("spiece.model"), "Unigram"));
  EXPECT_TRUE(says(directory("tekken.json"), "Mistral"));
  EXPECT_TRUE(says(directory("other"), "expected a tokenizer.json or a tokenizer.model in it"));
}

TEST(Tiktoken, WholePiecesThenRanks) {
  const auto t = load_as("tokenizer.model", tiktoken_content(small_tiktoken_tokens()));
  EXPECT_EQ(t->encode("hello world"), (Ids{259, 260}));
  EXPECT_EQ(t->encode("hell wo"), (Ids{258, 261, 'o'}));
  EXPECT_EQ(t->vocab_size(), 262 + 256);
  EXPECT_EQ(t->bos(), 262);
  EXPECT_EQ(t->encode_with_special("hello"), (Ids{262, 259}));
  EXPECT_EQ(t->decode(Ids{262, 259, 0xE2, 0x82, 'x'}), "hello\uFFFDx");
}

TEST(Tiktoken, RefusesByLine) {
  const auto tokens = small_tiktoken_tokens();
  const std::string good = tiktoken_content(tokens);
  EXPECT_TRUE(says(refusal("tokenizer.model", good + "aGU= 999\n"), "line 263: expected the rank 262"));
  EXPECT_TRUE(says(refusal("tokenizer.model", good + "a!U= 262\n"), "line 263"));
  EXPECT_TRUE(says(refusal("tokenizer.model", good + "aGU=\n"), "line 263"));
  EXPECT_TRUE(says(refusal("tokenizer.model", good + "aGU= 262\n"), "lines 257 and 263"));
  EXPECT_TRUE(says(refusal("tokenizer.model", good + " 262\n"), "line 263: expected 'base64 rank'"));
  EXPECT_TRUE(
      says(refusal("tokenizer.model", good + base64(std::string(1025, 'x')) + " 262\n"), "line 263: a token of 1025 bytes"));
  EXPECT_EQ(load_as("tokenizer.model", good + base64("hello ") + " 262\r\n")->vocab_size(), 263 + 256);  // lines may end in CR LF
  EXPECT_TRUE(says(refusal("tokenizer.model", tiktoken_content({tokens.begin(), tokens.begin() + 255})), "0xff"));
}

}  // namespace
}  // namespace tll
