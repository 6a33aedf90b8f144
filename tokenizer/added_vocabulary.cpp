#include "tokenizer/added_vocabulary.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/json.h"
#include "tokenizer/formats.h"

namespace tll {

int32_t AddedVocabulary::number(const Addition& addition) {
  const AddedToken& token = addition.token;
  if (const auto known = id_of_(token.content)) return *known;
  if (is_taken_ && token.id >= 0 && !is_taken_(token.id) && declared_.insert(token.id).second) {
    next_ = std::max(next_, token.id + 1);
    return token.id;
  }
  if (token.id < 0)
    unnumbered_.push_back(fmt::format("{}: {} has no id in any file; it gets the next one, {}, as in transformers",
                                      addition.where, in_quotes(token.content), next_));
  return next_++;
}

void AddedVocabulary::add(const Addition& addition) {
  const AddedToken& token = addition.token;
  if (token.content.empty()) return;
  if (token.content.size() > kMaxPieceBytes)
    bad_file("{}: a token of {} bytes; at most {} are supported", addition.where, token.content.size(), kMaxPieceBytes);
  const auto [place, is_new] = by_content_.emplace(token.content, tokens_.size());
  const int32_t id = is_new ? number(addition) : tokens_[place->second].id;
  if (is_new) {
    tokens_.push_back(token);
  } else {
    AddedToken& earlier = tokens_[place->second];
    const bool special = earlier.special || token.special;
    if (token.id >= 0) earlier = token;
    earlier.special = special;
  }
  tokens_[place->second].id = id;
  if (token.id < 0 || token.id == id || renumbered_count_++ > 0) return;
  renumbered_ = fmt::format("{}: {} is declared with the id {} and gets {}, as Hugging Face's tokenizers number it",
                            addition.where, in_quotes(token.content), token.id, id);
}

std::vector<std::string> AddedVocabulary::notes() const {
  std::vector<std::string> all = unnumbered_;
  if (renumbered_count_ == 1) all.push_back(renumbered_);
  if (renumbered_count_ > 1) all.push_back(fmt::format("{}; so do {} more", renumbered_, renumbered_count_ - 1));
  return all;
}

}  // namespace tll
