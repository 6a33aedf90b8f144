// The files beside a tokenizer: tokens that they add, their numbers and flags, the special ones that they name. The expected ids
// are those of transformers' AutoTokenizer with special tokens split.
#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

// A directory with small_json() (11 ids; 1 <s> and 10 <|end|> are special) and these files beside it.
class Directory {
 public:
  explicit Directory(const Json& json = small_json()) { directory_.write("tokenizer.json", json.dump()); }
  Directory& with(const char* file, std::string_view content) {
    directory_.write(file, content);
    return *this;
  }
  std::unique_ptr<Tokenizer> load() const { return Tokenizer::load(directory_); }
  std::string refusal() const {
    return message_of([&] { load(); });
  }

 private:
  TemporaryDirectory directory_;
};

std::unique_ptr<Tokenizer> with_config(std::string_view config, const Json& json = small_json()) {
  return Directory(json).with("tokenizer_config.json", config).load();
}

std::string all_notes(const Tokenizer& tokenizer) {
  std::string all;
  for (const std::string& note : tokenizer.warnings()) all += note + "\n";
  return all;
}

size_t notes(const Tokenizer& tokenizer) { return tokenizer.warnings().size(); }

TEST(TokenizerSideFiles, ConfigCompletesATokenizerJson) {
  const auto t = with_config(R"({"eos_token": "<e>", "added_tokens_decoder": {"12": {"content": "<t>", "rstrip": true},
    "11": {"content": "<e>", "special": true}}})");
  EXPECT_EQ(t->eos(), 11);
  EXPECT_EQ(t->vocab_size(), 13);
  EXPECT_EQ(t->encode("a<t>  b"), (Ids{2, 12, 3}));
  EXPECT_EQ(t->encode("<e>").size(), 3u);  // a special token in a text is text
  EXPECT_EQ(t->decode(Ids{2, 12, 11}, false), "a <t> <e>");
  EXPECT_EQ(notes(*t), 0u) << all_notes(*t);
  const auto listed = Directory()
                          .with("added_tokens.json", R"({"<t>": 11, "<p>": 12})")
                          .with("tokenizer_config.json", R"({"pad_token": "<p>"})")
                          .load();
  EXPECT_EQ(listed->encode("<t>a<p>"), (Ids{11, 2, 0, 0, 0}));  // what is named is special
  EXPECT_EQ(listed->pad(), 12);
}

// Ids of added tokens follow those of the pieces. A piece of type UNUSED, and a character that occurs only inside pieces, are
// treated as without them.
TEST(TokenizerSideFiles, AddedTokensLeaveThePiecesAsTheyAre) {
  const SmallSentencePiece models[] = {
      {.unused = 8}, {.remove_spaces = true, .unused = 7}, {.byte_fallback = false, .more_pieces = piece_field("xy", -20, 1)}};
  for (const SmallSentencePiece& model : models) {
    std::vector<std::unique_ptr<Tokenizer>> loaded;
    for (const bool added : {false, true}) {
      TemporaryDirectory directory;
      directory.write("tokenizer.model", model.content());
      const int pieces =
          model.first_piece() + static_cast<int>(std::size(SmallSentencePiece::kPieces)) + !model.more_pieces.empty();
      if (added) directory.write("added_tokens.json", fmt::format(R"({{"<a>": {}, "<b>": {}}})", pieces, pieces + 1));
      loaded.push_back(Tokenizer::load(directory));
    }
    EXPECT_EQ(loaded[1]->vocab_size(), loaded[0]->vocab_size() + 2);
    for (const char* text : {"hello", "hello hell", "x", "xy", "yx h\xC3\xA9", "  lo  he", "hexylo", "q"})
      EXPECT_EQ(loaded[0]->encode(text), loaded[1]->encode(text)) << text;
  }
}

