#include "src/files/module_pattern.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "src/base/check.h"
#include "src/base/json.h"

namespace tll {
namespace {

constexpr size_t kMaxLength = 1000;    // of a pattern
constexpr size_t kMaxExpanded = 4000;  // its characters after repetitions {m,n} are written out
constexpr int kMaxLookaheads = 2;      // each nested one multiplies the work by the length of a name

// Upper bound of the pattern's length after its repetitions are written out; nested ones multiply.
size_t expanded_length(const std::string& pattern) {
  size_t product = 1;
  for (size_t i = 0; i < pattern.size(); i++) {
    if (pattern[i] != '{') continue;
    size_t largest = 1, number = 0;
    for (i++; i < pattern.size() && pattern[i] != '}'; i++) {
      number = std::isdigit(static_cast<unsigned char>(pattern[i]))
                   ? std::min(number * 10 + size_t(pattern[i] - '0'), kMaxExpanded)
                   : 0;
      largest = std::max(largest, number);
    }
    product = std::min(product * largest, kMaxExpanded);
  }
  return product * pattern.size();
}

// Whether the pattern has an escape that is not the same in Python and in ECMAScript (\A, \Z).
bool has_other_escape(const std::string& pattern) {
  constexpr std::string_view kCommon = "dDwWsSbBnrtfv";
  for (size_t i = 0; i + 1 < pattern.size(); i++) {
    if (pattern[i] != '\\') continue;
    const char next = pattern[++i];
    if (std::isalpha(static_cast<unsigned char>(next)) && kCommon.find(next) == std::string_view::npos) return true;
  }
  return false;
}

int count(const std::string& pattern, const std::string& part) {
  int found = 0;
  for (size_t at = 0; (at = pattern.find(part, at)) != std::string::npos; at++) found++;
  return found;
}

}  // namespace

ModulePattern::ModulePattern(const std::string& pattern, const std::string& where) {
  if (pattern.size() > kMaxLength || expanded_length(pattern) > kMaxExpanded ||
      count(pattern, "(?=") + count(pattern, "(?!") > kMaxLookaheads) {
    bad_file("{}: the pattern {} is too complex; list the module names instead", where, in_quotes(pattern));
  }
  if (has_other_escape(pattern))
    bad_file("{}: the pattern {} has an escape that is not understood; list the module names instead", where, in_quotes(pattern));
  try {
    regex_.assign(pattern, std::regex::ECMAScript | std::regex_constants::__polynomial);  // breadth-first matcher of libstdc++
  } catch (const std::regex_error& error) {
    bad_file("{}: the pattern {} cannot be understood ({}); list the module names instead", where, in_quotes(pattern),
             error.what());
  }
}

bool ModulePattern::matches(const std::string& module) const { return std::regex_match(module, regex_); }

ModuleSuffix::ModuleSuffix(const std::string& key, const std::string& where) : key_(key) {
  const bool plain = std::all_of(key.begin(), key.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.'; });
  if (!plain) pattern_ = std::make_unique<ModulePattern>("(.*\\.)?(" + key + ")", where);
}

bool ModuleSuffix::matches(const std::string& module) const {
  if (pattern_) return pattern_->matches(module);
  if (key_.size() > module.size()) return false;
  const size_t start = module.size() - key_.size();
  return (start == 0 || module[start - 1] == '.') && std::equal(key_.begin(), key_.end(), module.begin() + std::ptrdiff_t(start),
                                                                [](char k, char m) { return k == '.' || k == m; });
}

}  // namespace tll
