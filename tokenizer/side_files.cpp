#include "tokenizer/side_files.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_set>

#include "src/base/file.h"
#include "src/base/json_object.h"
#include "tokenizer/fingerprint.h"
#include "tokenizer/formats.h"
#include "tokenizer/tokenizer_json.h"

namespace tll {
namespace {

constexpr const char* kSpecialNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};

// Keys of tokenizer_config.json that change ids, and are read or refused.
const std::vector<std::string_view> kConfigKeys = {
    kAddedTokensDecoder,    "add_bos_token", "add_eos_token",     "add_prefix_space", "additional_special_tokens",
    "extra_special_tokens", "do_lower_case", "fix_mistral_regex", "legacy",           "sp_model_kwargs",
    "tokenizer_class"};
// And those that change none.
constexpr std::string_view kHarmlessKeys[] = {"auto_map",
                                              "backend",
                                              "chat_control_tokens",
                                              "chat_template",
                                              "clean_up_tokenization_spaces",
                                              "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
                                              "device_map",
                                              "errors",
                                              "files_loaded",
                                              "from_slow",
                                              "init_inputs",
                                              "is_local",
                                              "local_files_only",
                                              "max_len",
                                              "max_length",
                                              "merges_file",
                                              "model_input_names",
                                              "model_max_length",
                                              "model_specific_special_tokens",
                                              "name_or_path",
                                              "pad_to_multiple_of",
                                              "pad_token_type_id",
                                              "padding",
                                              "padding_side",
                                              "processor_class",
                                              "response_schema",
                                              "response_template",
                                              "return_token_type_ids",
                                              "spaces_between_special_tokens",
                                              "special_tokens_map_file",
                                              "split_special_tokens",
                                              "stride",
                                              "tokenizer_file",
                                              "tokenizer_type",
                                              "transformers_version",
                                              "truncation",
                                              "truncation_side",
                                              "truncation_strategy",
                                              "trust_remote_code",
                                              "use_default_system_prompt",
                                              "use_fast",
                                              "verbose",
                                              "vocab_file",
                                              "vocab_size"};

// A token that a file names: a string, or an object with its content and flags.
AddedToken named_token(const JsonNode& node) {
  AddedToken token = node.is_object() ? read_added_token(node, -1) : AddedToken{.id = -1, .content = node.string()};
  token.special = true;
  return token;
}

}  // namespace

SideFiles::SideFiles(const TextFiles& files)
    : config_(read(files, "tokenizer_config.json")),
      map_(read(files, "special_tokens_map.json")),
      generation_(read(files, "generation_config.json")),
      model_(read(files, "config.json")) {
  if (config_) {
    Json others = config_->json;
    for (auto key = others.begin(); key != others.end();)
      key = key.key().ends_with("_token") ? others.erase(key) : std::next(key);
    UnknownKeys unknown(kConfigKeys);
    unknown.meet(others, config_->where, kHarmlessKeys);
    notes_ = unknown.notes(config_->where);
  }
  additions_ = declared(read(files, "added_tokens.json"));
  for (Addition& addition : named()) additions_.push_back(std::move(addition));
}

std::optional<SideFiles::File> SideFiles::read(const TextFiles& files, const char* name) {
  if (!files.has(name)) return std::nullopt;
  File file{files.where(name), {}};
  file.json = parse_json(files.read(name), file.where);
  file.root().object();  // Error if it is not an object
  return file;
}

std::optional<bool> SideFiles::flag(const char* key) const {
  const auto value = config_ ? config_->root().find(key) : std::nullopt;
  return value ? std::optional(value->boolean()) : std::nullopt;
}

void SideFiles::refuse(const char* key) const {
  const auto value = config_ ? config_->root().find(key) : std::nullopt;
  if (!value || value->json() == false || value->json().empty()) return;
  value->refuse(fmt::format("{} changes token ids, and is not implemented", shown(value->json())));
}

