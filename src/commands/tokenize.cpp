// tokenize: lines of text, or of conversations, to lines of token ids.
#include <fmt/ranges.h>
#include <unistd.h>

#include <iostream>
#include <optional>

#include "data/example_reader.h"
#include "src/base/check.h"
#include "src/base/json.h"
#include "src/base/phase.h"
#include "src/commands/commands.h"
#include "src/commands/conversation.h"
#include "src/commands/source.h"

namespace tll {
namespace {

std::string id_list(const std::vector<int32_t>& ids) { return fmt::format("[{}]", fmt::join(ids, ",")); }

std::string ids_of(const Json& text, const std::string& where, const Tokenizer& tokenizer, const Options& options) {
  if (!text.is_string())
    bad_file("{}: expected a JSON string, found {}{}", where, text.type_name(),
             text.is_array() ? "; a conversation is taken with --chat" : "");
  const std::string& s = text.get_ref<const std::string&>();
  const TextPart part{s, true};
  std::vector<int32_t> ids = options.parse_special ? tokenizer.encode_parts({&part, 1}).ids : tokenizer.encode(s);
  if (options.add_special) ids = tokenizer.with_special(std::move(ids));
  tokenizer.check_model_has(ids);
  return id_list(ids);
}

// The mask tells the trained tokens.
std::string conversation_line(const Json& list, const std::string& where, const TemplateOptions& form, const Tokenizer& tokenizer,
                              TrainOn train_on, SourceFindings& findings) {
  const std::vector<Message> messages = read_messages(list, where, findings);
  const RenderedConversation r = render_conversation(messages, where, form, tokenizer, train_on, false);
  std::vector<int32_t> mask;
  for (const int32_t label : r.tokens.labels) mask.push_back(label != kNotTrained);
  return fmt::format(R"({{"text":{},"ids":{},"mask":{}}})", json_text(r.text), id_list(r.tokens.ids), id_list(mask));
}

}  // namespace

int command_tokenize(Options& options) {
  const TokenizerSource source = open_tokenizer(options);
  std::optional<TemplateOptions> form;
  if (options.chat) form = conversation_template(options, source.chat_template, *source.tokenizer);
  std::ios::sync_with_stdio(false);
  std::string line;
  SourceFindings findings;
  // On a terminal the result itself shows how far it is. How many lines will come is not known.
  std::optional<Phase> phase;
  if (!isatty(STDOUT_FILENO)) phase.emplace("tokenising lines", 0);
  for (int64_t number = 1; std::getline(std::cin, line); number++) {
    const std::string where = fmt::format("standard input, line {}", number);
    const Json value = parse_json(line, where);
    const std::string out = form ? conversation_line(value, where, *form, *source.tokenizer, options.train_on, findings)
                                 : ids_of(value, where, *source.tokenizer, options);
    fmt::print("{}\n", out);
    if (phase) phase->advance();
  }
  phase.reset();
  if (!options.quiet) print_notes(findings.lines("standard input"));
  return kExitDone;
}

}  // namespace tll
