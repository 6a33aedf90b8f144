// Regular expressions from an adapter's configuration, matched against module names.
//
// PEFT's patterns are Python's (re.fullmatch, re.match). PCRE2 matches them; what Python writes in another way is translated. The
// patterns are untrusted: one whose matching takes too many steps is an Error, where Python would not come to an end.
#pragma once

#include <memory>
#include <string>

namespace tll {

class ModulePattern {
 public:
  // Error (kExitBadFile), which names `where`, for a pattern that Python's re would not compile, and for one that is too large.
  ModulePattern(const std::string& pattern, const std::string& where);
  // The whole name. Error (kExitBadFile) after too many steps.
  bool matches(const std::string& module) const;

 private:
  std::string pattern_, where_;
  std::shared_ptr<void> code_;  // pcre2_code
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
