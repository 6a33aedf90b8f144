// Reads the keys of a JSON configuration with their exact types, and decides what happens to keys that no reader knows.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"

namespace tll {

// Keys whose meaning is not implemented, and the value that switches them off, as JSON text. Null switches them off too.
struct RefusedKeys {
  std::string_view off;
  std::vector<const char*> keys;
};

// The known keys that `key` is probably a misspelling of: it differs by case, separators, a plural, or one or two letters of a
// long word.
std::vector<std::string_view> close_keys(std::string_view key, std::span<const std::string_view> known);

// The keys that the reader of a file does not know. One that is probably a misspelling is an error, because its value would be
// lost. The others are noted, each once for all objects of the file.
class UnknownKeys {
 public:
  explicit UnknownKeys(std::vector<std::string_view> known) : known_(std::move(known)) {}

  // `where` names the object. A known key that the object has itself was not misspelt: `has` says whether it has one. Null,
  // false, 0 and what is empty change nothing: such a value is no error, and not noted.
  void meet(const Json& object, const std::string& where, std::span<const std::string_view> harmless = {});
  void meet(std::string_view key, const std::string& where, const std::function<bool(std::string_view)>& has);

  std::optional<std::string> first() const { return met_.empty() ? std::nullopt : std::optional(met_.begin()->first); }
  // One line for each key that was noted, "FILE: key "KEY" is not known and is ignored (3 times)"; after many, one for the rest.
  std::vector<std::string> notes(const std::string& file) const;
  // Adds how often each key was noted.
  void count_into(std::map<std::string, int64_t>& times) const;

 private:
  std::vector<std::string_view> known_;
  struct Met {
    std::vector<std::string_view> close;  // known keys
    int64_t times = 0;
  };
  std::map<std::string, Met, std::less<>> met_;
  bool more_ = false;
};

// The lines of UnknownKeys::notes() for keys that were counted.
std::vector<std::string> unknown_key_notes(const std::map<std::string, int64_t>& times, const std::string& file,
                                           bool at_least = false);

// The value as it is shown in a message: short, on one line.
std::string shown(const Json& value);

// Every error is kExitBadFile and names `where` and the key. Null counts as absent, except in number(), which refuses it.
class JsonObject {
 public:
  JsonObject(const Json& object, std::string where);  // refuses anything but an object

  const Json* find(const char* key);  // null pointer: the key is absent or its value is null
  bool present(const char* key) const { return object_.contains(key); }
  const std::string& where() const { return where_; }
  [[noreturn]] void wrong(const char* key, std::string_view expected, const Json& found) const;

  int32_t size(const char* key, std::optional<int32_t> absent = {});  // 1 … 2^31-1; 48.0 is 48
  double number(const char* key, double absent, double above, double at_most);
  std::vector<double> numbers(const char* key, double above, double at_most);  // a list; absent: none
  bool flag(const char* key);                                                  // absent: false
  std::string text(const char* key);                                           // absent: ""
  std::vector<std::string> strings(const char* key);  // absent: none; one string stands for a list of one

  // Integers of at least `least`, which are `expected`; one stands for a list of one. "48" is no integer.
  // At most 1024 of them.
  std::vector<int64_t> integers(const char* key, int64_t least, std::string_view expected);

  // Error if one of the keys is there and not switched off.
  void refuse(std::span<const RefusedKeys> rows);
  // Deals with every key that was not asked for and is not harmless (UnknownKeys).
  void warn_unknown(std::span<const std::string_view> harmless, std::vector<std::string>& warnings) const;

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace tll
