#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/file_kind.h"
#include "src/base/json.h"
#include "src/base/text_files.h"
#include "tokenizer/formats.h"

namespace tll {

namespace fs = std::filesystem;

namespace {

constexpr const char* kKinds = "a tokenizer.json (BPE), a SentencePiece tokenizer.model (BPE) or Llama 3's tokenizer.model";

// Tokenizers of other kinds are known by their files.
[[noreturn]] void refuse_directory(const fs::path& directory) {
  constexpr std::pair<const char*, const char*> kOthers[] = {
      {"merges.txt", "a slow tokenizer (vocab.json and merges.txt)"},
      {"vocab.json", "a slow tokenizer (vocab.json)"},
      {"vocab.txt", "a WordPiece tokenizer (vocab.txt)"},
      {"spiece.model", "a Unigram tokenizer (spiece.model)"},
      {"sentencepiece.bpe.model", "a SentencePiece model under another name (sentencepiece.bpe.model)"},
      {"tokenizer.model.v3", "a Mistral tokenizer (tokenizer.model.v3)"},
      {"tekken.json", "a Mistral tokenizer (tekken.json)"},
      {"tiktoken.model", "a tiktoken vocabulary under another name (tiktoken.model)"}};
  for (const auto& [name, kind] : kOthers) {
    if (!fs::exists(directory / name)) continue;
    bad_file(
        "{}: this looks like {}; this version reads {}; convert it with transformers: "
        "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes a tokenizer.json",
        directory.string(), kind, kKinds);
  }
  bad_file("{}: expected a tokenizer.json or a tokenizer.model in it", directory.string());
}

// `beside`: the files that name tokens.
std::unique_ptr<Tokenizer> read_tokenizer(const std::string& content, const std::string& where, const TextFiles& beside) {
  const FileKind kind = file_kind(content);
  if (kind != FileKind::unknown && kind != FileKind::sentencepiece) bad_file("{}: {}", where, wrong_kind(kind, kKinds));
  const size_t first = std::min(content.find_first_not_of(" \t\r\n"), content.size());
  const bool is_json = content.substr(first, 1) == "{";
  // A SentencePiece model begins with the tag of its first piece (field 1, a message), which is the byte of a line feed.
  const bool is_sentencepiece = content.starts_with('\n') && !is_json;
  const SideFiles side(beside);
  std::unique_ptr<Tokenizer> tokenizer = is_json            ? read_tokenizer_json(content, where, side)
                                         : is_sentencepiece ? read_sentencepiece(content, where, side)
                                                            : read_tiktoken(content, where, side);
  side.apply(*tokenizer, is_json);
  return tokenizer;
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::load(const fs::path& directory_or_file) {
  if (!fs::is_directory(directory_or_file))
    return read_tokenizer(read_file(directory_or_file), directory_or_file.string(), directory_or_file.parent_path());
  const TextFiles files(directory_or_file);
  if (!files.has("tokenizer.json") && !files.has("tokenizer.model")) refuse_directory(directory_or_file);
  return read(files);
}

std::unique_ptr<Tokenizer> Tokenizer::read(const TextFiles& files) {
  const char* name = files.has("tokenizer.json") ? "tokenizer.json" : "tokenizer.model";
  return read_tokenizer(files.read(name), files.where(name), files);
}

std::vector<int32_t> Tokenizer::with_special(std::vector<int32_t> ids) const {
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

void Tokenizer::limit_to_model(int32_t vocab_size) {
  model_vocab_size_ = vocab_size;
  if (vocab_size_ <= vocab_size) return;
  warnings_.push_back(fmt::format(
      "the tokenizer has ids up to {} ({}), and the model's vocab_size is {}: a text that needs an id from {} on is refused",
      vocab_size_ - 1, in_quotes(decode(std::vector<int32_t>{vocab_size_ - 1}, false)), vocab_size, vocab_size));
}

void Tokenizer::check_model_has(std::span<const int32_t> ids) const {
  const auto beyond = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id >= model_vocab_size_; });
  if (beyond == ids.end()) return;
  const std::string token = in_quotes(decode({beyond, 1}, false));
  bad_file(
      "the text needs the token {} with the id {}, and the model has ids below {} (vocab_size in config.json): take the "
      "model that this tokenizer belongs to{}",
      token, *beyond, model_vocab_size_, *beyond == eos_ ? ", or name as eos_token a token that the model has" : "");
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
