#include "src/commands/sample_prompt.h"

#include <algorithm>

#include "data/tokenize.h"
#include "src/base/check.h"
#include "src/base/units.h"

namespace tll {

SamplePrompt sample_prompt(const Options& options, const ModelSource& source, const Dataset& data, int64_t capacity) {
  constexpr int64_t kMostTokens = 64;
  (void)data;
  if (!source.tokenizer) fail(kExitUsage, "--sample-prompt needs a tokenizer, and {} has none", source.directory.string());
  SamplePrompt prompt{tokenize_prompt(*source.tokenizer, options.sample_prompt)};
  const auto length = static_cast<int64_t>(prompt.ids.size());
  if (length >= capacity)
    fail(kExitUsage, "--sample-prompt has {}, and with what follows them there is room for {}; shorten it, or raise --seq-len",
         Counted{length, "token"}, capacity);
  prompt.max_new_tokens = static_cast<int>(std::min(kMostTokens, capacity - length));
  return prompt;
}

}  // namespace tll
