// generate: a prompt is continued.
#include "data/tokenize.h"
#include "src/commands/commands.h"
#include "src/commands/session.h"
#include "src/options/resolve.h"

namespace tll {

int command_generate(Options& options) {
  return with_resolved_type(options, [&](auto type) {
    using Float = decltype(type);
    const ModelSource source = open_model(options, TokenizerNeed::required);
    const std::vector<int32_t> prompt = tokenize_prompt(*source.tokenizer, options.prompt);
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
    const SamplingOptions sampling{options.temperature, static_cast<uint64_t>(options.seed), source.eos,
                                   source.tokenizer->vocab_size()};
    StreamDecoder stream(*source.tokenizer);
    const auto show = [&](size_t, int32_t token) {
      const std::string text = stream.push(token);
      if (!options.json) std::fwrite(text.data(), 1, text.size(), stdout), std::fflush(stdout);
      return true;
    };
    const auto ids = session.generator->generate(session.device, {&request, 1}, sampling, show);
    if (options.json)
      fmt::print("{}\n", Json{{"ids", ids[0]}, {"text", source.tokenizer->decode(ids[0])}}.dump());
    else
      fmt::print("{}\n", stream.finish());
    print_profile(session.device, session.ceilings);
    return kExitDone;
  });
}

}  // namespace tll
