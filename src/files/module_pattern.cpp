#define PCRE2_CODE_UNIT_WIDTH 8

#include "src/files/module_pattern.h"

#include <pcre2.h>

#include <algorithm>
#include <cctype>
#include <string_view>

#include "src/base/check.h"
#include "src/base/json.h"

namespace tll {
namespace {

constexpr size_t kMaxLength = 20000;  // bytes of a pattern
// Steps of one match: about a thousand times what a sensible pattern needs, and a few milliseconds.
constexpr uint32_t kMaxSteps = 200'000, kMaxDepth = 20'000, kMaxHeapKiB = 20'000;

// Writes a pattern of Python's re (3.11, for text) as PCRE2 has it, and refuses what only PCRE2 understands.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string translated() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\')
        escape(false);
      else if (c == '[')
        set();
      else if (c == '(')
        group();
      else if (pattern_.substr(at_).starts_with("{,"))
        open_repeat();
      else
        copy(1);
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    bad_file("{}: the pattern {} cannot be understood: {}; list the module names instead", where_, in_quotes(pattern_), why);
  }
  void copy(size_t n) {
    out_ += pattern_.substr(at_, n);
    at_ += n;
  }

  void escape(bool in_set) {
    constexpr std::string_view kClasses = "dDwWsSbB", kControls = "abfnrtv", kControlCodes = "\a\b\f\n\r\t\v";
    if (at_ + 1 == pattern_.size()) refuse("it ends with a backslash");
    const char c = pattern_[at_ + 1];
    const size_t control = kControls.find(c);
    if (!std::isalpha(static_cast<unsigned char>(c)) || (kClasses.find(c) != std::string_view::npos && !(in_set && c == 'b'))) {
      copy(2);
    } else if (control != std::string_view::npos) {
      out_ += fmt::format("\\x{{{:x}}}", int(kControlCodes[control]));
      at_ += 2;
    } else if (!in_set && (c == 'A' || c == 'Z')) {
      out_ += c == 'A' ? "\\A" : "\\z";  // Python's \Z is the very end
      at_ += 2;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      code_point(c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else {
      refuse(fmt::format("\\{} is no escape of Python's", c));
    }
  }

  void code_point(size_t digits) {
    const std::string_view hex = pattern_.substr(at_ + 2, digits);
    if (hex.size() < digits || !std::all_of(hex.begin(), hex.end(), [](unsigned char c) { return std::isxdigit(c); }))
      refuse(fmt::format("\\{} needs {} hexadecimal digits", pattern_[at_ + 1], digits));
    out_ += fmt::format("\\x{{{}}}", hex);
    at_ += 2 + digits;
  }

  // In Python a bracket inside a set is a character.
  void set() {
    copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
    for (bool first = true; at_ < pattern_.size(); first = false) {
      const char c = pattern_[at_];
      if (c == ']' && !first) return copy(1);
      if (c == '\\') {
        escape(true);
      } else {
        if (c == '[') out_ += '\\';
        copy(1);
      }
    }
    refuse("a set [ is not closed");
  }

  void group() {
    const std::string_view rest = pattern_.substr(at_);
    if (rest.starts_with("(*")) refuse("nothing to repeat after a parenthesis");
    if (!rest.starts_with("(?")) return copy(1);
    if (rest.starts_with("(?#")) {
      const size_t end = rest.find(')');
      if (end == std::string_view::npos) refuse("a comment (?# is not closed");
      at_ += end + 1;
      return;
    }
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?P<", "(?P="})
      if (rest.starts_with(known)) return copy(known.size());
    if (rest.starts_with("(?(") && rest.size() > 3 && (std::isalnum(static_cast<unsigned char>(rest[3])) || rest[3] == '_'))
      return copy(3);  // a condition on a group
    flags();
  }

  // (?i), (?i:…), (?-i:…). a and u choose the alphabet of \w, which is the same for module names.
  void flags() {
    const size_t end = pattern_.find_first_of(":)", at_);
    const std::string_view letters = end == std::string_view::npos ? "" : pattern_.substr(at_ + 2, end - at_ - 2);
    if (letters.empty() || letters.find_first_not_of("aiLmsux-") != std::string_view::npos ||
        letters.find('L') != std::string_view::npos)
      refuse(fmt::format("{} is no group of Python's", in_quotes(pattern_.substr(at_, 6))));
    out_ += "(?";
    std::copy_if(letters.begin(), letters.end(), std::back_inserter(out_), [](char c) { return c != 'a' && c != 'u'; });
    out_ += pattern_[end];
    at_ = end + 1;
  }

  // {,n} is {0,n}.
  void open_repeat() {
    const size_t end = pattern_.find_first_not_of("0123456789", at_ + 2);
    const bool repeat = end != std::string_view::npos && pattern_[end] == '}' && end > at_ + 2;
    out_ += repeat ? "{0," : "{,";
    at_ += 2;
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
};

std::string pcre_message(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

ModulePattern::ModulePattern(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {
  if (pattern.size() > kMaxLength)
    bad_file("{}: the pattern {} has {} bytes, and at most {} are read; list the module names instead", where, in_quotes(pattern),
             pattern.size(), kMaxLength);
  const std::string translated = Translator(pattern, where).translated();
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                   PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED, &error, &offset, nullptr);
  if (!code)
    bad_file("{}: the pattern {} cannot be understood: {}; list the module names instead", where, in_quotes(pattern),
             pcre_message(error));
  code_ = std::shared_ptr<void>(code, [](void* c) { pcre2_code_free(static_cast<pcre2_code*>(c)); });
}

bool ModulePattern::matches(const std::string& module) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(pcre2_match_context_create(nullptr),
                                                                                         pcre2_match_context_free);
  pcre2_set_match_limit(limits.get(), kMaxSteps);
  pcre2_set_depth_limit(limits.get(), kMaxDepth);
  pcre2_set_heap_limit(limits.get(), kMaxHeapKiB);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create(1, nullptr),
                                                                                  pcre2_match_data_free);
  const int found =
      pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(), 0, 0, match.get(), limits.get());
  if (found >= 0) return true;
  if (found == PCRE2_ERROR_NOMATCH) return false;
  bad_file("{}: matching the pattern {} to {} does not come to an end ({}); list the module names instead", where_,
           in_quotes(pattern_), module, pcre_message(found));
}

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