void SideFiles::note_other_class(std::vector<std::string>& notes) const {
  constexpr std::string_view kLike[] = {"LlamaTokenizer", "CodeLlamaTokenizer", "PreTrainedTokenizer", "TokenizersBackend"};
  const auto value = config_ ? config_->root().find("tokenizer_class") : std::nullopt;
  if (!value) return;
  std::string_view name = value->string();
  if (name.ends_with("Fast")) name.remove_suffix(4);
  if (std::find(std::begin(kLike), std::end(kLike), name) != std::end(kLike)) return;
  notes.push_back(fmt::format("{}: tokenizer_class {} is read as LlamaTokenizer", config_->where, in_quotes(value->string())));
}

void SideFiles::note_overruled(const char* key, bool value, const char* part, std::vector<std::string>& notes) const {
  if (flag(key).value_or(value) == value) return;
  notes.push_back(
      fmt::format("{}: {} is {}, but the {} of tokenizer.json says {}, which counts", config_->where, key, !value, part, value));
}

// The file whose `key` counts. Beside a tokenizer_config.json with added_tokens_decoder, transformers does not read
// special_tokens_map.json; here it then names what the other does not.
const SideFiles::File* SideFiles::naming(const std::string& key) const {
  const bool config_first = config_ && config_->json.contains(kAddedTokensDecoder);
  for (const auto* file : {config_first ? &config_ : &map_, config_first ? &map_ : &config_}) {
    if (*file && (*file)->json.contains(key)) return &**file;
  }
  return nullptr;
}

// The special tokens that are named, with or without an id elsewhere.
std::vector<Addition> SideFiles::named() const {
  std::vector<Addition> all;
  const auto add = [&](const JsonNode& node, const File& file) {
    all.push_back({named_token(node), fmt::format("{}: {}", file.where, node.path())});
  };
  for (const char* key : kSpecialNames) {
    const File* file = naming(key);
    if (const auto node = file ? file->root().find(key) : std::nullopt) add(*node, *file);
  }
  if (config_) {
    for (const auto& [key, value] : config_->json.items()) {
      const bool is_special = std::find(std::begin(kSpecialNames), std::end(kSpecialNames), key) != std::end(kSpecialNames);
      if (key.ends_with("_token") && value.is_string() && !is_special) add(config_->root().at(key), *config_);
    }
  }
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    const File* file = naming(key);
    const auto list = file ? file->root().find(key) : std::nullopt;
    if (!list) continue;
    if (list->is_object()) {
      for (const auto& [name, value] : list->object()) add(list->at(name), *file);
    } else {
      for (const JsonNode& node : list->items()) add(node, *file);
    }
  }
  return all;
}

// The tokens that are declared with an id: by tokenizer_config.json or else by added_tokens.json, {content: id}.
std::vector<Addition> SideFiles::declared(const std::optional<File>& added_tokens) const {
  std::vector<Addition> all;
  if (config_ && config_->json.contains(kAddedTokensDecoder)) {
    const auto list = config_->root().find(kAddedTokensDecoder);
    for (const auto& [key, value] : list ? list->object() : Json::object_t()) {
      const JsonNode node = list->at(key);
      uint32_t id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id >= kMaxVocabulary) {
        node.refuse(fmt::format("expected an id below {} as the key", kMaxVocabulary));
      }
      all.push_back({read_added_token(node, int32_t(id)), fmt::format("{}: {}", config_->where, node.path())});
    }
  } else if (added_tokens) {
    std::unordered_set<std::string> specials;
    for (const Addition& a : named()) specials.insert(a.token.content);
    for (const auto& [content, value] : added_tokens->root().object()) {
      const JsonNode node = added_tokens->root().at(content);
      const bool special = specials.contains(content);
      AddedToken token{.id = node.id(kMaxVocabulary), .content = content, .special = special, .normalized = !special};
      all.push_back({std::move(token), added_tokens->where});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Addition& a, const Addition& b) { return a.token.id < b.token.id; });
  return all;
}