TEST(TokenizerSideFiles, ALaterFileChangesFlagsButSpecialStaysSpecial) {
  Json j = small_json();
  j["added_tokens"].push_back({{"id", 11}, {"content", "<t>"}, {"normalized", false}});
  EXPECT_EQ(load_json(j)->encode("a<t> b"), (Ids{2, 11, 0, 3}));
  EXPECT_EQ(with_config(R"({"added_tokens_decoder": {"11": {"content": "<t>", "rstrip": true}}})", j)->encode("a<t> b"),
            (Ids{2, 11, 3}));
  EXPECT_EQ(with_config(R"({"added_tokens_decoder": {"11": {"content": "<t>", "special": true}}})", j)->encode("<t>"),
            (Ids{0, 0, 0}));
  EXPECT_EQ(with_config(R"({"pad_token": "<t>"})", j)->encode("<t>"), (Ids{0, 0, 0}));
  const auto t = with_config(R"({"added_tokens_decoder": {"10": {"content": "<|end|>", "special": false}}})", j);
  EXPECT_GT(t->encode("<|end|>").size(), 1u);
}

TEST(TokenizerSideFiles, TokensAreNumberedAsByTheLibraryAndThatIsSaid) {
  Json j = small_json();
  // Another order than that of the ids, an id of the vocabulary, a token of the vocabulary, an empty one.
  for (const auto& [id, content] : {std::pair(12, "<t>"), {11, "<u>"}, {4, "<v>"}, {30, "b"}, {31, ""}})
    j["added_tokens"].push_back({{"id", id}, {"content", content}, {"normalized", false}});
  const auto t = load_json(j);
  EXPECT_EQ(t->encode("<t><u><v>b"), (Ids{11, 12, 13, 3}));
  EXPECT_EQ(t->vocab_size(), 14);
  ASSERT_EQ(notes(*t), 1u) << all_notes(*t);
  EXPECT_TRUE(says(t->warnings()[0], "added_tokens[2]: \"<t>\" is declared with the id 12 and gets 11"));
  EXPECT_TRUE(says(t->warnings()[0], "so do 3 more"));
  const auto config =
      with_config(R"({"added_tokens_decoder": {"20": {"content": "<u>"}, "9": {"content": "<t>"}, "100": {"content": "ab"}}})");
  EXPECT_EQ(config->encode("<t><u>ab"), (Ids{11, 12, 6}));
  EXPECT_TRUE(says(all_notes(*config), "added_tokens_decoder.9: \"<t>\""));
}

// The library would give an id that another token has.
TEST(TokenizerSideFiles, WithIdsMissingInTheVocabularyADeclaredIdThatIsFreeCounts) {
  Json j = small_json();
  j["model"]["vocab"]["x"] = 20;
  for (const auto& [id, content] : {std::pair(15, "<t>"), {20, "<u>"}, {15, "<v>"}, {40, "<w>"}})
    j["added_tokens"].push_back({{"id", id}, {"content", content}, {"normalized", false}});
  const auto t = load_json(j);
  EXPECT_EQ(t->encode("<t><u><v><w>x"), (Ids{15, 21, 22, 40, 20}));
  EXPECT_EQ(t->vocab_size(), 41);
}

TEST(TokenizerSideFiles, NamesWithoutAnIdGetTheNextOnes) {
  const auto t = with_config(R"({"pad_token": "<p>", "eos_token": {"content": "<e>"}, "image_token": "<i>", "add_bos_token": null,
    "additional_special_tokens": ["<x>", {"content": "<y>", "lstrip": true}, "<|end|>"]})");
  EXPECT_EQ(t->eos(), 11);
  EXPECT_EQ(t->pad(), 12);
  EXPECT_EQ(t->special_id("<i>"), 13);
  EXPECT_EQ(t->special_id("<y>"), 15);
  EXPECT_EQ(t->vocab_size(), 16);
  EXPECT_EQ(notes(*t), 5u) << all_notes(*t);
  EXPECT_TRUE(says(t->warnings()[0], "eos_token: \"<e>\" has no id in any file; it gets the next one, 11"));
  EXPECT_EQ(with_config(R"({"extra_special_tokens": {"a": "<x>", "b": "<s>"}})")->special_id("<x>"), 11);
  EXPECT_EQ(with_config(R"({"pad_token": "ab"})")->pad(), 6);
  EXPECT_EQ(with_config(R"({"pad_token": "ab"})")->encode("abc"), (Ids{8}));
}

