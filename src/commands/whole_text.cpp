#include "src/commands/whole_text.h"

#include <optional>

#include "data/data_source.h"
#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/base/units.h"

namespace tll {

std::vector<int32_t> whole_text_tokens(const Options& options, const Tokenizer& tokenizer, const PrepareOptions& prepare) {
  constexpr int64_t kMostBytes = int64_t{1} << 30;
  const auto source = DataSource::open(options.data, prepare, static_cast<int>(options.threads));
  const SourceFacts& facts = source->facts();
  if (facts.format != DataFormat::kText)
    fail(kExitUsage, "--stride takes the perplexity of text, and {} has other rows ({}); leave --stride out, or give text",
         options.data.string(), facts.decision);
  std::string text;
  SourceFindings findings;
  int64_t done = 0;
  Phase phase("reading text", facts.bytes);
  std::optional<std::string> file;  // of the last piece: a long plain text comes in pieces
  while (auto block = source->next()) {
    for (const Example& example : source->parse(*block, findings)) {
      const bool goes_on = block->plain && file == block->file;
      if (!goes_on && file) text += "\n\n";
      file = block->file;
      text += example.text;
      if (static_cast<int64_t>(text.size()) > kMostBytes)
        bad_file("{}: --stride holds a text in memory as a whole, and takes {} of it at most; give a part of it",
                 options.data.string(), Bytes{kMostBytes});
    }
    phase.advance(block->end_bytes - done);
    done = block->end_bytes;
  }
  const TextPart whole{.text = text, .markup = true};
  std::vector<int32_t> tokens = tokenizer.with_special(tokenizer.encode_parts({&whole, 1}).ids);
  if (tokens.size() < 2)
    bad_file("{}: the text has {}, and two are needed", options.data.string(), Counted{int64_t(tokens.size()), "token"});
  tokenizer.check_model_has(tokens);
  return tokens;
}

}  // namespace tll
