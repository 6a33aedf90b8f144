// Conversations on the command line, in the model's chat template.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/example.h"
#include "data/template.h"
#include "data/tokenize.h"
#include "src/commands/source.h"

namespace tll {

// The template of --template or of the model, with the other options of templates. Error (kExitUsage) as choose_template().
TemplateOptions conversation_template(const Options& options, const std::string& model_template, const Tokenizer& tokenizer);

// A conversation as text and tokens. With `answer_follows` they end where the answer begins. `where` is its place in messages.
// Error (kExitBadFile) as render().
struct RenderedConversation {
  std::string text;
  Tokens tokens;
};
RenderedConversation render_conversation(const std::vector<Message>& messages, const std::string& where,
                                         const TemplateOptions& form, const Tokenizer& tokenizer, TrainOn train_on,
                                         bool answer_follows);

}  // namespace tll
