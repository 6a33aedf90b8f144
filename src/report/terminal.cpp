#include "src/report/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "src/base/spelling.h"

namespace tll {
namespace {

constexpr size_t kUsualColumns = 80;

size_t columns_of(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

bool takes_escapes(int output) {
  const char *term = std::getenv("TERM"), *no_color = std::getenv("NO_COLOR");
  if (term == nullptr || *term == '\0' || std::string_view(term) == "dumb") return false;
  return (no_color == nullptr || *no_color == '\0') && isatty(output) == 1;
}

bool takes_braille(int output) {
  const char* term = std::getenv("TERM");
  if (term == nullptr || *term == '\0' || std::string_view(term) == "dumb" || std::string_view(term) == "linux") return false;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {  // the first that is set counts
    const char* locale = std::getenv(name);
    if (locale == nullptr || *locale == '\0') continue;
    const std::string set = lower_case(locale);
    return isatty(output) == 1 && (set.find("utf-8") != std::string::npos || set.find("utf8") != std::string::npos);
  }
  return false;
}

size_t terminal_columns(int output) {
  if (isatty(output) != 1) return 0;
  winsize window{};
  return ioctl(output, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : kUsualColumns;
}

std::string wrapped(std::string_view text, size_t width, size_t indent, size_t begin) {
  if (width == 0) return std::string(text);
  indent = std::min(indent, width / 2);
  const std::string next_line = '\n' + std::string(indent, ' ');
  std::string out;
  size_t used = begin;
  bool empty = true;  // no word is on the line yet
  while (!text.empty()) {
    std::string_view word = text.substr(0, text.find_first_of(" \n"));
    const size_t room = width - indent;
    const size_t comma = columns_of(word) > room ? word.rfind(',', room - 1) : std::string_view::npos;
    const bool cut = comma != std::string_view::npos && comma + 1 < word.size();
    if (cut) word = word.substr(0, comma + 1);
    const char end = cut || word.size() == text.size() ? '\0' : text[word.size()];
    text.remove_prefix(word.size() + (end != '\0'));
    if (!empty && used + 1 + columns_of(word) > width) {
      out += next_line;
      used = indent, empty = true;
    }
    if (!empty) out += ' ', used++;
    out += word;
    used += columns_of(word), empty = false;
    if (cut) used = width;
    if (end == '\n') {
      out += next_line;
      used = indent, empty = true;
    }
  }
  return out;
}

}  // namespace tll