TEST(TokenizerSideFiles, TheMapCountsBesideAConfigWithoutTheTokensIds) {
  const char* map = R"({"eos_token": {"content": "<s>"}, "pad_token": "<s>"})";
  const auto both = [&](const char* config) {
    return Directory().with("tokenizer_config.json", config).with("special_tokens_map.json", map).load();
  };
  EXPECT_EQ(both(R"({"eos_token": "<|end|>"})")->eos(), 1);
  EXPECT_EQ(both(R"({"eos_token": "<|end|>", "added_tokens_decoder": {}})")->eos(), 10);
  EXPECT_EQ(both(R"({"added_tokens_decoder": {}})")->pad(), 1);  // named nowhere else
  EXPECT_EQ(Directory().with("special_tokens_map.json", map).load()->eos(), 1);
}

TEST(TokenizerSideFiles, TheEndOfTextIsFoundWhereverItIsNamed) {
  const auto eos = [](const char* file, const char* content) { return Directory().with(file, content).load()->eos(); };
  EXPECT_EQ(Directory().load()->eos(), std::nullopt);
  EXPECT_EQ(eos("config.json", R"({"eos_token_id": 10})"), 10);
  EXPECT_EQ(eos("config.json", R"({"eos_token_id": [4, 10]})"), 4);
  EXPECT_EQ(eos("config.json", R"({"eos_token_id": 4.0})"), 4);
  EXPECT_EQ(eos("config.json", R"({"eos_token_id": -1})"), std::nullopt);
  EXPECT_EQ(eos("config.json", R"({"eos_token_id": null})"), std::nullopt);
  EXPECT_EQ(eos("config.json", R"({"eos_token_id": 11})"), std::nullopt);
  EXPECT_EQ(eos("generation_config.json", R"({"eos_token_id": 10})"), 10);
  EXPECT_EQ(eos("tokenizer_config.json", R"({"eos_token": "<|end|>"})"), 10);
  EXPECT_EQ(eos("special_tokens_map.json", R"({"eos_token": "<|end|>"})"), 10);
  Directory all;
  all.with("config.json", R"({"eos_token_id": 2})").with("generation_config.json", R"({"eos_token_id": [3, 4]})");
  EXPECT_EQ(all.load()->eos(), 3);
  EXPECT_EQ(all.load()->end_ids(), (Ids{3, 4}));
  all.with("tokenizer_config.json", R"({"eos_token": null})");  // the model generates it nevertheless
  EXPECT_EQ(all.load()->eos(), 3);
  all.with("tokenizer_config.json", R"({"eos_token": "<|end|>"})");
  EXPECT_EQ(all.load()->eos(), 10);
  EXPECT_EQ(all.load()->end_ids(), (Ids{10, 3, 4}));
  all.with("generation_config.json", R"({"eos_token_id": 99, "bos_token_id": 1, "pad_token_id": 5})");
  EXPECT_EQ(all.load()->bos(), 1);
  EXPECT_EQ(all.load()->pad(), 5);
  EXPECT_EQ(all.load()->end_ids(), (Ids{10, 2}));
  EXPECT_TRUE(says(all_notes(*all.load()), "eos_token_id 99 is not in the vocabulary of 11"));
  EXPECT_TRUE(says(Directory().with("generation_config.json", R"({"eos_token_id": "x"})").refusal(), "a token id"));
  EXPECT_TRUE(says(Directory().with("config.json", R"({"eos_token_id": 1.5})").refusal(), "a token id"));
}

