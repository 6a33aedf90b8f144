// Random damage to a file, for tests that a reader holds against any bytes.
#pragma once

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace tll {

using Edit = std::function<void(std::string& bytes, size_t at)>;

// The bytes after one to `most` of these edits, each at a place before `end`.
inline std::string mutated(std::string bytes, std::mt19937& random, unsigned most, const std::vector<Edit>& edits,
                           size_t end = std::string::npos) {
  for (unsigned edit = 0; !bytes.empty() && edit <= random() % most; edit++) {
    const size_t at = random() % std::min(end, bytes.size());
    edits[random() % edits.size()](bytes, at);
  }
  return bytes;
}

}  // namespace tll
