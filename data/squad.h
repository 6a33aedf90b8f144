// SQuAD questions, read from the published JSON (v1.1 and v2.0) or from the flattened rows of the Hugging Face hub; how they
// become prompts, and how the text that a model writes becomes an answer.
//
// Source: the data files' own schema (rajpurkar.github.io/SQuAD-explorer). `answer_start` counts Unicode code points of the
// context, not bytes. A question is unanswerable when its list of answers is empty; `version` decides nothing, and
// `is_impossible` only that blank answers are none. As annotation tools write them, an id may be a number, and it, the title and
// answer_start may be missing or null; answers are objects, plain strings, one string, or one object of two lists.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/example_reader.h"
#include "data/row_file.h"
#include "data/sample.h"

namespace tll {

struct SquadQuestion {
  std::string id;  // the place, if the file has none
  std::string title, context, question;
  std::string where;                      // as in Sample
  std::vector<std::string> answers = {};  // as in the file, duplicates kept; empty: the context does not answer the question
  bool answerable() const { return !answers.empty(); }
};

struct SquadFile {
  std::vector<SquadQuestion> questions;  // in file order
  int64_t unanswerable = 0;              // questions without an answer
  int64_t offset_mismatches = 0;         // answers that are not found at their answer_start (a warning, not an error)
  std::string first_mismatch;            // place of the first of them
  std::vector<std::string> notes;        // on the file: keys that are not used, and contradictions
};

// Articles, paragraphs or flattened rows. Error (kExitBadFile), with file and place, if a field is missing or of the wrong type.
SquadFile read_squad(const RowFile& file);
inline SquadFile parse_squad(std::string_view text, const std::string& name) { return read_squad(RowFile(text, name)); }

// What an unanswerable question is trained to answer, and what is mapped back to the empty answer for scoring.
inline constexpr std::string_view kNoAnswer = "no answer";

// How a question becomes text. The context is the span that may be shortened. The answer and EOS behind it are trained.
struct PromptTemplate {
  std::string_view name;
  std::vector<Span> (*spans)(std::string context, std::string_view question, std::string_view answer);
};

// "squad": `Context: {context}\nQuestion: {question}\nAnswer:` and ` {answer}`.
// Error (kExitUsage), with the list of names, if there is no such template.
const PromptTemplate& find_prompt_template(std::string_view name);

// The answer in a generated continuation (EOS already cut off), trimmed. Of a model that did not end by itself it is the first
// line that is not blank. With `unanswerable_trained`, kNoAnswer becomes "".
std::string answer_from_generation(std::string_view generated, bool ended, bool unanswerable_trained);

bool is_squad_row(const Json& row);  // an article, a paragraph or a flattened row

// The questions in the prompt template of the options. An article is a group and a context a subgroup. The first answer is
// trained. A question without one is left out, or trained as kNoAnswer. Error (kExitUsage) if there is no such template.
SampleSet squad_samples(SquadFile file, const PrepareOptions& options);

}  // namespace tll
