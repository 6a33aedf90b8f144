// Words compared as people type them.
#pragma once

#include <string>
#include <string_view>

namespace tll {

// The smallest number of letters to put in, take out, replace, or swap with the next, that turns `a` into `b` (optimal string
// alignment). Time and memory are proportional to the product of the lengths.
size_t edit_distance(std::string_view a, std::string_view b);

// A ... Z become a ... z; other bytes stay.
std::string lower_case(std::string_view text);

}  // namespace tll
