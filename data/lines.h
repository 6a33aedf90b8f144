// Files of lines, as people's editors and other programs leave them.
#pragma once

#include <cstdint>
#include <string_view>

namespace tll {

inline std::string_view without_byte_order_mark(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return text;
}

// Calls visit(line_number, line) for each line that is not blank, without a byte-order mark and the CR of CRLF.
template <class Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  text = without_byte_order_mark(text);
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) visit(number, line);
  }
}

}  // namespace tll
