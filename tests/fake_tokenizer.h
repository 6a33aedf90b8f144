// A tokenizer for tests of the data folder: one token a byte, and a few joined strings, longest first from the left.
#pragma once

#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tll {

class FakeTokenizer : public Tokenizer {
 public:
  static constexpr int32_t kBos = 1, kEos = 2, kFirstByte = 3, kFirstJoined = 259;

  // With dummy_prefix a space goes in front of every text, as SentencePiece does, and decode drops it.
  explicit FakeTokenizer(std::vector<std::string> joined = {}, bool adds_bos = false, bool dummy_prefix = false)
      : joined_(std::move(joined)), dummy_prefix_(dummy_prefix) {
    vocab_size_ = kFirstJoined + int32_t(joined_.size());
    bos_ = kBos;
    eos_ = kEos;
    if (adds_bos) prefix_ = {kBos};
    fingerprint_ = "fake" + std::to_string(joined_.size());
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    const std::string s = (dummy_prefix_ && !text.empty() ? " " : "") + std::string(text);
    std::vector<int32_t> ids;
    for (size_t i = 0; i < s.size();) {
      size_t best = 0;
      int32_t id = kFirstByte + uint8_t(s[i]);
      for (size_t k = 0; k < joined_.size(); ++k) {
        if (joined_[k].size() > best && s.compare(i, joined_[k].size(), joined_[k]) == 0) {
          best = joined_[k].size();
          id = kFirstJoined + int32_t(k);
        }
      }
      ids.push_back(id);
      i += best ? best : 1;
    }
    return ids;
  }

  PlacedTokens encode_parts(std::span<const TextPart> parts) const override {
    PlacedTokens out;
    std::string text;
    for (const TextPart& part : parts) text += part.text;
    size_t at = 0;
    out.ids = encode(text);
    for (const int32_t id : out.ids) {
      const bool prefix = dummy_prefix_ && out.begins.empty();
      out.begins.push_back(uint32_t(at));
      at += (id < kFirstJoined ? 1 : joined_[size_t(id - kFirstJoined)].size()) - prefix;
    }
    return out;
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const override {
    std::string s;
    for (const int32_t id : ids) {
      if (id >= kFirstJoined) {
        s += joined_[size_t(id - kFirstJoined)];
      } else if (id >= kFirstByte) {
        s += char(id - kFirstByte);
      } else if (!skip_special) {
        s += id == kBos ? "<s>" : "</s>";
      }
    }
    if (dummy_prefix_ && s.starts_with(' ')) s.erase(0, 1);
    return s;
  }

  bool ends_in_bytes(std::span<const int32_t> ids, bool) const override { return !ids.empty() && ids.back() >= kFirstByte; }

 protected:
  std::optional<int32_t> token_id(std::string_view) const override { return std::nullopt; }

 private:
  std::vector<std::string> joined_;
  bool dummy_prefix_;
};

}  // namespace tll
