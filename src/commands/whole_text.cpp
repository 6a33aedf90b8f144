#include "src/commands/whole_text.h"

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/units.h"

namespace tll {

std::vector<int32_t> whole_text_tokens(const Options& options, const Tokenizer& tokenizer, const PrepareOptions& prepare) {
  constexpr int64_t kMostBytes = int64_t{1} << 30;
  (void)prepare;
  const std::string text = read_file(options.data);
  if (static_cast<int64_t>(text.size()) > kMostBytes)
    bad_file("{}: --stride holds a text in memory as a whole, and takes {} of it at most; give a part of it", options.data.string(),
             Bytes{kMostBytes});
  std::vector<int32_t> tokens = tokenizer.encode_with_special(text);
  if (tokens.size() < 2)
    bad_file("{}: the text has {}, and two are needed", options.data.string(), Counted{int64_t(tokens.size()), "token"});
  tokenizer.check_model_has(tokens);
  return tokens;
}

}  // namespace tll
