// Covers: data/token_rows.cpp data/prepare.cpp
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_dataset.h"

namespace tll::fuzz {

constexpr const char* kWords[] = {"input_ids",
                                  "labels",
                                  "attention_mask",
                                  "completion_mask",
                                  "assistant_masks",
                                  "position_ids",
                                  "seq_lengths",
                                  "token_type_ids",
                                  "special_tokens_mask",
                                  "length",
                                  "text",
                                  "prompt",
                                  "completion",
                                  "id",
                                  "context",
                                  "question",
                                  "answers",
                                  "answer_start",
                                  "title"};

// One line is changed, removed or repeated.
std::string mutated(const std::string& bytes, Random& random) {
  if (random.below(6) == 0) return mutated_bytes(bytes);
  std::vector<std::string> lines;
  for (size_t at = 0; at < bytes.size(); at = std::min(bytes.find('\n', at), bytes.size() - 1) + 1)
    lines.push_back(bytes.substr(at, bytes.find('\n', at) - at));
  if (lines.empty()) return mutated_bytes(bytes);
  std::string& line = lines[random.below(lines.size())];
  const std::string before = line;
  line = random.below(8) ? mutated_json(line, random, kWords) : "";
  if (random.below(8) == 0) lines.push_back(before);
  std::string out;
  for (const std::string& l : lines) out += l + "\n";
  return out;
}

void read(std::string_view bytes) {
  static const PrepareOptions kCut = {.max_tokens = 16, .valid_split = 0.3, .vocab_size = 300};
  static const PrepareOptions kKept = {.max_tokens = 8, .long_samples = LongSamples::kDrop, .allow_empty = true};
  const bool cut = bytes.size() % 2;
  load_and_use("data.jsonl", bytes, cut ? &fake_tokenizer() : nullptr, cut ? kCut : kKept);
}

}  // namespace tll::fuzz
