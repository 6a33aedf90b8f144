// Strict JSON (RFC 8259) from untrusted files, through the SAX interface of nlohmann-json. By itself that library accepts
// duplicate keys, a byte-order mark and anything after a NUL byte, and has no limit on nesting.
#pragma once

#include <cstddef>
#include <filesystem>
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

// Parses with the same errors, but as a sequence of events, for a reader that must not build a tree (a header with a million
// entries). The reader derives from this class, looks for duplicate keys itself, and calls refuse() for whatever it does not
// accept.
class JsonEvents : public nlohmann::json_sax<Json> {
 public:
  // `base`: offset of `text` in the file. If it is above 0, errors name the byte in the file and no line.
  JsonEvents(std::string_view text, std::string where, size_t base = 0, int max_depth = kMaxJsonDepth)
      : text_(text), where_(std::move(where)), base_(base), max_depth_(max_depth) {}

  void read();
  [[noreturn]] void refuse(const std::string& message) const;  // the place is the last byte that was read

  virtual bool open_object() = 0;
  virtual bool close_object() = 0;
  virtual bool open_array() = 0;
  virtual bool close_array() = 0;

  bool start_object(size_t) final { return deeper(), open_object(); }
  bool start_array(size_t) final { return deeper(), open_array(); }
  bool end_object() final { return --depth_, close_object(); }
  bool end_array() final { return --depth_, close_array(); }
  bool binary(Json::binary_t&) final { return false; }  // JSON text has none
  bool parse_error(size_t position, const std::string& last_token, const nlohmann::detail::exception& error) final;

 private:
  void deeper();
  void refuse_other_kind() const;  // Error if the text is that of another kind of file (src/base/file_kind.h)

  std::string_view text_;
  std::string where_;
  size_t base_;
  int max_depth_, depth_ = 0;
  const char* next_ = nullptr;  // in text_: the first byte not read yet
};

// The value as text: on one line, or indented. Bytes that are not UTF-8, which a path may have, become U+FFFD.
std::string json_text(const Json& value, int indent = -1);
// Writes the value, indented by two, atomically.
void write_json(const std::filesystem::path& path, const Json& value);

// The text in quotes, for a message: one line, cut after max_bytes. Control characters and bytes that are not UTF-8 are escaped.
std::string in_quotes(std::string_view text, size_t max_bytes = 100);

}  // namespace tll
