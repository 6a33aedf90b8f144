// Covers: tokenizer/tiktoken.cpp tokenizer/bpe.cpp
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_tokenizer.h"

namespace tll::fuzz {

// Lines are added, removed and changed, and then most often numbered again.
std::string mutated(const std::string& bytes, Random& random) {
  if (random.below(4) == 0) return mutated_bytes(bytes);
  std::vector<std::string> lines;
  for (size_t at = 0; at < bytes.size(); at = std::min(bytes.find('\n', at), bytes.size() - 1) + 1)
    lines.push_back(bytes.substr(at, bytes.find('\n', at) - at));
  if (lines.empty()) return mutated_bytes(bytes);
  for (size_t i = 0; i <= random.below(3); ++i) {
    const size_t at = random.below(4) || lines.size() < 257 ? random.below(lines.size()) : 256 + random.below(lines.size() - 256);
    if (random.below(3) == 0)
      lines.insert(lines.begin() + std::ptrdiff_t(random.below(lines.size() + 1)), mutated_bytes(lines[at]));
    else if (random.below(8) == 0 && lines.size() > 1)
      lines.erase(lines.begin() + std::ptrdiff_t(at));
    else if (random.below(2))
      std::swap(lines[at], lines[random.below(lines.size())]);
    else
      lines[at] = mutated_bytes(lines[at]);
  }
  const bool numbers = random.below(4) != 0;
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i)
    out += (numbers ? lines[i].substr(0, lines[i].find(' ')) + " " + std::to_string(i) : lines[i]) + "\n";
  return out;
}

void read(std::string_view bytes) { load_and_use("tokenizer.model", bytes); }

}  // namespace tll::fuzz
