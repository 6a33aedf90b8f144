// Chat templates and forms of instructions, written out as code: from an example to spans of text.
//
// The text, ids and mask are those of transformers' apply_chat_template with the model's own template. Source: the
// chat_template of the models' tokenizer_config.json; each template's comment names it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_options.h"
#include "data/example.h"
#include "data/sample.h"
#include "src/base/text_files.h"

namespace tll {

// The template whose code this text of a chat_template is; nothing if it is not known. Two texts that differ in comments, in
// quotes or in spaces that do not show are one template.
std::optional<TemplateName> recognise_template(std::string_view jinja);

// The model's chat_template as its files have it: chat_template.jinja, or the key of tokenizer_config.json (of a list the entry
// "default"). Empty: it has none. What is no text, or longer than a template can be, is a text that no template is known by, so
// that only who needs the template is refused (choose_template). Error (kExitBadFile) for a tokenizer_config.json that is no
// JSON.
std::string read_chat_template(const TextFiles& files);

// Which template examples of a format are given, and why, for people. Error (kExitUsage) where the model's chat_template is not
// known, or there is none and the format needs one: it names --template and its words.
struct TemplateChoice {
  TemplateName name = TemplateName::kNone;
  std::string why;  // "the model's own chat_template", "--template", "questions", ...
};
TemplateChoice choose_template(DataFormat format, const PrepareOptions& options);

struct TemplateOptions {
  TemplateName name = TemplateName::kNone;  // never kAuto
  std::string system = {};                  // of conversations that have none
  std::string date = "26 Jul 2024";
  std::string bos = {}, eos = {};  // as the tokenizer spells them; empty: as the template's own models do
  Unanswerable unanswerable = Unanswerable::kSkip;
  bool parse_special = false;
};
// `tokenizer` may be null.
TemplateOptions template_options(TemplateName name, const PrepareOptions& options, const Tokenizer* tokenizer);

// Whether the template writes BOS and EOS, and its text is tokenised as one.
bool is_chat_template(TemplateName name);
// A note if the tokenizer has no token for a mark of the template, which is text then; "" if it has.
std::string note_of_missing_marks(TemplateName name, const Tokenizer& tokenizer);
// Marks by which an answer ends, as special tokens of the template's models; generation ends at them too.
std::vector<std::string_view> end_marks(TemplateName name);
// Those of all templates, and others that models are trained with.
std::vector<std::string_view> all_end_marks();

// The spans of a conversation. With `answer_follows` the text ends where an assistant's turn begins (apply_chat_template's
// add_generation_prompt). Trained is an assistant's turn with its end mark and the line's end behind it, as in TRL's training
// templates. Error (kExitBadFile), without a place, for a conversation that the template does not take: roles that
// do not alternate, a role that it does not know, no message.
std::vector<Span> render(const std::vector<Message>& messages, const TemplateOptions& options, bool answer_follows);

// An example as a sample: spans, gold answers, keys of the split. Error (kExitBadFile), with the place, as render().
Sample make_sample(Example example, const TemplateOptions& options);

}  // namespace tll
