// Text inside HTML and SVG.
#pragma once

#include <string>
#include <string_view>

namespace tll {

// The text as content, or as the value of an attribute in quotes: nothing in it is markup. Control characters that XML does not
// allow, and bytes that are not UTF-8, become U+FFFD. Characters that turn the direction of what follows do too, since untrusted
// text could make what stands around it read as something else.
std::string markup_escaped(std::string_view text);

}  // namespace tll
