// From a file to a Dataset. A squad.bin is opened. Of any other file the format reads the samples, of which a Dataset is built.
#include "data/lines.h"
#include "data/squad.h"
#include "data/token_rows.h"
#include "src/base/check.h"
#include "src/base/file.h"

namespace tll {
namespace {

void check_options(const PrepareOptions& options) {
  if (options.max_tokens < 2) fail(kExitUsage, "--seq-len must be at least 2, not {}", options.max_tokens);
  if (!(options.valid_split >= 0 && options.valid_split < 1)) {
    fail(kExitUsage, "--valid-split must be at least 0 and below 1, not {}", options.valid_split);
  }
}

Dataset open_prepared(std::string_view bytes, const std::string& file, const Tokenizer* tokenizer,
                      const PrepareOptions& options) {
  Dataset data = parse_dataset(bytes, file);
  if (tokenizer && !data.tokenizer_fingerprint.empty() && data.tokenizer_fingerprint != tokenizer->fingerprint()) {
    bad_file("{}: prepared with another tokenizer ({}) than the model's ({}); run `prepare` again with this --model", file,
             data.tokenizer_fingerprint, tokenizer->fingerprint());
  }
  if (options.vocab_size > 0 && data.vocab_size > options.vocab_size) {
    bad_file("{}: holds token ids below {}, and the model has {}; run `prepare` again with this --model", file, data.vocab_size,
             options.vocab_size);
  }
  for (const Document& d : data.documents) {
    if (d.length > options.max_tokens && !options.any_length) {
      bad_file(
          "{}: document {} has {} tokens, more than --seq-len {}; give --seq-len {} or more, or run `prepare` again with this "
          "one",
          file, &d - data.documents.data(), d.length, options.max_tokens, data.max_tokens);
    }
  }
  return data;
}

// The object that `line` is, or null. A format's own reader says what is wrong with a line that is no JSON.
Json parse_object(std::string_view line, const std::string& file) {
  try {
    return line.starts_with('{') ? parse_json(line, file) : nullptr;
  } catch (const Error&) {
    return nullptr;
  }
}

// The first line that is not blank tells the format. A row with the fields of a format begins JSON lines. Anything else is SQuAD
// JSON, unless the file's name says that it holds lines.
SampleSet read_samples(std::string_view text, const std::filesystem::path& path, const PrepareOptions& options) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::string file = path.string();
  std::string_view rest = without_byte_order_mark(text);
  rest.remove_prefix(std::min(rest.find_first_not_of(kBlanks), rest.size()));
  const std::string_view line = rest.substr(0, rest.find('\n'));
  const Json first = parse_object(line, file);
  if (is_squad_row(first)) return squad_samples(parse_squad_lines(text, file), options);
  if (is_token_row(first) || path.extension() == ".jsonl") return read_token_rows(text, file, options);
  const bool one_line = first.is_object() && rest.find_first_not_of(kBlanks, line.size()) == std::string_view::npos;
  return squad_samples(one_line ? read_squad(first, file) : parse_squad_json(text, file), options);
}

}  // namespace

Dataset load_dataset(const std::filesystem::path& path, const Tokenizer* tokenizer, const PrepareOptions& options) {
  const std::string text = read_file(path), file = path.string();
  if (is_prepared(text)) return open_prepared(text, file, tokenizer, options);
  check_options(options);
  PrepareOptions known = options;
  if (known.vocab_size <= 0) known.vocab_size = tokenizer ? tokenizer->vocab_size() : 0;
  return build_dataset(read_samples(text, path, known), file, tokenizer, known);
}

}  // namespace tll
