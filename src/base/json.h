// Strict JSON (RFC 8259) from untrusted files, through the SAX interface of nlohmann-json, which on its own accepts duplicate
// keys, a byte-order mark and anything behind a NUL byte, and nests without limit.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tll {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // objects keep the order of the file

inline constexpr int kMaxJsonDepth = 127;  // arrays and objects inside each other

// One JSON value and nothing else. Refused with file, line (from 1) and byte offset (from 0): syntax errors, duplicate keys,
// nesting deeper than max_depth, invalid UTF-8, lone surrogates, numbers that a double cannot hold, a byte-order mark (readers
// of data sets strip it first), NUL bytes. `where` is the name of the file.
Json parse_json(std::string_view text, const std::string& where, int max_depth = kMaxJsonDepth);
OrderedJson parse_ordered_json(std::string_view text, const std::string& where, int max_depth = kMaxJsonDepth);

// The same text as a series of events, for a reader that must not build a tree (a header with a million entries).
// Everything above is refused but duplicate keys: those are the handler's task, which calls refuse() for what it dislikes.
class JsonEvents {
 public:
  // `base`: offset of `text` in the file, when it is a part of one.
  JsonEvents(std::string_view text, std::string where, size_t base = 0, int max_depth = kMaxJsonDepth)
      : text_(text), where_(std::move(where)), base_(base), max_depth_(max_depth) {}

  void read(nlohmann::json_sax<Json>& handler);
  [[noreturn]] void refuse(const std::string& message) const;  // at the last byte that was read

 private:
  friend class JsonLimits;
  std::string_view text_;
  std::string where_;
  size_t base_;
  int max_depth_;
  const char* next_ = nullptr;  // in text_: first byte that was not read
};

// The text in quotes for a message: one line, control characters and bytes that are not UTF-8 escaped, cut after max_bytes.
std::string in_quotes(std::string_view text, size_t max_bytes = 100);

}  // namespace tll
