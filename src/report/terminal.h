// What a terminal shows: whether lines can be redrawn, how wide it is, and text broken to that width.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tll {

// Begins the terminal's line anew.
inline constexpr std::string_view kClearLine = "\r\x1b[K";

// Whether `output`, an open file, is a terminal that understands escape sequences and whose user wants them: TERM is set and not
// "dumb", and NO_COLOR (no-color.org) is not set.
bool takes_escapes(int output);

// Whether `output` is a terminal that shows Braille characters: the locale's character set is UTF-8, and TERM is set and neither
// "dumb" nor "linux", whose fonts lack them.
bool takes_braille(int output);

// Columns of the terminal; 0 if `output` is none, since lines of a file are as long as they are.
size_t terminal_columns(int output);

// Breaks the text between words into lines of at most `width` columns; a width of 0 breaks nothing. The first line begins at
// column `begin`, which is not written here. Every other one is indented to `indent`. A word that is too long for a line stays
// whole, unless it is a list with commas. A character is taken to be one column wide.
std::string wrapped(std::string_view text, size_t width, size_t indent, size_t begin);

}  // namespace tll
