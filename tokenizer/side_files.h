// The files beside a tokenizer, which add tokens to it and name its special ones, read as transformers 5 reads them:
// tokenizer_config.json, special_tokens_map.json and added_tokens.json; generation_config.json and config.json for ids that the
// others do not name.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "src/base/text_files.h"
#include "tokenizer/added_vocabulary.h"
#include "tokenizer/json_node.h"
#include "tokenizer/tokenizer.h"

namespace tll {

class SideFiles {
 public:
  // Error (kExitBadFile) for a file that is malformed.
  explicit SideFiles(const TextFiles& files);

  // The tokens that the files add, in the order in which transformers adds them.
  const std::vector<Addition>& additions() const { return additions_; }

  // A key of tokenizer_config.json; nothing if it is absent or null.
  std::optional<bool> flag(const char* key) const;
  // Error if the key is there and does not switch off what it means: it changes ids, and is not implemented.
  void refuse(const char* key) const;
  // Adds a note if tokenizer_config.json names a class of tokenizers other than transformers' LlamaTokenizer.
  void note_other_class(std::vector<std::string>& notes) const;
  // Adds a note if the flag says another thing than `part` of tokenizer.json, which counts.
  void note_overruled(const char* key, bool value, const char* part, std::vector<std::string>& notes) const;

  // Sets what the files name: the special tokens, and what comes around a text. A tokenizer.json says the latter itself;
  // add_bos_token (default true) and add_eos_token (default false) count for a tokenizer.model.
  void apply(Tokenizer& tokenizer, bool has_tokenizer_json) const;

 private:
  struct File {
    std::string where;
    Json json;
    JsonNode root() const { return {json, where}; }
  };
  using Ids = std::vector<int32_t>;

  static std::optional<File> read(const TextFiles& files, const char* name);
  const File* naming(const std::string& key) const;
  std::vector<Addition> named() const;
  std::vector<Addition> declared(const std::optional<File>& added_tokens) const;
  void set_around(Tokenizer& tokenizer, bool has_tokenizer_json) const;
  void set_from_model(Tokenizer& tokenizer) const;
  Ids ids(const File& file, const char* key, Tokenizer& tokenizer) const;

  std::optional<File> config_, map_;        // tokenizer_config.json, special_tokens_map.json
  std::optional<File> generation_, model_;  // generation_config.json, config.json
  std::vector<Addition> additions_;
  std::vector<std::string> notes_;
};

}  // namespace tll
