// Pieces of PTX text.
#pragma once

#include <string>
#include <vector>

namespace ptx {

std::string trim(const std::string& text);
// Parts between separators that lie in no brackets.
std::vector<std::string> split(const std::string& text, char by);

// A variable or a parameter, such as ".param .align 8 .b8 name[40]".
struct Declaration {
  std::string name;
  size_t bytes = 0, alignment = 1;
};
Declaration declaration(const std::string& text);

}  // namespace ptx
