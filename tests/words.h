// Command lines in tests.
#pragma once

#include <sstream>
#include <string>
#include <vector>

namespace tll {

// The words of a line, split at spaces.
inline std::vector<std::string> words(const std::string& line) {
  std::vector<std::string> out;
  std::istringstream in(line);
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

}  // namespace tll
