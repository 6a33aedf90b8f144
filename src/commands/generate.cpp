// generate: a prompt is continued, or a conversation answered.
#include <iostream>
#include <iterator>

#include "data/example_reader.h"
#include "data/tokenize.h"
#include "src/base/file.h"
#include "src/commands/commands.h"
#include "src/commands/conversation.h"
#include "src/commands/session.h"
#include "src/commands/stop_text.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

std::string standard_input() {
  std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool answers_chat(const Options& options) { return options.chat || !options.messages.empty(); }

// What generation starts from: the prompt as it is, or a conversation in the model's chat template.
std::vector<int32_t> prompt_tokens(const Options& options, const ModelSource& source) {
  const bool chat = answers_chat(options);
  const std::string prompt = options.messages.empty() && options.prompt == "-" ? standard_input() : options.prompt;
  if (!chat) {
    if (!options.quiet && options.adapter.empty() && !source.chat_template.empty())
      fmt::print(stderr,
                 "note: {} has a chat template, and the prompt is continued as plain text: with --chat an instruct model answers "
                 "it\n",
                 source.directory.string());
    return tokenize_prompt(*source.tokenizer, prompt);
  }
  const TemplateOptions form = conversation_template(options, source.chat_template, *source.tokenizer);
  std::string where = "--prompt";
  std::vector<Message> messages = {{"user", prompt}};
  if (!options.messages.empty()) {
    where = options.messages.string();
    SourceFindings findings;
    messages = read_messages(parse_json(read_file(options.messages), where), where, findings);
    if (!options.quiet) print_notes(findings.lines(where));
    if (messages.back().role == "assistant")
      bad_file("{}: the last message is an assistant's, and there is nothing to answer", where);
  }
  return render_conversation(messages, where, form, *source.tokenizer, TrainOn::kAnswers, true).tokens.ids;
}

}  // namespace

int command_generate(Options& options) {
  if (!options.given("prompt") && options.messages.empty())
    fail(kExitUsage,
         "give the text to continue with --prompt TEXT (- reads it), or a conversation to answer with --messages FILE");
  if (options.given("prompt") && !options.messages.empty())
    fail(kExitUsage, "--prompt and --messages are two things to start from; give one of them");
  for (const char* name : {"system", "template", "template-date"})
    if (options.given(name) && !answers_chat(options))
      fail(kExitUsage, "--{} is of a chat template: give it with --chat or --messages", name);
  for (const char* name : {"top-p", "top-k", "min-p"})
    if (options.given(name) && options.temperature == 0 && !options.quiet)
      fmt::print(stderr, "note: --{} changes nothing at --temperature 0, which takes the most likely token\n", name);
  StopText stop(stop_texts(options.stop));
  return with_resolved_type(options, [&](auto type) {
    using Float = decltype(type);
    const ModelSource source = open_model(options, TokenizerNeed::required);
    const std::vector<int32_t> prompt = prompt_tokens(options, source);
    if (prompt.empty()) fail(kExitUsage, "--prompt is empty, and this model has no token that begins a text");
    const int64_t positions = static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
    if (positions > source.config.max_positions)
      fail(kExitUsage, "the prompt has {} tokens and --max-new-tokens is {}, but the model has {} positions", prompt.size(),
           options.max_new_tokens, source.config.max_positions);
    const AdapterSource adapter = open_named_adapter(options, source.config);
    const auto needs_of = [length = static_cast<int64_t>(prompt.size())](const Options& o) {
      return SessionNeeds{.sequences = 1, .tokens = length, .positions = length + o.max_new_tokens};
    };
    Session<Float> session(options, source.config, adapter.targets, needs_of);
    session.start(source, adapter);

    const GenerateRequest request{prompt, static_cast<int>(options.max_new_tokens)};
    const SamplingOptions sampling{.temperature = options.temperature,
                                   .seed = static_cast<uint64_t>(options.seed),
                                   .eos = source.eos,
                                   .vocab_size = source.tokenizer->vocab_size(),
                                   .top_k = options.top_k,
                                   .top_p = options.top_p,
                                   .min_p = options.min_p,
                                   .repeat_penalty = options.repeat_penalty};
    StreamDecoder stream(*source.tokenizer);
    std::string shown;
    const auto show = [&](const std::string& text) {
      shown += text;
      if (!options.json) std::fwrite(text.data(), 1, text.size(), stdout), std::fflush(stdout);
    };
    const auto take = [&](size_t, int32_t token) {
      show(stop.push(stream.push(token)));
      return !stop.found();
    };
    const auto ids = session.generator->generate(session.device, {&request, 1}, sampling, take);
    show(stop.push(stream.finish()));
    show(stop.finish());
    if (options.json)
      fmt::print("{}\n", json_text({{"ids", ids[0]}, {"text", shown}}));
    else
      fmt::print("\n");
    if (!options.quiet && ids[0].empty())
      fmt::print(stderr, "note: the model ended the text at once: its first token was one that ends a text\n");
    print_profile(session.device, session.ceilings);
    return kExitDone;
  });
}

}  // namespace tll
