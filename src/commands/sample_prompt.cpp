#include "src/commands/sample_prompt.h"

#include <algorithm>

#include "data/template.h"
#include "data/tokenize.h"
#include "src/base/check.h"
#include "src/base/units.h"
#include "src/commands/conversation.h"

namespace tll {
namespace {

// The chat template that the prompt is put in; nothing: it is continued as it is.
std::optional<TemplateName> chat_template(const Options& options, const ModelSource& source, const Dataset& data) {
  std::optional<TemplateName> name;
  const std::vector<std::string_view>& names = template_names();
  if (options.chat_template != TemplateName::kAuto)
    name = options.chat_template;
  else if (data.template_name.empty())
    name = recognise_template(source.chat_template);
  else if (const auto found = std::find(names.begin(), names.end(), data.template_name); found != names.end())
    name = static_cast<TemplateName>(found - names.begin());
  return name && is_chat_template(*name) ? name : std::nullopt;
}

}  // namespace

SamplePrompt sample_prompt(const Options& options, const ModelSource& source, const Dataset& data, int64_t capacity) {
  constexpr int64_t kMostTokens = 64;
  if (!source.tokenizer) fail(kExitUsage, "--sample-prompt needs a tokenizer, and {} has none", source.directory.string());
  SamplePrompt prompt;
  if (const auto name = chat_template(options, source, data)) {
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
