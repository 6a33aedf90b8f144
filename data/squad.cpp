#include "data/squad.h"

#include <algorithm>

#include "data/lines.h"
#include "data/prompt.h"
#include "src/base/check.h"

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
                                 : fmt::format("{} ({})", value.type_name(), shown()));
  }
  std::string shown() const { return value.is_array() ? fmt::format("{} elements", value.size()) : value.dump(); }
  Node at(const char* key) const {
    if (!value.is_object()) refuse("an object");
    const std::string path = where.empty() ? key : where + "." + key;
    if (!value.contains(key)) bad_file("{}: {}: this field is missing; it is needed in SQuAD data", file, path);
    return {value[key], file, path};
  }
  Node at(size_t i) const { return {value[i], file, fmt::format("{}[{}]", where, i)}; }
  size_t array_size() const {
    if (!value.is_array()) refuse("an array");
    return value.size();
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

bool is_continuation(char c) { return (uint8_t(c) & 0xC0) == 0x80; }

// Whether `answer` stands in `context` at code point `start`.
bool stands_at(std::string_view context, std::string_view answer, int64_t start) {
  size_t i = 0;
  for (; i < context.size() && start > 0; --start) {
    do ++i;
    while (i < context.size() && is_continuation(context[i]));
  }
  return start == 0 && context.substr(i).starts_with(answer);
}

void add_question(SquadFile& out, SquadQuestion q) {
  out.unanswerable += !q.answerable();
  for (size_t i = 0; i < q.answers.size(); ++i) {
    if (stands_at(q.context, q.answers[i], q.answer_starts[i])) continue;
    if (out.offset_mismatches++ == 0) out.first_mismatch = fmt::format("{} (id {})", q.where, in_quotes(q.id));
  }
  out.questions.push_back(std::move(q));
}

void read_article(SquadFile& out, const Node& article) {
  const std::string title = article.optional_string("title");
  const Node paragraphs = article.at("paragraphs");
  for (size_t p = 0, np = paragraphs.array_size(); p < np; ++p) {
    const Node paragraph = paragraphs.at(p);
    const std::string context = paragraph.at("context").string();
    const Node qas = paragraph.at("qas");
    for (size_t i = 0, n = qas.array_size(); i < n; ++i) {
      const Node qa = qas.at(i);
      SquadQuestion q{qa.at("id").string(), title, context, qa.at("question").string(), qa.where};
      const Node answers = qa.at("answers");
      for (size_t a = 0, na = answers.array_size(); a < na; ++a) {
        q.answers.push_back(answers.at(a).at("text").string());
        q.answer_starts.push_back(answers.at(a).at("answer_start").offset());
      }
      add_question(out, std::move(q));
    }
  }
}

void read_row(SquadFile& out, const Node& row) {
  SquadQuestion q{row.at("id").string(), row.optional_string("title"), row.at("context").string(), row.at("question").string(),
                  row.where};
  const Node texts = row.at("answers").at("text"), starts = row.at("answers").at("answer_start");
  if (texts.array_size() != starts.array_size()) {
    bad_file("{}: {}.answers: text has {} elements and answer_start {}; they must be as many", row.file, row.where,
             texts.array_size(), starts.array_size());
  }
  for (size_t a = 0; a < texts.array_size(); ++a) {
    q.answers.push_back(texts.at(a).string());
    q.answer_starts.push_back(starts.at(a).offset());
  }
  add_question(out, std::move(q));
}

}  // namespace

bool is_squad_row(const Json& row) { return row.is_object() && row.contains("context") && row.contains("question"); }

SquadFile read_squad(const Json& json, const std::string& name) {
  const Node root{json, name, ""};
  const Node data = json.is_array() ? root : root.at("data");
  SquadFile out;
  for (size_t i = 0, n = data.array_size(); i < n; ++i) {
    const Node element = data.at(i);
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
  SampleSet out{.of_text = true,
                .template_name = std::string(form.name),
                .rules = file.unanswerable ? SquadRules::kV2 : SquadRules::kV1,
                .unanswerable_trained = options.unanswerable == Unanswerable::kTrain,
                .offset_mismatches = file.offset_mismatches};
  out.samples.reserve(file.questions.size());
  for (SquadQuestion& q : file.questions) {
    Sample sample{.id = std::move(q.id),
                  .title = q.title,
                  .where = std::move(q.where),
                  .group = group_key(q.title, options.seed),
                  .subgroup = group_key(q.context, options.seed),
                  .left_out = !q.answerable() && !out.unanswerable_trained};
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
