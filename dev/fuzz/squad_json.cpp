// Covers: data/squad.cpp data/prepare.cpp data/tokenize.cpp data/dataset.cpp
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_dataset.h"

namespace tll::fuzz {

constexpr const char* kWords[] = {
    "data",     "version",     "title",        "paragraphs",    "context",           "qas",  "id",      "question",
    "answers",  "text",        "answer_start", "is_impossible", "plausible_answers", "v2.0", "hello a", "no answer",
    "messages", "instruction", "conversations"};

std::string mutated(const std::string& bytes, Random& random) { return mutated_json(bytes, random, kWords); }

void read(std::string_view bytes) {
  static const PrepareOptions kCut = {.max_tokens = 32, .valid_split = 0.3};
  static const PrepareOptions kKept = {
      .max_tokens = 16, .long_samples = LongSamples::kDrop, .unanswerable = Unanswerable::kTrain, .allow_empty = true};
  load_and_use("data.json", bytes, &fake_tokenizer(), bytes.size() % 2 ? kCut : kKept);
}

}  // namespace tll::fuzz
