// UTF-8 to code points and back.
#pragma once

#include <string>
#include <string_view>

namespace tll {

// A byte outside a valid sequence (truncated, overlong, surrogate, above U+10FFFF) becomes U+FFFD; if `valid` is given, it says
// whether there was none.
std::u32string decode_utf8(std::string_view s, bool* valid = nullptr);
void append_utf8(std::string& out, char32_t c);

inline bool is_utf8(std::string_view s) {
  bool valid;
  decode_utf8(s, &valid);
  return valid;
}

}  // namespace tll
