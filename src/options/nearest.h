// Guesses what a mistyped word was meant to be.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tll {

// The word nearest to what was typed, whatever its case: at most a third of the letters are put in, taken out, replaced, or
// swapped with the next. If none is, the only word that begins with what was typed (three letters or more). Else nothing.
std::string_view nearest(std::string_view typed, const std::vector<std::string_view>& words);

// "; did you mean WORD?", or nothing if there is no guess.
std::string did_you_mean(std::string_view guess);

}  // namespace tll
