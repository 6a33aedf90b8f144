// Covers: data/data_source.cpp data/data_file.cpp data/row_reader.cpp data/json_row.cpp data/csv.cpp
// Covers: data/byte_stream.cpp data/columns.cpp data/row_kind.cpp data/row_formats.cpp
#include "data/data_source.h"

#include "dev/fuzz/fuzz.h"
#include "dev/fuzz/mutate.h"

namespace tll::fuzz {

constexpr const char* kWords[] = {
    "messages", "role",          "content",   "user",   "assistant",  "system",   "tool",        "weight", "type",
    "text",     "conversations", "from",      "value",  "human",      "gpt",      "instruction", "input",  "output",
    "context",  "response",      "category",  "prompt", "completion", "question", "answers",     "answer", "paragraphs",
    "data",     "version",       "input_ids", "labels", "chosen",     "rejected", "id",          "tools",  "history"};

// The first byte says how the rest is given: its name, whether it is compressed, and what is asked for.
std::string mutated(const std::string& bytes, Random& random) {
  if (bytes.size() < 2 || random.below(3) == 0) return mutated_bytes(bytes);
  std::string rest = bytes.substr(1);
  std::vector<std::string> lines;
  for (size_t at = 0; at < rest.size(); at = std::min(rest.find('\n', at), rest.size() - 1) + 1)
    lines.push_back(rest.substr(at, rest.find('\n', at) - at));
  if (lines.empty()) return mutated_bytes(bytes);
  std::string& line = lines[random.below(lines.size())];
  const std::string before = line;
  line = random.below(8) ? mutated_json(line, random, kWords) : "";
  if (random.below(4) == 0) lines.push_back(before);
  std::string out(1, random.below(4) ? bytes[0] : char(random.below(256)));
  for (const std::string& l : lines) out += l + "\n";
  return out;
}

// Everything is read with blocks of one row, and with large ones: the rows must be the same. Reading goes on behind every block.
void read(std::string_view bytes) {
  static const TemporaryDirectory directory;
  if (bytes.empty()) return;
  const auto how = uint8_t(bytes[0]);
  bytes.remove_prefix(1);
  constexpr const char* kNames[] = {"f.jsonl", "f.json", "f.csv", "f.txt", "f", "f.json.gz", "f.tsv", "folder/f.jsonl"};
  const std::filesystem::path path = directory / kNames[how % 8];
  std::filesystem::create_directories(path.parent_path());
  put(path, bytes);
  PrepareOptions options;
  constexpr DataFormat kFormats[] = {DataFormat::kAuto, DataFormat::kAuto, DataFormat::kText, DataFormat::kCsv};
  options.format = kFormats[how / 8 % 4];
  if (how & 32) options.columns = {"prompt=question", "response=answer"};
  const std::filesystem::path opened = how % 8 == 7 ? path.parent_path() : path;
  const auto rows_of = [&](DataSource& source, std::vector<std::pair<int64_t, int64_t>>* ends) {
    std::string rows;
    int64_t count = 0;
    while (const auto block = source.next()) {
      TLL_CHECK(block->first_row == count || !ends, "row {} of {}", block->first_row, count);
      count = block->first_row + int64_t(block->ends.size());
      rows += block->text + "\n";
      for (const std::string& where : block->where) rows += where + "\n";
      if (ends) ends->emplace_back(block->end_bytes, count);
      SourceFindings findings;
      completes([&] {
        for (const Example& e : source.parse(*block, findings)) {
          if (e.kind != ExampleKind::kText && e.kind != ExampleKind::kTokens) as_messages(e);
        }
      });
      check_lines(findings.lines("f"));
    }
    return rows;
  };
  const auto source = DataSource::open(opened, options, 1 + how / 64 % 2, {.block_bytes = 1, .row_bytes = 1 << 16});
  check_line(source->facts().decision);
  check_lines(source->facts().notes);
  std::vector<std::pair<int64_t, int64_t>> ends;
  const std::string rows = rows_of(*source, &ends);
  TLL_CHECK(!ends.empty() && ends.back().second == source->facts().rows, "{} rows", source->facts().rows);
  for (size_t i = 0; i < ends.size(); i += 1 + ends.size() / 4) {
    source->seek(ends[i].first, ends[i].second);
    const std::string rest = rows_of(*source, nullptr);
    TLL_CHECK(rows.ends_with(rest), "behind block {}", i);
  }
}

}  // namespace tll::fuzz