TEST(TokenizerSideFiles, TokensThatTheModelLacksAreRefusedWhereATextNeedsThem) {
  const auto t = with_config(
      R"({"pad_token": "<p>", "eos_token": "<|end|>", "added_tokens_decoder": {"11": {"content": "<t>"}, "12": {"content": "<p>"}}})");
  t->limit_to_model(13);
  EXPECT_EQ(notes(*t), 0u);
  t->limit_to_model(10);
  ASSERT_EQ(notes(*t), 1u);
  EXPECT_TRUE(says(t->warnings()[0], "ids up to 12 (\"<p>\"), and the model's vocab_size is 10"));
  t->check_model_has(t->encode("abc 1"));
  EXPECT_TRUE(says(refusal_of([&] { t->check_model_has(t->encode("ab<t>")); }), "the token \"<t>\" with the id 11"));
  const std::string end = refusal_of([&] { t->check_model_has(Ids{2, *t->eos()}); });
  EXPECT_TRUE(says(end, "\"<|end|>\" with the id 10"));
  EXPECT_TRUE(says(end, "eos_token"));
}

// The small model of pieces has 272 (0 … 271).
std::unique_ptr<Tokenizer> pieces_with(std::string_view config, const SmallSentencePiece& model = {}) {
  TemporaryDirectory d;
  d.write("tokenizer.model", model.content()).write("tokenizer_config.json", config);
  return Tokenizer::load(d);
}
constexpr int32_t kMark = 259, kH = 260, kE = 261, kHello = 267, kMarkHello = 268, kMarks = 269, kAdded = 272;
const std::string kTool = R"("added_tokens_decoder": {"272": {"content": "<t>"}, "273": {"content": "[l", "lstrip": true},
  "274": {"content": "r]", "rstrip": true}, "275": {"content": "<p>", "special": true}})";

TEST(TokenizerSideFiles, SentencePieceFindsAddedTokensBeforeItSplitsATextIntoPieces) {
  for (const char* legacy : {R"("legacy": true, )", R"("legacy": null, )", ""}) {
    const auto t = pieces_with("{" + std::string(legacy) + kTool + "}");
    EXPECT_EQ(t->encode("hello<t>hello"), (Ids{kMarkHello, kAdded, kMarkHello}));  // each part is a text of its own
    EXPECT_EQ(t->encode("hello <t> hello"), (Ids{kMarkHello, kMark, kAdded, kMark, kMarkHello}));
    EXPECT_EQ(t->encode("<t>h"), (Ids{kAdded, kMark, kH}));
    EXPECT_EQ(t->encode("<t> <t>"), (Ids{kAdded, kMarks, kAdded}));
    EXPECT_EQ(t->encode("h  [l"), (Ids{kMark, kH, kAdded + 1}));
    EXPECT_EQ(t->encode("r] \n h"), (Ids{kAdded + 2, kMark, kH}));
    EXPECT_EQ(t->encode("<p>").size(), 4u);  // special: text
    EXPECT_EQ(t->encode("<t>\xFF"), (Ids{kAdded, kMark, 0xEF + 3, 0xBF + 3, 0xBD + 3}));
    EXPECT_EQ(t->decode(Ids{kMarkHello, kAdded, kMarkHello, kAdded + 3}), "hello<t> hello");
    EXPECT_EQ(t->decode(Ids{kAdded, kMark, kAdded + 3}, false), "<t> <p>");
    EXPECT_EQ(t->vocab_size(), 276);
  }
  const auto t = pieces_with("{" + kTool + R"(, "legacy": false})");
  EXPECT_EQ(t->encode("hello<t>hello"), (Ids{kMarkHello, kAdded, kHello}));
  EXPECT_EQ(t->encode("hello <t> hello"), (Ids{kMarkHello, kMark, kAdded, kMarkHello}));
  EXPECT_EQ(t->encode("<t>h"), (Ids{kAdded, kH}));
  EXPECT_EQ(t->encode(" h"), (Ids{kMarks, kH}));
  EXPECT_EQ(t->encode("r] h"), (Ids{kAdded + 2, kH}));
}