void SideFiles::apply(Tokenizer& t, bool has_tokenizer_json) const {
  constexpr int32_t kLarge = 100000;  // transformers replaces the regular expression of larger vocabularies only
  if (t.vocab_size_ > kLarge) refuse("fix_mistral_regex");
  t.warnings_.insert(t.warnings_.end(), notes_.begin(), notes_.end());
  // null: there is no such token. Without the key the tokenizer's own stays.
  for (const auto& [key, id] :
       {std::pair("bos_token", &t.bos_), {"eos_token", &t.eos_}, {"pad_token", &t.pad_}, {"unk_token", &t.unk_}}) {
    const File* file = naming(key);
    if (!file) continue;
    const auto node = file->root().find(key);
    *id = node ? t.token_id(named_token(*node).content) : std::nullopt;
  }
  set_around(t, has_tokenizer_json);
  set_from_model(t);
  if (t.eos_ && std::find(t.end_ids_.begin(), t.end_ids_.end(), *t.eos_) == t.end_ids_.end()) {
    t.end_ids_.insert(t.end_ids_.begin(), *t.eos_);
  }
  Fingerprint hash(t.fingerprint_);
  for (const AddedToken& a : t.added_tokens_) hash.add(a.id).add(a.content);
  for (const auto* list : {&t.prefix_, &t.suffix_}) {
    hash.add(list->size());
    for (const int32_t id : *list) hash.add(id);
  }
  hash.add(t.bos_.value_or(-1)).add(t.eos_.value_or(-1));
  t.fingerprint_ = hash.hex();
}

void SideFiles::set_around(Tokenizer& t, bool has_tokenizer_json) const {
  if (has_tokenizer_json) {
    note_overruled("add_bos_token", t.adds_bos(), "post_processor", t.warnings_);
    note_overruled("add_eos_token", t.adds_eos(), "post_processor", t.warnings_);
    return;
  }
  t.prefix_.clear();
  t.suffix_.clear();
  if (t.bos_ && flag("add_bos_token").value_or(true)) t.prefix_ = {*t.bos_};
  if (t.eos_ && flag("add_eos_token").value_or(false)) t.suffix_ = {*t.eos_};
}

// A token id, a list of them, or -1, which means none. Ids outside of the vocabulary are noted and left out.
SideFiles::Ids SideFiles::ids(const File& file, const char* key, Tokenizer& t) const {
  constexpr size_t kMost = 1024;  // lists are searched item by item
  Ids out;
  const auto node = file.root().find(key);
  if (!node) return out;
  if (node->is_array() && node->json().size() > kMost) node->expected(fmt::format("at most {} token ids", kMost));
  int outside = 0;
  for (const JsonNode& item : node->is_array() ? node->items() : std::vector<JsonNode>{*node}) {
    const double id = item.json().is_number() ? item.json().get<double>() : NAN;
    if (id != std::floor(id)) item.expected("a token id");
    if (id >= 0 && id < t.vocab_size_) {
      out.push_back(int32_t(id));
    } else if (id >= 0 && generation_ && &file == &*generation_ && outside++ == 0) {  // the reader of config.json notes its own
      t.warnings_.push_back(
          fmt::format("{}: {} {} is not in the vocabulary of {}: ignored", file.where, key, shown(item.json()), t.vocab_size_));
    }
  }
  return out;
}

// {"eos_token_id": 2}, or a list of which the first is the token. What a tokenizer's file names counts more. An end of text is
// taken even where a tokenizer's file says null: the model generates it. config.json is read for the end of text alone.
void SideFiles::set_from_model(Tokenizer& t) const {
  bool has_ends = false;
  for (const auto* file : {&generation_, &model_}) {
    if (!*file) continue;
    if (file == &generation_) {
      const Ids bos = ids(**file, "bos_token_id", t), pad = ids(**file, "pad_token_id", t);
      if (!t.bos_ && !naming("bos_token") && !bos.empty()) t.bos_ = bos[0];
      if (!t.pad_ && !naming("pad_token") && !pad.empty()) t.pad_ = pad[0];
    }
    const Ids ends = ids(**file, "eos_token_id", t);
    if (!t.eos_ && !ends.empty()) t.eos_ = ends[0];
    if (!has_ends && !ends.empty()) t.end_ids_ = ends, has_ends = true;
  }
}

}  // namespace tll
