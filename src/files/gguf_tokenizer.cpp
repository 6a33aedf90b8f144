// The tokenizer of a GGUF file as the files that Hugging Face's tokenizers come in.
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <unordered_set>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "src/base/spelling.h"
#include "src/base/split_regexes.h"
#include "src/files/gguf_model.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

// tokenizer.ggml.token_type, with the numbers of SentencePiece.
enum TokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kTemplate = "tokenizer.chat_template";

// How a text is cut before BPE. The file has a name for it, and not the regular expression.
enum class Split { llama3, digits, gpt2, qwen2 };
struct SplitRow {
  std::string_view name;
  Split split;
  bool nfc = false;  // the models' own tokenizer.json composes characters first (Qwen)
};
// llama.cpp, llama-vocab.cpp.
constexpr SplitRow kSplits[] = {{"llama-bpe", Split::llama3},  {"llama3", Split::llama3},     {"llama-v3", Split::llama3},
                                {"falcon3", Split::llama3},    {"falcon-h1", Split::llama3},  {"pixtral", Split::llama3},
                                {"lfm2", Split::llama3},       {"midm-2.0", Split::llama3},   {"smollm", Split::digits},
                                {"starcoder", Split::digits},  {"refact", Split::digits},     {"command-r", Split::digits},
                                {"codeshell", Split::digits},  {"gpt-2", Split::gpt2},        {"phi-2", Split::gpt2},
                                {"exaone4", Split::gpt2},      {"qwen2", Split::qwen2, true}, {"deepseek-r1-qwen", Split::qwen2},
                                {"megrez", Split::qwen2, true}};

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}
Json in_turn(const Json& first, const Json& second) { return {{"type", "Sequence"}, {"pretokenizers", {first, second}}}; }
Json pre_tokenizer(Split split) {
  const auto cut = [](std::string_view regex) -> Json {
    return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  };
  switch (split) {
    case Split::llama3:
      return in_turn(cut(kLlama3Regex), byte_level(false));
    case Split::qwen2:
      return in_turn(cut(kQwen2Regex), byte_level(false));
    case Split::digits:
      return in_turn({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
    case Split::gpt2:
      break;
  }
  return byte_level(true);
}

class TokenizerMaker {
 public:
  TokenizerMaker(const GgufModel& model, std::vector<std::string>* notes)
      : file_(model.metadata()), where_(file_.path().string()), notes_(notes) {}

  std::map<std::string, std::string> files() {
    const auto model = file_.text(kModel);
    if (!model) bad_file("{}: key \"{}\" is missing: the file has no tokenizer", where_, kModel);
    if (*model != "gpt2" && *model != "llama")
      bad_file("{}: key \"{}\": expected \"gpt2\" (byte-level BPE) or \"llama\" (SentencePiece), found {}: not supported", where_,
               kModel, in_quotes(*model));
    const SplitRow* split = nullptr;
    if (*model == "gpt2") {
      split = find_split();
      if (!split) return files_beside();
    }
    read_tokens();
    std::map<std::string, std::string> made;
    if (split)
      made["tokenizer.json"] = json_text(byte_level_bpe(*split));
    else
      made["tokenizer.model"] = sentencepiece();
    made["tokenizer_config.json"] = json_text(config(!split), 2) + "\n";
    return made;
  }

 private:
  // Null: the name is not known, or there is none.
  const SplitRow* find_split() const {
    const std::string_view pre = file_.text(kPre).value_or("");
    const auto row = std::find_if(std::begin(kSplits), std::end(kSplits), [&](const SplitRow& r) { return r.name == pre; });
    return row == std::end(kSplits) ? nullptr : &*row;
  }

  // The way out where the name is not known.
  std::map<std::string, std::string> files_beside() const {
    const fs::path directory = file_.path().has_parent_path() ? file_.path().parent_path() : fs::path(".");
    std::map<std::string, std::string> found;
    if (!fs::exists(directory / "tokenizer.json")) {
      std::vector<std::string_view> names;
      for (const SplitRow& row : kSplits) names.push_back(row.name);
      bad_file(
          "{}: key \"{}\" is {}: how texts are cut into words is not known from it (these are: {}); put the model's "
          "tokenizer.json beside the file",
          where_, kPre, file_.shown(kPre), fmt::join(names, ", "));
    }
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      if (fs::exists(directory / name)) found[name] = read_file(directory / name);
    if (!found.contains("tokenizer_config.json")) {
      Json config = Json::object();
      set_template(config);
      found["tokenizer_config.json"] = json_text(config, 2) + "\n";
    }
    if (notes_)
      notes_->push_back(fmt::format("{}: key \"{}\" is {}, which is not known: {} is read in place of its tokenizer", where_,
                                    kPre, file_.shown(kPre), (directory / "tokenizer.json").string()));
    return found;
  }

  void read_tokens() {
    tokens_ = file_.texts(kTokens);
    if (tokens_.empty()) bad_file("{}: key \"{}\" is missing, or empty", where_, kTokens);
    types_ = file_.integers(kTypes);
    if (types_.empty()) types_.assign(tokens_.size(), kNormal);
    if (types_.size() != tokens_.size()) file_.wrong(kTypes, fmt::format("a type for each of {} tokens", tokens_.size()));
    for (const int64_t type : types_)
      if (type < kNormal || type > kByte) file_.wrong(kTypes, "types from 1 to 6");
    std::unordered_map<std::string_view, size_t> ids;
    for (size_t id = 0; id < tokens_.size(); id++) {
      if (tokens_[id].empty() && types_[id] != kUnused) bad_file("{}: key \"{}\": token {} is empty", where_, kTokens, id);
      const auto [other, added] = ids.emplace(tokens_[id], id);
      if (!added && types_[id] != kUnused)
        bad_file("{}: key \"{}\": tokens {} and {} are both {}", where_, kTokens, other->second, id, in_quotes(tokens_[id]));
    }
  }

  // The id of a special token: as the file has it, or the model's default.
  std::optional<size_t> id(const char* key, std::optional<int64_t> absent = std::nullopt) const {
    const auto given = file_.integer(key);
    const auto value = given ? given : absent;
    if (!value || (!given && *value >= static_cast<int64_t>(tokens_.size()))) return std::nullopt;
    if (*value < 0 || *value >= static_cast<int64_t>(tokens_.size()))
      file_.wrong(key, fmt::format("the id of one of {} tokens", tokens_.size()));
    return static_cast<size_t>(*value);
  }
  std::optional<size_t> bos(bool pieces) const { return id("tokenizer.ggml.bos_token_id", absent(pieces, 1)); }
  std::optional<size_t> eos(bool pieces) const { return id("tokenizer.ggml.eos_token_id", absent(pieces, 2)); }
  std::optional<size_t> unknown(bool pieces) const { return id("tokenizer.ggml.unknown_token_id", absent(pieces, 0)); }
  static std::optional<int64_t> absent(bool pieces, int64_t id) { return pieces ? std::optional(id) : std::nullopt; }

  Json byte_level_bpe(const SplitRow& split) const {
    const std::vector<std::string_view> merges = file_.texts(kMerges);
    if (!file_.has(kMerges)) bad_file("{}: key \"{}\" is missing", where_, kMerges);
    // What merges need is in the vocabulary; other literal tokens are beside it, where no text can reach them.
    std::unordered_set<std::string> needed;
    for (const std::string_view merge : merges) {
      const size_t space = merge.find(' ');
      if (space == std::string_view::npos) continue;  // the reader says what is wrong
      const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
      needed.emplace(left), needed.emplace(right), needed.insert(std::string(left).append(right));
    }
    Json vocabulary = Json::object(), added = Json::array();
    for (size_t i = 0; i < tokens_.size(); i++) {
      const bool literal = types_[i] == kControl || types_[i] == kUserDefined || types_[i] == kUnknown;
      const bool merged = !tokens_[i].empty() && (literal || types_[i] == kUnused) && needed.contains(std::string(tokens_[i]));
      if (merged || types_[i] == kNormal || types_[i] == kByte) vocabulary[std::string(tokens_[i])] = i;
      if (literal)
        added.push_back({{"id", i},
                         {"content", tokens_[i]},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", types_[i] != kUserDefined}});
    }
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", added},
            {"normalizer", split.nfc ? Json{{"type", "NFC"}} : Json()},
            {"pre_tokenizer", pre_tokenizer(split.split)},
            {"post_processor", around(split)},
            {"decoder", byte_level(true)},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"ignore_merges", split.split == Split::llama3},
              {"vocab", vocabulary},
              {"merges", merges}}}};
  }

  // The tokens before and after a text.
  Json around(const SplitRow& split) const {
    Json items = Json::array(), special = Json::object();
    const auto add = [&](const char* key, bool absent, std::optional<size_t> token, const char* id_key) {
      if (!file_.flag(key).value_or(absent)) return;
      if (!token) bad_file("{}: {} is to be added, but key \"{}\" is missing", where_, key, id_key);
      const std::string content(tokens_[*token]);
      items.push_back({{"SpecialToken", {{"id", content}, {"type_id", 0}}}});
      special[content] = {{"id", content}, {"ids", {*token}}, {"tokens", {content}}};
    };
    add("tokenizer.ggml.add_bos_token", split.split == Split::llama3, bos(false), "tokenizer.ggml.bos_token_id");
    items.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    add("tokenizer.ggml.add_eos_token", false, eos(false), "tokenizer.ggml.eos_token_id");
    if (items.size() == 1) return {};
    Json pair = items;
    pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    return {{"type", "TemplateProcessing"}, {"single", items}, {"pair", pair}, {"special_tokens", special}};
  }

  // A ModelProto of sentencepiece_model.proto.
  std::string sentencepiece() const {
    const std::vector<float> scores = file_.floats(kScores);
    if (scores.size() != tokens_.size()) file_.wrong(kScores, fmt::format("a score for each of {} tokens", tokens_.size()));
    if (const auto map = file_.has("tokenizer.ggml.precompiled_charsmap"); map)
      bad_file("{}: the tokenizer has a table of replacements (precompiled_charsmap), which is not supported", where_);
    const bool has_unknown = std::find(types_.begin(), types_.end(), kUnknown) != types_.end();
    const auto unk = unknown(true);
    std::string proto;
    size_t bytes = 0;
    for (size_t i = 0; i < tokens_.size(); i++) {
      const int64_t type = !has_unknown && unk == i ? kUnknown : types_[i];
      bytes += type == kByte;
      std::string piece;
      put_bytes(piece, 1, tokens_[i]);
      put_float(piece, 2, scores[i]);
      put_number(piece, 3, type);
      put_bytes(proto, 1, piece);
    }
    const auto number = [](std::optional<size_t> id) { return id ? static_cast<int64_t>(*id) : -1; };
    std::string trainer, normalizer;
    put_number(trainer, 3, 2);  // model_type BPE
    put_number(trainer, 35, bytes > 0);
    put_number(trainer, 40, number(unk));
    put_number(trainer, 41, number(bos(true)));
    put_number(trainer, 42, number(eos(true)));
    put_number(trainer, 43, number(id("tokenizer.ggml.padding_token_id")));
    put_bytes(normalizer, 1, "identity");
    put_number(normalizer, 3, file_.flag("tokenizer.ggml.add_space_prefix").value_or(true));
    put_number(normalizer, 4, file_.flag("tokenizer.ggml.remove_extra_whitespaces").value_or(false));
    put_number(normalizer, 5, true);
    put_bytes(proto, 2, trainer);
    put_bytes(proto, 3, normalizer);
    return proto;
  }

  static void put_varint(std::string& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    out += static_cast<char>(value);
  }
  static void put_number(std::string& out, uint32_t field, int64_t value) {
    put_varint(out, field << 3);
    put_varint(out, static_cast<uint64_t>(value));
  }
  static void put_bytes(std::string& out, uint32_t field, std::string_view bytes) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.size());
    out += bytes;
  }
  static void put_float(std::string& out, uint32_t field, float value) {
    put_varint(out, field << 3 | 5);
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(std::bit_cast<uint32_t>(value) >> shift);
  }

  void set_template(Json& config) const {
    if (const auto text = file_.text(kTemplate)) config["chat_template"] = *text;
  }

  Json config(bool pieces) const {
    Json c = {{"tokenizer_class", pieces ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
              {"clean_up_tokenization_spaces", false}};
    for (const auto& [key, token] : {std::pair("bos_token", bos(pieces)),
                                     {"eos_token", eos(pieces)},
                                     {"unk_token", unknown(pieces)},
                                     {"pad_token", id("tokenizer.ggml.padding_token_id")}})
      c[key] = token ? Json(tokens_[*token]) : Json();
    if (pieces) {
      c["legacy"] = true;
      c["add_bos_token"] = file_.flag("tokenizer.ggml.add_bos_token").value_or(true);
      c["add_eos_token"] = file_.flag("tokenizer.ggml.add_eos_token").value_or(false);
      if (const Json added = stripping_tokens(); !added.empty()) c["added_tokens_decoder"] = added;
    }
    set_template(c);
    return c;
  }

  // Of Phi-3 the special tokens take the white space behind them. The file has no flags of tokens; llama.cpp knows these by the
  // model's name, too.
  Json stripping_tokens() const {
    Json all = Json::object();
    const std::string name = lower_case(file_.text("general.name").value_or(""));
    if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return all;
    for (size_t i = 0; i < tokens_.size(); i++) {
      const bool strips = tokens_[i] == "</s>" || (types_[i] == kControl && tokens_[i] != "<s>" && tokens_[i] != "<|endoftext|>");
      if (strips)
        all[std::to_string(i)] = {{"content", tokens_[i]}, {"special", types_[i] == kControl},
                                  {"normalized", false},   {"single_word", false},
                                  {"lstrip", false},       {"rstrip", true}};
    }
    return all;
  }

  const GgufFile& file_;
  const std::string where_;
  std::vector<std::string>* notes_;
  std::vector<std::string_view> tokens_;
  std::vector<int64_t> types_;
};

}  // namespace

bool gguf_has_tokenizer(const GgufModel& model) {
  const std::string_view name = model.metadata().text(kModel).value_or("none");
  return name != "none" && name != "no_vocab";
}

std::map<std::string, std::string> gguf_tokenizer_files(const GgufModel& model, std::vector<std::string>* notes) {
  return TokenizerMaker(model, notes).files();
}

}  // namespace tll
