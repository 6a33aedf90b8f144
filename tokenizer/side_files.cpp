// The files beside a tokenizer that name its special tokens, read as transformers 5 reads them.
#include <algorithm>
#include <charconv>

#include "src/base/file.h"
#include "tokenizer/fingerprint.h"
#include "tokenizer/formats.h"
#include "tokenizer/tokenizer_json.h"

namespace tll {

class SideFiles {
 public:
  SideFiles(Tokenizer& tokenizer, const std::filesystem::path& directory) : t_(tokenizer), directory_(directory) {}

  void apply(bool has_tokenizer_json) {
    config_ = read("tokenizer_config.json");
    map_ = read("special_tokens_map.json");
    if (!has_tokenizer_json) read_added_tokens();
    for (const AddedToken& t : t_.added_tokens_) t_.vocab_size_ = std::max(t_.vocab_size_, t.id + 1);
    name_token("bos_token", t_.bos_);
    name_token("eos_token", t_.eos_);
    name_token("pad_token", t_.pad_);
    name_token("unk_token", t_.unk_);
    if (has_tokenizer_json) {
      for (const auto& [key, adds] : {std::pair("add_bos_token", t_.adds_bos()), {"add_eos_token", t_.adds_eos()}}) {
        if (flag(key, adds) == adds) continue;
        t_.warnings_.push_back(fmt::format("{}: {} is {}, but the post_processor of tokenizer.json says {}, which counts",
                                           config_->where, key, !adds, adds));
      }
    } else {
      t_.prefix_.clear();
      t_.suffix_.clear();
      if (t_.bos_ && flag("add_bos_token", true)) t_.prefix_ = {*t_.bos_};
      if (t_.eos_ && flag("add_eos_token", false)) t_.suffix_ = {*t_.eos_};
    }
    read_generation_config();
    finish();
  }

 private:
  struct File {
    std::string where;
    Json json;
    JsonNode root() const { return {json, where}; }
  };

  std::optional<File> read(const char* name) const {
    const std::filesystem::path path = directory_ / name;
    if (!std::filesystem::exists(path)) return std::nullopt;
    File file{path.string(), {}};
    file.json = parse_json(read_file(path), file.where);
    file.root().object();  // Error if it is not an object
    return file;
  }

  void add_token(AddedToken token, const JsonNode& source) {
    if (token.content.empty()) source.refuse("an empty token");
    if (token.id < t_.vocab_size_) return;  // already a piece of the model
    const auto same = [&](const AddedToken& t) { return t.id == token.id || t.content == token.content; };
    const auto earlier = std::find_if(t_.added_tokens_.begin(), t_.added_tokens_.end(), same);
    if (earlier == t_.added_tokens_.end()) {
      t_.added_tokens_.push_back(std::move(token));
    } else if (earlier->id == token.id && earlier->content == token.content) {
      *earlier = std::move(token);  // the later file knows the flags
    } else {
      source.refuse(fmt::format("{} with the id {}, but {} has the id {}", in_quotes(token.content), token.id,
                                in_quotes(earlier->content), earlier->id));
    }
  }

  // Tokens after those of a tokenizer.model: {content: id} in added_tokens.json, and with flags in tokenizer_config.json.
  void read_added_tokens() {
    if (const auto file = read("added_tokens.json")) {
      for (const auto& [content, id] : file->root().object()) {
        const JsonNode node = file->root().at(content);
        add_token({.id = node.id(kMaxVocabulary), .content = content}, node);
      }
    }
    const auto list = config_ ? config_->root().find("added_tokens_decoder") : std::nullopt;
    if (!list) return;
    for (const auto& [key, value] : list->object()) {
      const JsonNode node = list->at(key);
      uint32_t id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id >= kMaxVocabulary) {
        node.refuse(fmt::format("expected an id below {} as the key", kMaxVocabulary));
      }
      add_token(read_added_token(node, int32_t(id)), node);
    }
  }

  // A token is a string, or an object with its content. null: there is no such token. Without the key the model's own token
  // stays.
  void name_token(const char* key, std::optional<int32_t>& id) {
    for (const auto* file : {&config_, &map_}) {
      if (!*file || !(*file)->json.contains(key)) continue;
      const auto value = (*file)->root().find(key);
      if (!value) {
        id.reset();
        return;
      }
      const std::string& content = value->is_object() ? value->at("content").string() : value->string();
      id = t_.token_id(content);
      if (!id)
        t_.warnings_.push_back(
            fmt::format("{}: {} is {}, which is not in the vocabulary: ignored", (*file)->where, key, in_quotes(content)));
      return;
    }
  }

  bool flag(const char* key, bool absent) const { return config_ ? config_->root().boolean_or(key, absent) : absent; }

  // {"eos_token_id": 2} or a list. If no other file names the token, the first of the list is the token.
  void read_generation_config() {
    const auto file = read("generation_config.json");
    if (!file) return;
    const auto named = [&](const char* key) { return config_ && config_->json.contains(key); };
    const auto ids = [&](const char* key) {
      std::vector<int32_t> out;
      const auto node = file->root().find(key);
      if (!node) return out;
      for (const JsonNode& item : node->is_array() ? node->items() : std::vector<JsonNode>{*node}) {
        const int32_t id = item.id(size_t{1} << 31);
        if (id < t_.vocab_size_) {
          out.push_back(id);
        } else {
          t_.warnings_.push_back(
              fmt::format("{}: {} {} is not in the vocabulary of {}: ignored", file->where, key, id, t_.vocab_size_));
        }
      }
      return out;
    };
    const auto fill = [&](const char* key, const char* name, std::optional<int32_t>& id) {
      const std::vector<int32_t> found = ids(key);
      if (!id && !named(name) && !found.empty()) id = found[0];
      return found;
    };
    fill("bos_token_id", "bos_token", t_.bos_);
    fill("pad_token_id", "pad_token", t_.pad_);
    const std::vector<int32_t> ends = fill("eos_token_id", "eos_token", t_.eos_);
    if (!ends.empty()) t_.end_ids_ = ends;
  }

  void finish() {
    if (t_.eos_ && std::find(t_.end_ids_.begin(), t_.end_ids_.end(), *t_.eos_) == t_.end_ids_.end()) {
      t_.end_ids_.insert(t_.end_ids_.begin(), *t_.eos_);
    }
    Fingerprint hash(t_.fingerprint_);
    for (const AddedToken& t : t_.added_tokens_) hash.add(t.id).add(t.content);
    for (const auto* list : {&t_.prefix_, &t_.suffix_}) {
      hash.add(list->size());
      for (const int32_t id : *list) hash.add(id);
    }
    hash.add(t_.bos_.value_or(-1)).add(t_.eos_.value_or(-1));
    t_.fingerprint_ = hash.hex();
  }

  Tokenizer& t_;
  const std::filesystem::path& directory_;
  std::optional<File> config_, map_;  // tokenizer_config.json, special_tokens_map.json
};

void apply_side_files(Tokenizer& tokenizer, const std::filesystem::path& directory, bool has_tokenizer_json) {
  SideFiles(tokenizer, directory).apply(has_tokenizer_json);
}

}  // namespace tll
