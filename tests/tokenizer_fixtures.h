// Small tokenizer files, made in the test.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"
#include "tokenizer/tokenizer.h"

namespace tll {

inline std::unique_ptr<Tokenizer> load_as(const std::string& name, std::string_view content) {
  return Tokenizer::load(TemporaryDirectory().write(name, content));
}
inline std::unique_ptr<Tokenizer> load_json(const Json& json) { return load_as("tokenizer.json", json.dump()); }

// The message of the Error that loading throws; "" when it throws none.
inline std::string refusal(const std::string& name, std::string_view content) {
  return message_of([&] { load_as(name, content); });
}

// Protobuf, by hand.
inline std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
inline std::string number_field(int field, int64_t value) {
  return varint(static_cast<uint64_t>(field) << 3) + varint(static_cast<uint64_t>(value));
}
inline std::string bytes_field(int field, std::string_view value) {
  return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(value.size()) + std::string(value);
}
inline std::string piece_field(std::string_view text, float score, int type) {
  const auto bits = std::bit_cast<uint32_t>(score);
  std::string number = varint(2 << 3 | 5);
  for (int i = 0; i < 4; ++i) number += static_cast<char>(bits >> 8 * i);
  return bytes_field(1, bytes_field(1, text) + number + number_field(3, type));
}

struct SmallSentencePiece {
  bool byte_fallback = true, dummy_prefix = true, remove_spaces = false;
  int unused = -1;               // a piece of type UNUSED instead of NORMAL
  std::string more_pieces = {};  // behind the others
  std::string trainer = {}, normalizer = {};

  // 0 <unk>, 1 <s>, 2 </s>, then the bytes (id = byte + 3) if there are any, then kPieces with falling scores.
  static constexpr const char* kPieces[] = {"▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello", "▁▁", "lo", "é"};
  int first_piece() const { return byte_fallback ? 259 : 3; }
  std::string content() const {
    std::string out = piece_field("<unk>", 0, 2) + piece_field("<s>", 0, 3) + piece_field("</s>", 0, 3);
    for (int b = 0; byte_fallback && b < 256; ++b) out += piece_field(fmt::format("<0x{:02X}>", b), 0, 6);
    for (int i = 0; i < static_cast<int>(std::size(kPieces)); ++i)
      out += piece_field(kPieces[i], static_cast<float>(-i), i == unused ? 5 : 1);
    out += more_pieces;
    out += bytes_field(2, number_field(3, 2) + number_field(35, byte_fallback) + number_field(43, -1) + trainer);
    out +=
        bytes_field(3, bytes_field(1, "identity") + number_field(3, dummy_prefix) + number_field(4, remove_spaces) + normalizer);
    return out;
  }
};

inline std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

// The 256 bytes in order, then these tokens: 256 he, 257 ll, 258 hell, 259 hello, 260 " world" (not reachable by merging), 261 "
// w".
inline std::vector<std::string> small_tiktoken_tokens() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  for (const char* token : {"he", "ll", "hell", "hello", " world", " w"}) tokens.emplace_back(token);
  return tokens;
}
inline std::string tiktoken_content(const std::vector<std::string>& tokens) {
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) out += fmt::format("{} {}\n", base64(tokens[i]), i);
  return out;
}

// Characters: 0 <unk>, 1 <s>, 2 a, 3 b, 4 c, 5 ▁, 6 ab, 7 ▁a, 8 abc, 9 1.
inline Json small_json() {
  return Json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 1, "content": "<s>", "special": true}, {"id": 10, "content": "<|end|>", "special": true, "rstrip": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": "",
              "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
              "vocab": {"<unk>": 0, "<s>": 1, "a": 2, "b": 3, "c": 4, "▁": 5, "ab": 6, "▁a": 7, "abc": 8, "1": 9},
              "merges": ["a b", ["▁", "a"], "ab c"]}})");
}

using Ids = std::vector<int32_t>;

}  // namespace tll
