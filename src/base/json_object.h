// Reads the keys of a JSON configuration with their exact types, and knows which keys nobody asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"

namespace tll {

// A key whose meaning is not implemented, and the value that switches it off, as JSON text. Null always does.
struct RefusedKey {
  std::string_view key, off;
};

// An integer of at most 64 bits: 48.0 is none, and "48" is none.
std::optional<int64_t> as_integer(const Json& value);
// A value for a message: short, on one line.
std::string shown(const Json& value);

// Every error is kExitBadFile and names `where` and the key. Null is the same as absent, except for numbers.
class JsonObject {
 public:
  JsonObject(const Json& object, std::string where);  // refuses what is no object

  const Json* find(const char* key);  // null pointer: absent, or null
  bool present(const char* key) const { return object_.contains(key); }
  const std::string& where() const { return where_; }
  [[noreturn]] void wrong(const char* key, std::string_view expected, const Json& found) const;

  int32_t size(const char* key, std::optional<int32_t> absent = {});  // 1 … 2^31-1
  double number(const char* key, double absent, double above, double at_most);
  bool flag(const char* key);                         // absent: false
  std::string text(const char* key);                  // absent: ""
  std::vector<std::string> strings(const char* key);  // absent: none; one string stands for a list of one

  void refuse(std::span<const RefusedKey> keys);
  // A line for each key that was not asked for, is not harmless, and holds anything (not null, false, 0 or empty).
  void warn_unknown(std::span<const std::string_view> harmless, std::vector<std::string>& warnings) const;

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace tll
