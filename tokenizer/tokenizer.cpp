#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/file.h"
#include "tokenizer/formats.h"

namespace tll {

namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> Tokenizer::load(const fs::path& directory_or_file) {
  fs::path file = directory_or_file;
  if (fs::is_directory(file)) {
    file /= "tokenizer.json";
    if (!fs::exists(file)) file.replace_filename("tokenizer.model");
    if (!fs::exists(file)) bad_file("{}: expected a tokenizer.json or a tokenizer.model in it", directory_or_file.string());
  }
  const std::string content = read_file(file);
  const std::string where = file.string();
  const size_t first = std::min(content.find_first_not_of(" \t\r\n"), content.size());
  const bool is_json = content.substr(first, 1) == "{";
  // A SentencePiece model begins with the tag of its first piece (field 1, a message), which is the byte of a line feed.
  const bool is_sentencepiece = content.starts_with('\n') && !is_json;
  if (content.empty()) bad_file("{}: expected a tokenizer, found an empty file; copy it again", where);
  std::unique_ptr<Tokenizer> tokenizer = is_json            ? read_tokenizer_json(content, where)
                                         : is_sentencepiece ? read_sentencepiece(content, where)
                                                            : read_tiktoken(content, where);
  apply_side_files(*tokenizer, file.parent_path(), is_json);
  return tokenizer;
}

std::vector<int32_t> Tokenizer::encode_with_special(std::string_view utf8) const {
  std::vector<int32_t> ids = encode(utf8);
  ids.insert(ids.begin(), prefix_.begin(), prefix_.end());
  ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

std::optional<int32_t> Tokenizer::special_id(std::string_view content) const {
  const auto found =
      std::find_if(added_tokens_.begin(), added_tokens_.end(), [&](const AddedToken& t) { return t.content == content; });
  if (found == added_tokens_.end()) return std::nullopt;
  return found->id;
}

void Tokenizer::check_ids(std::span<const int32_t> ids) const {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size_) bad_file("token id {} is not in the tokenizer's vocabulary of {}", id, vocab_size_);
  }
}

std::string StreamDecoder::push(int32_t id) {
  tokenizer_.check_ids({&id, 1});
  window_.push_back(id);
  if (tokenizer_.ends_in_bytes(window_, skip_special_)) return {};
  const std::string text = tokenizer_.decode(window_, skip_special_);
  if (text.ends_with("\uFFFD")) return {};  // maybe the beginning of a character
  std::string out = text.substr(std::min(shown_bytes_, text.size()));
  // Text at the beginning is decoded differently (a space is dropped). So the window keeps the last ids that have a text.
  const std::span<const int32_t> fresh = std::span(window_).subspan(shown_ids_);
  const std::string alone = tokenizer_.decode(fresh, skip_special_);
  shown_bytes_ = text.size();
  if (!alone.empty()) {
    window_.erase(window_.begin(), window_.begin() + std::ptrdiff_t(shown_ids_));
    shown_bytes_ = alone.size();
  }
  shown_ids_ = window_.size();
  return out;
}

std::string StreamDecoder::finish() {
  const std::string text = tokenizer_.decode(window_, skip_special_);
  std::string out = text.substr(std::min(shown_bytes_, text.size()));
  shown_bytes_ = text.size();
  shown_ids_ = window_.size();
  return out;
}

}  // namespace tll
