// SQuAD questions, read from the published JSON (v1.1 and v2.0) or from the flattened rows of the Hugging Face hub.
//
// Source: the data files' own schema (rajpurkar.github.io/SQuAD-explorer). `answer_start` counts Unicode code points of the
// context, not bytes. A question is unanswerable when its list of answers is empty; `version` and `is_impossible` decide nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"

namespace tll {

struct SquadSample {
  std::string id, title, context, question;
  std::vector<std::string> answers;    // as in the file, duplicates kept; empty: the context does not answer the question
  std::vector<int64_t> answer_starts;  // code points into context, one for each answer
  std::string where;                   // place in the file, for messages: "data[3].paragraphs[2].qas[0]" or "line 7"
  bool answerable() const { return !answers.empty(); }
};

struct SquadFile {
  std::vector<SquadSample> samples;  // in file order
  int64_t unanswerable = 0;          // samples without an answer
  int64_t offset_mismatches = 0;     // answers that are not found at their answer_start (a warning, not an error)
  std::string first_mismatch;        // place of the first of them
};

// SQuAD JSON or a JSON array of flattened rows; flattened rows as JSON lines. `name` is the file's name in messages. A byte-order
// mark and CRLF are accepted. Error (kExitBadFile) with file and place when the text is not strict JSON or UTF-8, or a field is
// missing or of the wrong type.
SquadFile parse_squad_json(std::string_view text, const std::string& name);
SquadFile parse_squad_lines(std::string_view text, const std::string& name);

// True if a row of a .jsonl file is a flattened SQuAD question.
bool is_squad_row(const Json& row);

// Calls visit(line_number, line) for each line that is not blank; strips a byte-order mark and the CR of CRLF.
template <class Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) visit(number, line);
  }
}

}  // namespace tll
