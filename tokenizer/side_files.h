// The files beside a tokenizer that name its special tokens.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "tokenizer/json_node.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// Follows transformers 5. A tokenizer.json says itself which tokens come before and after a text. add_bos_token (default true)
// and add_eos_token (default false) in tokenizer_config.json apply only to a tokenizer.model.
class SideFiles {
 public:
  SideFiles(Tokenizer& tokenizer, std::filesystem::path directory) : t_(tokenizer), directory_(std::move(directory)) {}
  void apply(bool has_tokenizer_json);

 private:
  struct File {
    std::string where;
    Json json;
    JsonNode root() const { return {json, where}; }
  };
  std::optional<File> read(const char* name) const;
  void read_added_tokens();
  void add_token(AddedToken token, const JsonNode& source);
  void name_token(const char* key, std::optional<int32_t>& id);
  void read_generation_config();
  bool flag(const char* key, bool absent) const;
  void finish();

  Tokenizer& t_;
  std::filesystem::path directory_;
  std::optional<File> config_, map_;  // tokenizer_config.json, special_tokens_map.json
};

}  // namespace tll
