// Regular expressions from an adapter's configuration, matched against module names. The patterns are untrusted: they are
// matched in polynomial time, and what would need unbounded memory or depth is refused.
#pragma once

#include <memory>
#include <regex>
#include <string>
#include <string_view>

namespace tll {

class ModulePattern {
 public:
  // PEFT's are Python's; the common part of both dialects is understood (kExitBadFile otherwise, naming `where`).
  ModulePattern(const std::string& pattern, const std::string& where);
  bool matches(const std::string& module) const;  // as a whole

 private:
  std::regex regex_;
};

// Rank and alpha patterns: the key is a regular expression for the end of the name, from a dot on: (.*\.)?(key)$.
// A key of plain characters, where only the dot stands for any character, is compared without a regex.
class ModuleSuffix {
 public:
  ModuleSuffix(const std::string& key, const std::string& where);
  bool matches(const std::string& module) const;
  bool plain() const { return !pattern_; }

 private:
  std::string key_;
  std::unique_ptr<ModulePattern> pattern_;  // null: plain
};

}  // namespace tll
