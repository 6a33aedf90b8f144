// --sample-prompt: a text that is continued greedily at every evaluation of a run, to see what the model has learned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "src/commands/source.h"

namespace tll {

struct SamplePrompt {
  std::vector<int32_t> ids;
  int max_new_tokens = 0;
};

// With a chat template the text is a user's turn: that of the data, or of the model where the data has none. Error (kExitUsage)
// if there is no tokenizer, or no room for the prompt and a token more in `capacity`.
SamplePrompt sample_prompt(const Options& options, const ModelSource& source, const Dataset& data, int64_t capacity);

}  // namespace tll
