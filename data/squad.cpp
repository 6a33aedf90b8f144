#include "data/squad.h"

#include <algorithm>

#include "src/base/check.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

// A value of the JSON and where it stands. Every step down checks what it finds.
struct Node {
  const Json& value;
  const std::string& file;
  std::string where;

  [[noreturn]] void refuse(std::string_view expected) const {
    bad_file("{}: {}: expected {}, found {}", file, where.empty() ? "top level" : where, expected,
             value.is_string()   ? "a string"
             : value.is_object() ? "an object"
             : value.is_null()   ? "null"
             : value.is_array()  ? fmt::format("array ({} elements)", value.size())
                                 : fmt::format("{} ({})", value.type_name(), value.dump()));
  }
  Node at(const char* key) const {
    if (!value.is_object()) refuse("an object");
    const std::string path = where.empty() ? key : where + "." + key;
    if (!value.contains(key)) bad_file("{}: {}: this field is missing; it is needed in SQuAD data", file, path);
    return {value[key], file, path};
  }
  std::vector<Node> elements() const {
    if (!value.is_array()) refuse("an array");
    std::vector<Node> out;
    for (size_t i = 0; i < value.size(); ++i) out.push_back({value[i], file, fmt::format("{}[{}]", where, i)});
    return out;
  }
  std::string string() const {
    if (!value.is_string()) refuse("a string");
    return value.get<std::string>();
  }
  std::string optional_string(const char* key) const { return value.is_object() && value.contains(key) ? at(key).string() : ""; }
  int64_t offset() const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t(INT64_MAX)) refuse("a whole number >= 0");
    return value.get<int64_t>();
  }
};

// Whether `answer` stands in `context` at code point `start`.
bool stands_at(std::string_view context, std::string_view answer, int64_t start) {
  size_t i = 0;
  for (; i < context.size() && start > 0; --start) {
    do ++i;
    while (i < context.size() && is_continuation(context[i]));
  }
  return start == 0 && context.substr(i).starts_with(answer);
}

void add_answer(SquadFile& out, SquadQuestion& q, const Node& text, const Node& start) {
  q.answers.push_back(text.string());
  q.answer_starts.push_back(start.offset());
  if (stands_at(q.context, q.answers.back(), q.answer_starts.back())) return;
  if (out.offset_mismatches++ == 0) out.first_mismatch = fmt::format("{} (id {})", q.where, in_quotes(q.id));
}

void add_question(SquadFile& out, SquadQuestion q) {
  out.unanswerable += !q.answerable();
  out.questions.push_back(std::move(q));
}

void read_article(SquadFile& out, const Node& article) {
  const std::string title = article.optional_string("title");
  for (const Node& paragraph : article.at("paragraphs").elements()) {
    const std::string context = paragraph.at("context").string();
    for (const Node& qa : paragraph.at("qas").elements()) {
      SquadQuestion q{qa.at("id").string(), title, context, qa.at("question").string(), qa.where};
      for (const Node& a : qa.at("answers").elements()) add_answer(out, q, a.at("text"), a.at("answer_start"));
      add_question(out, std::move(q));
    }
  }
}

void read_row(SquadFile& out, const Node& row) {
  SquadQuestion q{row.at("id").string(), row.optional_string("title"), row.at("context").string(), row.at("question").string(),
                  row.where};
  const Node answers = row.at("answers");
  const Node text = answers.at("text"), start = answers.at("answer_start");
  const std::vector<Node> texts = text.elements(), starts = start.elements();
  if (texts.size() != starts.size()) {
    bad_file("{}: {}.answers: text has {} elements and answer_start {}; they must be as many", row.file, row.where, texts.size(),
             starts.size());
  }
  for (size_t a = 0; a < texts.size(); ++a) add_answer(out, q, texts[a], starts[a]);
  add_question(out, std::move(q));
}

const PromptTemplate kTemplates[] = {
    {"squad",
     [](std::string context, std::string_view question, std::string_view answer) {
       return std::vector<Span>{{.text = "Context: "},
                                {.text = std::move(context), .may_shorten = true},
                                {.text = fmt::format("\nQuestion: {}\nAnswer:", question)},
                                {.text = fmt::format(" {}", answer), .trained = true, .ends_text = true}};
     }},
};

constexpr std::string_view kBlanks = " \t\n\v\f\r";

std::string_view trimmed(std::string_view s) {
  const size_t begin = s.find_first_not_of(kBlanks);
  return begin == std::string_view::npos ? std::string_view() : s.substr(begin, s.find_last_not_of(kBlanks) - begin + 1);
}

}  // namespace

const PromptTemplate& find_prompt_template(std::string_view name) {
  std::string names;
  for (const PromptTemplate& t : kTemplates) {
    if (t.name == name) return t;
    names += names.empty() ? "" : ", ";
    names += t.name;
  }
  fail(kExitUsage, "unknown prompt template \"{}\"; there are: {}", name, names);
}

std::string answer_from_generation(std::string_view generated, bool unanswerable_trained) {
  std::string_view answer = trimmed(generated);
  answer = trimmed(answer.substr(0, answer.find('\n')));
  return unanswerable_trained && answer == kNoAnswer ? "" : std::string(answer);
}

SquadFile read_squad(const Json& json, const std::string& name) {
  const Node root{json, name, ""};
  const Node data = json.is_array() ? root : root.at("data");
  SquadFile out;
  for (const Node& element : data.elements()) {
    is_squad_row(element.value) ? read_row(out, element) : read_article(out, element);
  }
  return out;
}

SquadFile parse_squad_json(std::string_view text, const std::string& name) {
  return read_squad(parse_json(without_byte_order_mark(text), name), name);
}

SquadFile parse_squad_lines(std::string_view text, const std::string& name) {
  SquadFile out;
  for_each_line(text, [&](int64_t number, std::string_view line) {
    const std::string where = fmt::format("line {}", number);
    const Json row = parse_json(line, fmt::format("{}: {}", name, where));
    read_row(out, {row, name, where});
  });
  return out;
}

SampleSet squad_samples(SquadFile file, const PrepareOptions& options) {
  const PromptTemplate& form = find_prompt_template(options.template_name);
  SampleSet out{.of_text = true};
  out.known.template_name = form.name;
  out.known.rules = file.unanswerable ? SquadRules::kV2 : SquadRules::kV1;
  out.known.unanswerable_trained = options.unanswerable == Unanswerable::kTrain;
  out.known.report.offset_mismatches = file.offset_mismatches;
  out.samples.reserve(file.questions.size());
  for (SquadQuestion& q : file.questions) {
    Sample sample{.id = std::move(q.id),
                  .title = q.title,
                  .where = std::move(q.where),
                  .group = group_key(q.title, options.seed),
                  .subgroup = group_key(q.context, options.seed),
                  .left_out = !q.answerable() && !out.known.unanswerable_trained};
    if (!sample.left_out) {
      sample.spans = form.spans(std::move(q.context), q.question, q.answerable() ? q.answers[0] : kNoAnswer);
    }
    std::vector<std::string>& gold = sample.answers;
    for (const std::string& a : q.answers) {
      if (std::find(gold.begin(), gold.end(), a) == gold.end()) gold.push_back(a);
    }
    out.samples.push_back(std::move(sample));
  }
  return out;
}

}  // namespace tll