TEST(TokenizerSideFiles, SentencePieceWithoutADummyPrefix) {
  for (const char* legacy : {"true", "false"}) {
    const auto t = pieces_with(fmt::format(R"({{"add_prefix_space": false, "legacy": {}, {}}})", legacy, kTool));
    EXPECT_EQ(t->encode("hello<t>hello"), (Ids{kHello, kAdded, kHello}));
    EXPECT_EQ(t->encode(" hello"), (Ids{kMarkHello}));
    EXPECT_EQ(t->decode(Ids{kMarkHello}), " hello");
  }
}

TEST(TokenizerSideFiles, SentencePieceThatTidiesSpacesTidiesEachPart) {
  const SmallSentencePiece tidy{.remove_spaces = true};
  EXPECT_EQ(pieces_with("{" + kTool + "}", tidy)->encode(" hello  <t>   h  e "), (Ids{kMarkHello, kAdded, kMark, kH, kMark, kE}));
  const auto t = pieces_with("{" + kTool + R"(, "legacy": false})", tidy);
  EXPECT_EQ(t->encode(" hello  <t>   h  e "), (Ids{kMarkHello, kAdded, kMark, kH, kMark, kE}));
  EXPECT_EQ(t->encode("<t>h"), (Ids{kAdded, kH}));
  EXPECT_EQ(t->encode("<t>  "), (Ids{kAdded}));
}

TEST(TokenizerSideFiles, SentencePieceAddsPiecesUnderTheirNames) {
  const auto t =
      pieces_with(R"({"added_tokens_decoder": {"0": {"content": "<unk>"}, "1": {"content": "<s>"}, "266": {"content": "hell"},
    "300": {"content": "<t>"}}, "eos_token": "<t>", "bos_token": "<b>", "add_eos_token": true})");
  EXPECT_EQ(t->encode("hello"), (Ids{266, kMark, 263}));  // an added token is found before pieces are
  EXPECT_EQ(t->encode("<unk>").size(), 6u);
  EXPECT_EQ(t->eos(), 272);
  EXPECT_EQ(t->bos(), 273);
  EXPECT_EQ(t->encode_with_special("h"), (Ids{273, kMark, kH, 272}));
  EXPECT_EQ(notes(*t), 2u) << all_notes(*t);  // <t> has another id, <b> has none
}

TEST(TokenizerSideFiles, FingerprintFollowsAddedTokens) {
  const std::string plain = pieces_with("{}")->fingerprint(), added = pieces_with("{" + kTool + "}")->fingerprint();
  EXPECT_NE(added, plain);
  EXPECT_NE(pieces_with("{" + kTool + R"(, "legacy": false})")->fingerprint(), added);
  EXPECT_EQ(pieces_with(R"({"legacy": false})")->fingerprint(), plain);  // it changes nothing without added tokens
  EXPECT_NE(with_config(R"({"added_tokens_decoder": {"11": {"content": "<t>"}}})")->fingerprint(),
            with_config("{}")->fingerprint());
}

TEST(TokenizerSideFiles, TiktokenTakesTheNamesThatAConfigDeclares) {
  TemporaryDirectory d;
  d.write("tokenizer.model", tiktoken_content(small_tiktoken_tokens()));
  d.write("tokenizer_config.json",
          R"({"added_tokens_decoder": {"266": {"content": "<|reserved_special_token_2|>", "special": true},
    "518": {"content": "<t>"}}, "eos_token": "<|reserved_special_token_2|>", "add_bos_token": false})");
  const auto t = Tokenizer::load(d);
  EXPECT_EQ(t->eos(), 266);
  EXPECT_EQ(t->special_id("<|reserved_token_267|>"), 267);  // it had that name
  EXPECT_EQ(t->encode_with_special("hello<t>"), (Ids{259, 518}));
  EXPECT_EQ(t->vocab_size(), 519);
  EXPECT_EQ(notes(*t), 0u) << all_notes(*t);
}

