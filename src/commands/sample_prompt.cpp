#include "src/commands/sample_prompt.h"

#include <algorithm>

#include "data/template.h"
#include "data/tokenize.h"
#include "src/base/check.h"
#include "src/base/units.h"
#include "src/commands/conversation.h"

namespace tll {

SamplePrompt sample_prompt(const Options& options, const ModelSource& source, const Dataset& data, int64_t capacity) {
  constexpr int64_t kMostTokens = 64;
  if (!source.tokenizer) fail(kExitUsage, "--sample-prompt needs a tokenizer, and {} has none", source.directory.string());
  SamplePrompt prompt;
  // In another template, as of instructions, the prompt is continued as it is.
  if (const auto name = template_in_force(options, source, data); name && is_chat_template(*name)) {
    Options chosen = options;
    chosen.chat_template = *name;
    const TemplateOptions form = conversation_template(chosen, source.chat_template, *source.tokenizer);
    const std::vector<Message> question = {{.role = "user", .content = options.sample_prompt}};
    prompt.ids = render_conversation(question, "--sample-prompt", form, *source.tokenizer, options.train_on, true).tokens.ids;
  } else {
    prompt.ids = tokenize_prompt(*source.tokenizer, options.sample_prompt);
  }
  const auto length = static_cast<int64_t>(prompt.ids.size());
  if (length == 0 || length >= capacity)
    fail(kExitUsage, "--sample-prompt has {}, and with what follows them there is room for {}; raise --seq-len, or give another",
         Counted{length, "token"}, capacity);
  prompt.max_new_tokens = static_cast<int>(std::min(kMostTokens, capacity - length));
  return prompt;
}

}  // namespace tll
