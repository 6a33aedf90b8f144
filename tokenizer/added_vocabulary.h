// The added tokens of a tokenizer, numbered as Hugging Face's tokenizers library numbers them: a token that the vocabulary has
// keeps the vocabulary's id. Any other gets the next id, behind the vocabulary and the tokens added before it, whatever id the
// file declares.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tll {

// A token that a file adds. Its id is the declared one; -1: the file names the token only.
struct Addition {
  AddedToken token;
  std::string where;  // file and key
};

class AddedVocabulary {
 public:
  using IdOf = std::function<std::optional<int32_t>(std::string_view)>;
  using IsTaken = std::function<bool(int32_t)>;

  // Of a vocabulary with the ids below `size`.
  AddedVocabulary(IdOf id_of, int32_t size) : id_of_(std::move(id_of)), next_(size) {}
  // With some of them missing. The library would then give ids that other tokens have; here a declared id that is free counts.
  AddedVocabulary(IdOf id_of, int32_t size, IsTaken is_taken) : AddedVocabulary(std::move(id_of), size) {
    is_taken_ = std::move(is_taken);
  }

  // A token that was added before takes the later flags; once special, it stays special. An empty token is ignored, as by the
  // library. Error (kExitBadFile) if the token is too long.
  void add(const Addition& addition);

  std::vector<AddedToken> take() { return std::move(tokens_); }
  // Tokens that have another id than the file declares, or that no file gives an id.
  std::vector<std::string> notes() const;

 private:
  int32_t number(const Addition& addition);

  IdOf id_of_;
  IsTaken is_taken_;  // none: no id is missing
  int32_t next_;      // all ids are below it
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_set<int32_t> declared_;  // ids that were missing
  std::vector<std::string> unnumbered_;
  std::string renumbered_;  // the first of them
  size_t renumbered_count_ = 0;
};

}  // namespace tll
