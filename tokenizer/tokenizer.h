// Text to token ids and back. One interface for the three kinds of file that Llama models come with: Hugging Face tokenizer.json
// (BPE), SentencePiece tokenizer.model (BPE), and Llama 3's tokenizer.model (tiktoken's base64 lines).
//
// A user's text is only text: "<|eot_id|>" in it is encoded as its characters. Templates put special tokens between texts by
// their ids (special_id). Added tokens that are not special (some models' "<tool_call>") are found in texts, as by Hugging Face
// with encode_special_tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

class TextFiles;

// A token that is not made by merging, with the flags of tokenizer.json. lstrip, rstrip: it includes the white space on that
// side. single_word: it counts only between characters that are not part of a word.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false, normalized = false, single_word = false, lstrip = false, rstrip = false;
};

// A piece of a text. In markup special tokens are found, as transformers finds them in any text; in other pieces they are text.
struct TextPart {
  std::string_view text;
  bool markup = false;
};

// The tokens of a text, and the byte of the text at which each begins: that of the first of its characters. A token that stands
// for no character (SentencePiece's mark before a text) begins with the character behind it, and one of some bytes of a character
// begins in that character. A character that an NFC normalizer has composed begins with its first part.
struct PlacedTokens {
  std::vector<int32_t> ids;
  std::vector<uint32_t> begins;
};

// Thread-safe: all functions may run at once on one object.
class Tokenizer {
 public:
  // A directory (tokenizer.json is preferred to tokenizer.model) or one of these files. The files beside it that name tokens
  // are read if they are there (tokenizer/side_files.h). Error (kExitBadFile) for a file that is missing, malformed, or uses
  // something that is not implemented, which is named.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& directory_or_file);
  // The same of files that may be texts.
  static std::unique_ptr<Tokenizer> read(const TextFiles& files);
  virtual ~Tokenizer() = default;

  // Adds no special tokens. If the text is not UTF-8, SentencePiece takes U+FFFD for each wrong byte, as the reference does; the
  // others throw Error (kExitBadFile) with the offset of the byte.
  virtual std::vector<int32_t> encode(std::string_view utf8) const = 0;
  // The tokens of the joined text. Texts between special tokens are encoded as one, whatever parts they are of; a special token
  // stands in neighbouring parts that are all markup. With markup alone the ids are those that transformers gives the text.
  // As encode(), if the joined text is not UTF-8.
  virtual PlacedTokens encode_parts(std::span<const TextPart> parts) const = 0;
  // With the tokens that the file puts before and after a text (usually BOS before it).
  std::vector<int32_t> encode_with_special(std::string_view utf8) const { return with_special(encode(utf8)); }
  std::vector<int32_t> with_special(std::vector<int32_t> ids) const;

  // Bytes that are not UTF-8 become U+FFFD, as in the reference of each format. skip_special leaves out control tokens; otherwise
  // they appear as their content. Error (kExitBadFile) for an id that is not below vocab_size().
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special = true) const = 0;
  // Whether the ids end in a byte token. The next id may then belong to the same character, so the text is not final.
  virtual bool ends_in_bytes(std::span<const int32_t> ids, bool skip_special) const = 0;

  void check_ids(std::span<const int32_t> ids) const;  // throws that Error

  // Says how many ids the model has. Tokens beyond it are noted; they do no harm as long as no text needs them.
  void limit_to_model(int32_t vocab_size);
  // Error (kExitBadFile) that names the first token which the model does not have.
  void check_model_has(std::span<const int32_t> ids) const;

  int32_t vocab_size() const { return vocab_size_; }  // all ids are below it; there may be gaps
  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }
  std::optional<int32_t> pad() const { return pad_; }
  std::optional<int32_t> unk() const { return unk_; }
  const std::vector<int32_t>& end_ids() const { return end_ids_; }  // generation ends at any of these; eos() is among them
  bool adds_bos() const { return bos_ && !prefix_.empty() && prefix_.front() == *bos_; }
  bool adds_eos() const { return eos_ && !suffix_.empty() && suffix_.back() == *eos_; }

  const std::vector<AddedToken>& added_tokens() const { return added_tokens_; }
  std::optional<int32_t> special_id(std::string_view content) const;  // of an added or control token

  // 32 hexadecimal digits: the XXH3-128 of everything that changes ids.
  const std::string& fingerprint() const { return fingerprint_; }
  // What a user should know about the files, one line each.
  const std::vector<std::string>& warnings() const { return warnings_; }

 protected:
  int32_t vocab_size_ = 0, model_vocab_size_ = std::numeric_limits<int32_t>::max();
  std::optional<int32_t> bos_, eos_, pad_, unk_;
  std::vector<int32_t> end_ids_;
  std::vector<int32_t> prefix_, suffix_;  // added around a text
  std::vector<AddedToken> added_tokens_;
  std::vector<std::string> warnings_;
  std::string fingerprint_;

  virtual std::optional<int32_t> token_id(std::string_view content) const = 0;

 private:
  friend class SideFiles;
};

// Text from ids that come one at a time. It holds back text that a later id can change: characters with bytes missing. The texts
// that push() and finish() return, joined, are decode() of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}
  std::string push(int32_t id);
  std::string finish();  // what is still held back

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<int32_t> window_;  // the last ids that were shown, and those held back
  size_t shown_ids_ = 0;         // of the window
  size_t shown_bytes_ = 0;       // of the window's text
};

}  // namespace tll