TEST(TokenizerSideFiles, KeysThatChangeIdsAreNeverIgnored) {
  const auto config = [](const char* content) { return Directory().with("tokenizer_config.json", content).refusal(); };
  EXPECT_TRUE(says(config(R"({"addbos_token": true, "add_bos_tokens": true})"), "add_bos_token"));
  EXPECT_TRUE(says(config(R"({"added_token_decoder": {"1": {}}})"), "added_tokens_decoder"));
  EXPECT_TRUE(says(config(R"({"added_tokens_decoder": {"11": {"content": "x", "strip": true}}})"), "\"strip\""));
  EXPECT_TRUE(says(config(R"({"added_tokens_decoder": {"11": {"content": "x", "lstrips": true}}})"), "lstrip"));
  EXPECT_TRUE(says(message_of([&] { pieces_with(R"({"sp_model_kwargs": {"enable_sampling": true}})"); }), "sp_model_kwargs"));
  EXPECT_TRUE(says(message_of([&] { pieces_with(R"({"do_lower_case": true})"); }), "do_lower_case"));
  pieces_with(R"({"sp_model_kwargs": {}, "do_lower_case": false, "legacy": true})");
  for (const char* name : {"LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast"})
    EXPECT_EQ(notes(*pieces_with(fmt::format(R"({{"tokenizer_class": "{}"}})", name))), 0u) << name;
  EXPECT_TRUE(
      says(all_notes(*pieces_with(R"({"tokenizer_class": "T5Tokenizer"})")), "\"T5Tokenizer\" is read as LlamaTokenizer"));
  Json large = small_json();
  large["model"]["vocab"]["x"] = 100001;
  EXPECT_TRUE(says(message_of([&] { with_config(R"({"fix_mistral_regex": true})", large); }), "fix_mistral_regex"));
  EXPECT_EQ(
      notes(*with_config(
          R"({"fix_mistral_regex": true, "model_max_length": 5, "chat_template": "x", "clean_up_tokenization_spaces": true})")),
      0u);
  const auto noted = with_config(R"({"novel": 1, "add_prefix_space": true, "add_bos_token": true})");
  EXPECT_EQ(notes(*noted), 3u);
  EXPECT_TRUE(says(all_notes(*noted), "\"novel\" is not known"));
  EXPECT_TRUE(
      says(all_notes(*noted), "add_prefix_space is true, but the pre_tokenizer or normalizer of tokenizer.json says false"));
}

TEST(TokenizerSideFiles, MalformedFilesAreRefusedWithTheirKey) {
  const auto refused = [](const char* file, const std::string& content) { return Directory().with(file, content).refusal(); };
  EXPECT_TRUE(
      says(refused("tokenizer_config.json", R"({"added_tokens_decoder": {"-1": {"content": "x"}}})"), "expected an id below"));
  EXPECT_TRUE(
      says(refused("tokenizer_config.json", R"({"added_tokens_decoder": []})"), "added_tokens_decoder: expected an object"));
  EXPECT_TRUE(says(refused("tokenizer_config.json", R"({"additional_special_tokens": "x"})"), "expected an array"));
  EXPECT_TRUE(says(refused("tokenizer_config.json", R"({"eos_token": 3})"), "eos_token: expected a string"));
  EXPECT_TRUE(says(refused("tokenizer_config.json", R"({"add_bos_token": 1})"), "true or false"));
  EXPECT_TRUE(says(refused("special_tokens_map.json", R"({"eos_token": {"text": "x"}})"), "\"text\""));
  EXPECT_TRUE(says(refused("added_tokens.json", R"({"x": "1"})"), "x: expected a whole number"));
  EXPECT_TRUE(says(refused("added_tokens.json", R"(["x"])"), "expected an object"));
  EXPECT_TRUE(says(refused("tokenizer_config.json", R"({"eos_token": ")" + std::string(2000, 'x') + R"("})"), "2000 bytes"));
  EXPECT_TRUE(says(refused("generation_config.json", "version https://git-lfs"), "generation_config.json"));
}

}  // namespace
}  // namespace tll
