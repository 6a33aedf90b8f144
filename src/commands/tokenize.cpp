// tokenize: lines of text to lines of token ids.
#include <unistd.h>

#include <iostream>
#include <optional>

#include "src/base/check.h"
#include "src/base/json.h"
#include "src/base/phase.h"
#include "src/commands/commands.h"
#include "src/commands/source.h"

namespace tll {

int command_tokenize(Options& options) {
  const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options);
  std::ios::sync_with_stdio(false);
  std::string line, out;
  // On a terminal the result itself shows how far it is. How many lines will come is not known.
  std::optional<Phase> phase;
  if (!isatty(STDOUT_FILENO)) phase.emplace("tokenising lines", 0);
  for (int64_t number = 1; std::getline(std::cin, line); number++) {
    const std::string where = fmt::format("standard input, line {}", number);
    const Json text = parse_json(line, where);
    if (!text.is_string()) bad_file("{}: expected a JSON string, found {}", where, text.type_name());
    const std::string& s = text.get_ref<const std::string&>();
    const std::vector<int32_t> ids = options.add_special ? tokenizer->encode_with_special(s) : tokenizer->encode(s);
    tokenizer->check_model_has(ids);
    out = "[";
    for (size_t i = 0; i < ids.size(); i++) fmt::format_to(std::back_inserter(out), "{}{}", i ? "," : "", ids[i]);
    out += "]\n";
    std::fwrite(out.data(), 1, out.size(), stdout);
    if (phase) phase->advance();
  }
  return kExitDone;
}

}  // namespace tll
