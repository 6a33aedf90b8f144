#include "data/foreign_file.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "src/base/check.h"
#include "src/base/file_kind.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

constexpr std::string_view kReadable = R"(SQuAD JSON, rows {"input_ids": [...], "labels": [...]} or a squad.bin)";
constexpr std::string_view kTokenise =
    R"(tokenise each sample and write it as a line {"input_ids": [...], "labels": [...]}, with the label -100 where nothing is trained)";
constexpr std::string_view kToLines = R"(convert it to JSON lines, such as with datasets' Dataset.to_json("data.jsonl"))";

[[noreturn]] void looks_like(const std::string& file, std::string_view what, std::string_view advice) {
  bad_file("{}: this looks like {}; expected {}; {}", file, what, kReadable, advice);
}

// The fields of the header of a table in text: names of letters, digits and _, with this character between them.
bool is_header(std::string_view line, char separator) {
  int fields = 1, length = 0;
  for (const char c : line) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '"';
    if (c == separator ? length == 0 : !letter) return false;
    fields += c == separator;
    length = c == separator ? 0 : length + 1;
  }
  return fields > 1 && length > 0;
}

// Rows that other programs read, by keys that all of them have.
struct Form {
  std::vector<const char*> keys;
  std::string_view what;
  std::string_view advice = kTokenise;
};
const std::vector<Form>& forms() {
  static const std::vector<Form> all = {
      {{"messages"}, "chat rows (messages)"},
      {{"conversations"}, "ShareGPT rows (conversations)"},
      {{"conversation"}, "chat rows (conversation)"},
      {{"chosen", "rejected"}, "preference pairs (chosen, rejected)"},
      {{"instruction", "response"}, "Dolly rows (instruction, context, response)"},
      {{"instruction", "output"}, "Alpaca rows (instruction, input, output)"},
      {{"prompt", "completion"}, "rows of prompt and completion"},
      {{"prompt", "response"}, "rows of prompt and response"},
      {{"input", "output"}, "rows of input and output"},
      {{"question", "answer"}, "rows of question and answer without a context"},
      {{"text"}, "rows of plain text (text)"},
      {{"model_type"}, "a model's config.json", "name the data by --data, and the model by --model"},
      {{"added_tokens"}, "a tokenizer.json", "name the data by --data, and the model by --model"},
      {{"peft_type"}, "an adapter_config.json", "name the data by --data, and the adapter by --adapter"},
      {{"train"}, "a data set of several splits in one object", "write each split to a file of its own"},
      {{"features"}, "a description of a data set, not its rows", kToLines},
  };
  return all;
}

}  // namespace

void refuse_no_file(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const std::string file = path.string();
  if (!fs::exists(path, failed)) {
    const auto names = std::distance(path.begin(), path.end());
    if (names != 2 || path.is_absolute() || path.has_extension() || fs::exists(path.parent_path(), failed)) return;
    looks_like(file, "the name of a data set on the hub, and no file",
               fmt::format(R"(write it to a file: datasets.load_dataset("{}", split="train").to_json("data.jsonl"))", file));
  }
  if (!fs::is_directory(path, failed)) return;
  int left = 1000;  // of a large directory the first files tell
  fs::recursive_directory_iterator entry(path, fs::directory_options::skip_permission_denied, failed);
  for (; entry != fs::recursive_directory_iterator() && left-- > 0; entry.increment(failed)) {
    const fs::path extension = entry->path().extension();
    if (extension == ".arrow") {
      looks_like(file, "a data set that datasets' save_to_disk wrote",
                 R"(write it as JSON lines: datasets.load_from_disk(DIRECTORY).to_json("data.jsonl"))");
    }
    if (extension == ".parquet") looks_like(file, "a directory of Parquet files", kToLines);
  }
  bad_file("{}: this is a directory; expected a file: {}; name the file in it", file, kReadable);
}

void refuse_no_json(std::string_view text, const std::string& file) {
  if (const std::string wrong = wrong_kind(file_kind(text), kReadable); !wrong.empty()) bad_file("{}: {}", file, wrong);
  if (const size_t at = find_invalid_utf8(text); at != std::string_view::npos) {
    const bool binary = text.substr(0, kFileKindBytes).find('\0') != std::string_view::npos;
    if (binary) looks_like(file, "a binary file", "name the file with the data");
    const auto line = 1 + std::count(text.begin(), text.begin() + std::ptrdiff_t(at), '\n');
    bad_file(
        "{}: line {}, byte {}: found the byte 0x{:02X}, which is not UTF-8; save the file as UTF-8, such as with `iconv -f "
        "WINDOWS-1252 -t UTF-8`",
        file, line, at, uint8_t(text[at]));
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) bad_file("{}: there is no sample in this file, only blanks", file);
  text.remove_prefix(begin);
  if (text.starts_with("{'") || text.starts_with("[{'")) {
    looks_like(file, "Python's notation of a value ('...' in place of \"...\")", "write it with json.dump");
  }
  if (text[0] == '{' || text[0] == '[') return;
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  const std::filesystem::path extension = std::filesystem::path(file).extension();
  if (extension == ".tsv" || is_header(line, '\t')) looks_like(file, "a table in text (TSV)", kToLines);
  if (extension == ".csv" || is_header(line, ',') || is_header(line, ';')) looks_like(file, "a table in text (CSV)", kToLines);
  looks_like(file, "plain text", kTokenise);
}

void refuse_unknown_rows(const RowFile& rows) {
  const Json& row = rows.first();
  const std::string& file = rows.name();
  if (!row.is_object()) bad_file("{}: the first row is {}; expected {}", file, shown(row), kReadable);
  if (row.contains("context") && row["context"].is_structured()) {
    looks_like(file, "a table by columns",
               R"(write it by rows, such as with pandas' to_json(FILE, orient="records", lines=True))");
  }
  for (const Form& form : forms()) {
    if (std::all_of(form.keys.begin(), form.keys.end(), [&](const char* key) { return row.contains(key); })) {
      looks_like(file, form.what, form.advice);
    }
  }
  UnknownKeys({"input_ids", "data", "paragraphs", "context", "question", "answers"}).meet(row, file);
  constexpr size_t kShown = 8;
  std::string keys;
  size_t count = 0;
  for (const auto& item : row.items()) {
    if (count++ < kShown) keys += (keys.empty() ? "" : ", ") + in_quotes(item.key(), 40);
  }
  if (count > kShown) keys += ", ...";
  bad_file("{}: the first row has {}; expected {}", file, count ? "the keys " + keys : "no keys", kReadable);
}

}  // namespace tll
