#include "src/commands/whole_text.h"

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
  Phase phase("reading text", facts.bytes);
  while (auto block = source->next()) {
    for (Example& example : source->parse(*block, findings)) {
      if (!text.empty()) text += "\n\n";
      text += example.text;
      if (static_cast<int64_t>(text.size()) > kMostBytes)
        bad_file("{}: --stride holds a text in memory as a whole, and takes {} of it at most; give a part of it",
                 options.data.string(), Bytes{kMostBytes});
    }
    phase.advance(static_cast<int64_t>(block->text.size()));
  }
  std::vector<int32_t> tokens = tokenizer.encode_with_special(text);
  if (tokens.size() < 2)
    bad_file("{}: the text has {}, and two are needed", options.data.string(), Counted{int64_t(tokens.size()), "token"});
  tokenizer.check_model_has(tokens);
  return tokens;
}

}  // namespace tll
