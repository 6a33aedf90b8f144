// Regular expressions from an adapter's configuration, matched against module names. The patterns are untrusted. They are matched
// in polynomial time, and a pattern that would need unbounded memory or depth is refused.
#pragma once

#include <memory>
#include <regex>
#include <string>

namespace tll {

class ModulePattern {
 public:
  // PEFT's patterns are Python's, std::regex has ECMAScript's. What both have in common is accepted; anything else is an Error
  // (kExitBadFile) that names `where`.
  ModulePattern(const std::string& pattern, const std::string& where);
  bool matches(const std::string& module) const;  // the whole name

 private:
  std::regex regex_;
};

// A key of rank_pattern or alpha_pattern. It is a regular expression for the end of the name, after a dot: (.*\.)?(key)$.
// A plain key, in which only the dot stands for any character, is compared without a regex.
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
