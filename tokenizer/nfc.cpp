#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

struct Decomposition {
  char32_t whole, first, second;
};
struct CombiningRun {
  char32_t first, last;
  uint8_t combining_class;
};

#include "tokenizer/nfc_compositions.inc"
#include "tokenizer/nfc_decompositions.inc"

// Hangul syllables are L + V + T by arithmetic (The Unicode Standard, section 3.12).
constexpr char32_t kSyllable = 0xAC00, kL = 0x1100, kV = 0x1161, kT = 0x11A7;
constexpr char32_t kLCount = 19, kVCount = 21, kTCount = 28, kSyllables = kLCount * kVCount * kTCount;

struct Tables {
  std::unordered_map<char32_t, Decomposition> parts;
  std::unordered_map<uint64_t, char32_t> whole;
  std::unordered_map<char32_t, uint8_t> combining;

  Tables() {
    for (const Decomposition& d : kCompositions) {
      parts[d.whole] = d;
      whole[key(d.first, d.second)] = d.whole;
    }
    for (const Decomposition& d : kOneWay) parts[d.whole] = d;
    for (const CombiningRun& r : kCombining) {
      for (char32_t c = r.first; c <= r.last; ++c) combining[c] = r.combining_class;
    }
  }
  static uint64_t key(char32_t a, char32_t b) { return uint64_t{a} << 32 | b; }

  uint8_t combining_class(char32_t c) const {
    const auto found = combining.find(c);
    return found == combining.end() ? 0 : found->second;
  }

  void decompose(char32_t c, std::vector<char32_t>& out) const {
    if (c >= kSyllable && c < kSyllable + kSyllables) {
      const char32_t s = c - kSyllable;
      out.push_back(kL + s / (kVCount * kTCount));
      out.push_back(kV + s % (kVCount * kTCount) / kTCount);
      if (s % kTCount) out.push_back(kT + s % kTCount);
      return;
    }
    const auto found = parts.find(c);
    if (found == parts.end()) return out.push_back(c);
    decompose(found->second.first, out);
    if (found->second.second) decompose(found->second.second, out);
  }

  // 0: the two do not compose.
  char32_t compose(char32_t a, char32_t b) const {
    if (a >= kL && a < kL + kLCount && b >= kV && b < kV + kVCount) return kSyllable + ((a - kL) * kVCount + (b - kV)) * kTCount;
    if (a >= kSyllable && a < kSyllable + kSyllables && (a - kSyllable) % kTCount == 0 && b > kT && b < kT + kTCount)
      return a + (b - kT);
    const auto found = whole.find(key(a, b));
    return found == whole.end() ? 0 : found->second;
  }
};

}  // namespace

std::string nfc(std::string_view utf8, std::vector<uint32_t>* origins) {
  // Text below U+0300 (bytes up to CB BF) does not change, and most text is.
  if (std::all_of(utf8.begin(), utf8.end(), [](char c) { return uint8_t(c) < 0xCC; })) return std::string(utf8);

  static const Tables tables;
  std::vector<char32_t> text;
  std::vector<uint32_t> from;  // the origin of each code point
  for (size_t at = 0; at < utf8.size();) {
    const CodePoint c = read_code_point(utf8, at);
    tables.decompose(c.value, text);
    from.resize(text.size(), origins ? (*origins)[at] : 0);
    at += c.bytes;
  }

  std::vector<uint8_t> classes(text.size());
  for (size_t i = 0; i < text.size(); ++i) classes[i] = tables.combining_class(text[i]);
  std::vector<std::tuple<uint8_t, char32_t, uint32_t>> marks;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && classes[end] != 0) ++end;
    if (end - i > 1) {
      marks.clear();
      for (size_t k = i; k < end; ++k) marks.emplace_back(classes[k], text[k], from[k]);
      std::stable_sort(marks.begin(), marks.end(), [](const auto& a, const auto& b) { return std::get<0>(a) < std::get<0>(b); });
      for (size_t k = i; k < end; ++k) std::tie(classes[k], text[k], from[k]) = marks[k - i];
    }
    i = end + 1;
  }

  // A character composes with the last starter unless something between them blocks it: a starter or an equal or higher class.
  std::vector<char32_t> composed;
  std::ptrdiff_t starter = -1;
  int last_class = 0;  // of the last character kept after the starter
  for (size_t i = 0; i < text.size(); ++i) {
    if (starter >= 0) {
      const bool adjacent = composed.size() == size_t(starter) + 1;
      const bool free = adjacent || (last_class != 0 && last_class < classes[i]);
      const char32_t both = free ? tables.compose(composed[size_t(starter)], text[i]) : 0;
      if (both) {
        composed[size_t(starter)] = both;
        continue;
      }
    }
    if (classes[i] == 0) starter = std::ptrdiff_t(composed.size());
    last_class = classes[i];
    from[composed.size()] = from[i];
    composed.push_back(text[i]);
  }

  std::string out;
  out.reserve(utf8.size());
  if (origins) origins->clear();
  for (size_t i = 0; i < composed.size(); ++i) {
    append_utf8(out, composed[i]);
    if (origins) origins->resize(out.size(), from[i]);
  }
  return out;
}

}  // namespace tll
