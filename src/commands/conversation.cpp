#include "src/commands/conversation.h"

#include "src/base/check.h"

namespace tll {

TemplateOptions conversation_template(const Options& options, const std::string& model_template, const Tokenizer& tokenizer) {
  const PrepareOptions prepare{.template_name = options.chat_template,
                               .model_template = model_template,
                               .system = options.system,
                               .template_date = options.template_date,
                               .parse_special = options.parse_special};
  const TemplateName name = choose_template(DataFormat::kMessages, prepare).name;
  const std::string note = note_of_missing_marks(name, tokenizer);
  if (!note.empty()) print_notes({note});
  return template_options(name, prepare, &tokenizer);
}

RenderedConversation render_conversation(const std::vector<Message>& messages, const std::string& where,
                                         const TemplateOptions& form, const Tokenizer& tokenizer, TrainOn train_on,
                                         bool answer_follows) try {
  const std::vector<Span> spans = render(messages, form, answer_follows);
  RenderedConversation out;
  for (const Span& span : spans) out.text += span.text;
  out.tokens =
      is_chat_template(form.name) ? tokenize_as_one_text(tokenizer, spans, train_on) : tokenize(&tokenizer, spans, train_on);
  return out;
} catch (const Error& e) {
  throw Error(e.exit_code, fmt::format("{}: {}", where, e.what()));
}

}  // namespace tll
