// Strict JSON (RFC 8259) from untrusted files, through the SAX interface of nlohmann-json. By itself that library accepts
// duplicate keys, a byte-order mark and anything after a NUL byte, and has no limit on nesting.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tll {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // objects keep the order of the file

inline constexpr int kMaxJsonDepth = 127;  // arrays and objects inside each other

// Parses one JSON value and nothing else. `where` is the name of the file. Error (kExitBadFile) with file, line (from 1) and byte
// offset (from 0) for syntax errors, duplicate keys, nesting deeper than max_depth, invalid UTF-8, lone surrogates, numbers that
// a double cannot hold, a byte-order mark (readers of data sets strip it first) and NUL bytes.
Json parse_json(std::string_view text, const std::string& where, int max_depth = kMaxJsonDepth);
OrderedJson parse_ordered_json(std::string_view text, const std::string& where, int max_depth = kMaxJsonDepth);

// The same as a sequence of events, for a reader that must not build a tree (a header with a million entries). The same errors,
// except that the handler itself must look for duplicate keys. It calls refuse() for whatever it does not accept.
class JsonEvents {
 public:
  // `base`: offset of `text` in the file. If it is above 0, errors name the byte in the file and no line.
  JsonEvents(std::string_view text, std::string where, size_t base = 0, int max_depth = kMaxJsonDepth)
      : text_(text), where_(std::move(where)), base_(base), max_depth_(max_depth) {}

  void read(nlohmann::json_sax<Json>& handler);
  [[noreturn]] void refuse(const std::string& message) const;  // the place is the last byte that was read

 private:
  friend class JsonLimits;
  std::string_view text_;
  std::string where_;
  size_t base_;
  int max_depth_;
  const char* next_ = nullptr;  // in text_: the first byte not read yet
};

// The text in quotes, for a message: one line, cut after max_bytes. Control characters and bytes that are not UTF-8 are escaped.
std::string in_quotes(std::string_view text, size_t max_bytes = 100);

}  // namespace tll
