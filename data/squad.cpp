// SQuAD questions, from the published JSON (v1.1 and v2.0) or from the flattened rows of the Hugging Face hub.
//
// Source: the data files' own schema (rajpurkar.github.io/SQuAD-explorer). `answer_start` counts Unicode code points of the
// context, not bytes. A question is unanswerable when its list of answers is empty; `version` decides nothing, and
// `is_impossible` only that blank answers are none. As annotation tools write them, an id may be a number, and it, the title and
// answer_start may be missing or null; answers are objects, plain strings, one string, or one object of two lists.
#include "data/squad.h"

#include <algorithm>

#include "data/example_reader.h"
#include "data/sample.h"
#include "src/base/check.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

constexpr std::string_view kBlanks = " \t\n\v\f\r";

// Whether `answer` stands in `context` at code point `start`.
bool stands_at(std::string_view context, std::string_view answer, int64_t start) {
  size_t i = 0;
  for (; i < context.size() && start > 0; --start) {
    do ++i;
    while (i < context.size() && is_continuation(context[i]));
  }
  return start == 0 && context.substr(i).starts_with(answer);
}

bool is_blank(std::string_view s) { return s.find_first_not_of(kBlanks) == std::string_view::npos; }

// The answers of a question, and the code points of the context at which they begin; kNoStart: the file does not say.
constexpr int64_t kNoStart = INT64_MIN;
struct Answers {
  std::vector<std::string> texts = {};
  std::vector<int64_t> starts = {};
};

class SquadReader : public ExampleReader {
 public:
  explicit SquadReader(uint64_t seed) : seed_(seed) {}

  void read(const Place& row, std::vector<Example>& out) override {
    out_ = &out;
    if (row.has("qas")) return read_paragraph(row, "");
    if (row.has("context") || row.has("question")) return read_flat_row(row);
    meet(row, articles_);
    const std::string title = row.optional_label("title");
    for (const Place& paragraph : row.at("paragraphs").elements()) read_paragraph(paragraph, title);
  }

  SourceFindings findings() const override {
    SourceFindings all = findings_;
    for (const UnknownKeys* keys : {&articles_, &paragraphs_, &questions_, &flat_rows_, &answers_}) {
      keys->count_into(all.unknown_keys);
    }
    return all;
  }

 private:
  static void meet(const Place& object, UnknownKeys& keys) {
    constexpr std::string_view kHarmless[] = {"plausible_answers"};
    if (!object.value.is_object()) object.refuse("an object");
    keys.meet(object.value, object.name(), kHarmless);
  }

  void read_paragraph(const Place& paragraph, const std::string& title) {
    meet(paragraph, paragraphs_);
    const std::string context = paragraph.at("context").string();
    for (const Place& qa : paragraph.at("qas").elements()) {
      meet(qa, questions_);
      read_question(qa, title, context);
    }
  }

  void read_flat_row(const Place& row) {
    meet(row, flat_rows_);
    read_question(row, row.optional_label("title"), row.at("context").string());
  }

  void read_question(const Place& qa, const std::string& title, const std::string& context) {
    Example e{.kind = ExampleKind::kQuestion,
              .id = qa.has("id") ? qa.at("id").label() : qa.where,
              .title = title,
              .where = qa.where,
              .prompt = qa.at("question").string(),
              .context = context};
    Answers answers = read_answers(qa.at("answers"));
    if (qa.has("is_impossible")) {
      const Place impossible = qa.at("is_impossible");
      if (!impossible.value.is_boolean()) impossible.refuse("true or false");
      if (impossible.value.get<bool>()) {
        if (std::all_of(answers.texts.begin(), answers.texts.end(), is_blank)) answers = {};
        if (!answers.texts.empty()) {
          findings_.note("{0} questions are marked is_impossible and have answers, which count (the first is {2})", 1, 0,
                         place_of(e));
        }
      }
    }
    for (size_t a = 0; a < answers.texts.size(); ++a) {
      if (answers.starts[a] == kNoStart || stands_at(context, answers.texts[a], answers.starts[a])) continue;
      ++findings_.offset_mismatches;
      findings_.note("answers not at the answer_start that the file gives: {0} (the first is of {2})", 1, 0, place_of(e));
    }
    findings_.unanswerable += answers.texts.empty();
    e.answers = std::move(answers.texts);
    e.group = group_key(e.title, seed_);
    e.subgroup = group_key(e.context, seed_);
    out_->push_back(std::move(e));
  }

  Answers read_answers(const Place& list) {
    Answers out;
    if (list.value.is_string()) {
      add(out, list, nullptr);
    } else if (!list.value.is_object()) {
      for (const Place& answer : list.elements()) {
        if (answer.value.is_string()) {
          add(out, answer, nullptr);
        } else {
          read_answer(out, answer);
        }
      }
    } else if (list.has("text") && !list.at("text").value.is_array()) {
      read_answer(out, list);
    } else {
      meet(list, answers_);
      const std::vector<Place> texts = list.at("text").elements();
      const std::vector<Place> starts = list.has("answer_start") ? list.at("answer_start").elements() : std::vector<Place>();
      if (list.has("answer_start") && texts.size() != starts.size()) {
        bad_file("{}: text has {} elements and answer_start {}; they must be as many", list.name(), texts.size(), starts.size());
      }
      for (size_t a = 0; a < texts.size(); ++a) add(out, texts[a], starts.empty() ? nullptr : &starts[a]);
    }
    return out;
  }

  void read_answer(Answers& out, const Place& answer) {
    meet(answer, answers_);
    const Place text = answer.at("text");
    if (!answer.has("answer_start")) return add(out, text, nullptr);
    const Place start = answer.at("answer_start");
    add(out, text, &start);
  }

  static void add(Answers& out, const Place& text, const Place* start) {
    out.texts.push_back(text.label());
    out.starts.push_back(start && !start->value.is_null() ? start->integer() : kNoStart);
  }

  static std::string place_of(const Example& e) { return fmt::format("{}, id {}", e.where, in_quotes(e.id)); }

  uint64_t seed_;
  std::vector<Example>* out_ = nullptr;
  SourceFindings findings_;
  UnknownKeys articles_{{"title", "paragraphs"}}, paragraphs_{{"context", "qas"}},
      questions_{{"id", "question", "answers", "is_impossible"}},
      flat_rows_{{"id", "title", "context", "question", "answers", "is_impossible"}}, answers_{{"text", "answer_start"}};
};

}  // namespace

std::string_view trimmed(std::string_view s) {
  const size_t begin = s.find_first_not_of(kBlanks);
  return begin == std::string_view::npos ? std::string_view() : s.substr(begin, s.find_last_not_of(kBlanks) - begin + 1);
}

std::string answer_from_generation(std::string_view generated, bool ended, bool unanswerable_trained) {
  std::string_view answer = trimmed(generated);
  if (!ended) answer = trimmed(answer.substr(0, answer.find('\n')));
  return unanswerable_trained && answer == kNoAnswer ? "" : std::string(answer);
}

std::unique_ptr<ExampleReader> squad_reader(uint64_t seed) { return std::make_unique<SquadReader>(seed); }

}  // namespace tll
