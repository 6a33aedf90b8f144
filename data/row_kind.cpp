#include "data/row_kind.h"

#include <algorithm>
#include <iterator>

namespace tll {
namespace {

// Looks up keys of a shape.
struct Keys {
  const RowShape& shape;
  bool count_null;

  const ValueKind* find(std::string_view key) const {
    for (const auto& [name, kind] : shape)
      if (name == key && (count_null || kind != ValueKind::kNull)) return &kind;
    return nullptr;
  }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool is(std::string_view key, std::initializer_list<ValueKind> kinds) const {
    const ValueKind* kind = find(key);
    return kind && std::find(kinds.begin(), kinds.end(), *kind) != kinds.end();
  }
  // Has a value that is not an empty string.
  bool says(std::string_view key) const { return has(key) && !is(key, {ValueKind::kEmptyString}); }
};

constexpr std::string_view kToLines = R"(convert it to JSON lines, such as with datasets' Dataset.to_json("data.jsonl"))";
constexpr std::string_view kTokenise =
    R"(write it in one of these forms, or tokenise it as {"input_ids": [...], "labels": [...]}, with -100 where nothing is trained)";

// Pairs of names under which people ask and answer.
constexpr std::string_view kAsked[] = {"prompt",  "question", "query",   "instruction", "instructions", "input",
                                       "inputs",  "source",   "src",     "problem",     "user",         "human",
                                       "request", "document", "article", "dialogue",    "sentence",     "text"};
constexpr std::string_view kAnswered[] = {"response", "answer",     "output", "outputs",  "completion",
                                          "target",   "targets",    "tgt",    "solution", "assistant",
                                          "summary",  "highlights", "label",  "reply",    "generation"};
constexpr std::string_view kTexts[] = {"content", "body", "raw_content", "document", "article", "sentence"};
constexpr std::string_view kChats[] = {"conversation", "dialog", "dialogue", "chat", "turns", "chat_history", "message"};

// Rows that other programs read, by keys that all of them have.
struct Form {
  std::vector<std::string_view> keys;
  std::string_view what;
  std::string_view advice = kTokenise;
};
const std::vector<Form>& forms() {
  static const std::vector<Form> all = {
      {{"translation"}, "rows of translations (translation)", "write the two texts as \"prompt\" and \"response\""},
      {{"choices", "answer"},
       "rows of multiple choice (choices, answer)",
       "write question and choices as \"prompt\", the right one as \"response\""},
      {{"premise", "hypothesis"}, "rows of inference (premise, hypothesis, label)", "write them as \"prompt\" and \"response\""},
      {{"model_type"}, "a model's config.json", "name the data by --data, and the model by --model"},
      {{"added_tokens"}, "a tokenizer.json", "name the data by --data, and the model by --model"},
      {{"peft_type"}, "an adapter_config.json", "name the data by --data, and the adapter by --adapter"},
      {{"train"}, "a data set of several splits in one object", "write each split to a file of its own"},
      {{"rows", "features"}, "an answer of the hub's data server", kToLines},
      {{"features"}, "a description of a data set, not its rows", kToLines},
      {{"tokens"}, "rows of tokens without ids (tokens)", "if they are ids: --columns input_ids=tokens; else write texts"},
  };
  return all;
}

RowKind named(DataFormat format) { return {format, std::string(data_format_names()[size_t(format)]), ""}; }

const std::string_view* first_of(const Keys& keys, const auto& names) {
  const auto found = std::find_if(std::begin(names), std::end(names), [&](std::string_view name) { return keys.has(name); });
  return found == std::end(names) ? nullptr : &*found;
}

RowKind kind_by(const Keys& keys) {
  using enum ValueKind;
  if (keys.has("input_ids")) return named(DataFormat::kIds);
  if (keys.has("messages")) return named(DataFormat::kMessages);
  if (keys.has("conversations")) return named(DataFormat::kShareGpt);
  const bool by_columns = keys.is("context", {kObject, kStrings, kObjects, kLists, kOthers, kEmptyList});
  if (by_columns && keys.has("question")) {
    return {DataFormat::kAuto, "a table by columns",
            R"(write it by rows, such as with pandas' to_json(FILE, orient="records", lines=True))"};
  }
  if (keys.has("paragraphs") || keys.has("qas") || (keys.has("context") && keys.has("question")))
    return named(DataFormat::kSquad);
  if (keys.has("chosen") && keys.has("rejected")) {
    return {DataFormat::kAuto, "preference pairs (chosen, rejected)",
            keys.is("chosen", {kObjects}) ? "to train on the chosen ones alone: --columns messages=chosen"
            : keys.has("prompt")          ? "to train on the chosen ones alone: --columns response=chosen"
                                          : "to train on the chosen ones alone: --columns text=chosen"};
  }
  if (keys.has("prompt") && keys.has("completion") && keys.is("label", {kBoolean})) {
    return {DataFormat::kAuto, "rows of good and bad answers (prompt, completion, label)",
            "keep the rows with a good answer, without \"label\""};
  }
  if (keys.has("prompt") && (keys.has("completion") || keys.has("response"))) return named(DataFormat::kPrompt);
  if (keys.has("instruction") && keys.has("output")) {
    if (keys.says("context") && !keys.has("input"))
      return {DataFormat::kAuto, "Alpaca rows with a context (instruction, context, output)", "name it: --columns input=context"};
    return named(DataFormat::kAlpaca);
  }
  if (keys.has("instruction") && keys.has("response")) {
    if (keys.says("input") && !keys.has("context"))
      return {DataFormat::kAuto, "Dolly rows with an input (instruction, input, response)", "name it: --columns context=input"};
    return named(DataFormat::kDolly);
  }
  for (const Form& form : forms()) {
    if (std::all_of(form.keys.begin(), form.keys.end(), [&](std::string_view key) { return keys.has(key); }))
      return {DataFormat::kAuto, std::string(form.what), std::string(form.advice)};
  }
  const auto assign = [](std::string_view field, std::string_view key) {
    return field == key ? std::string() : std::string(field) + "=" + std::string(key);
  };
  const auto columns = [&](std::string_view first, std::string_view key, std::string_view second, std::string_view other) {
    std::string out = assign(first, key);
    const std::string more = assign(second, other);
    if (!out.empty() && !more.empty()) out += ",";
    return "name the columns: --columns " + out + more;
  };
  const std::string_view *asked = first_of(keys, kAsked), *answered = first_of(keys, kAnswered);
  const std::string_view* chat = first_of(keys, kChats);
  if (chat && keys.is(*chat, {kObjects})) {
    return {DataFormat::kAuto, "chat rows (" + std::string(*chat) + ")",
            "name the column: --columns messages=" + std::string(*chat)};
  }
  if (keys.has("text") && answered && *answered == "label") {
    return {DataFormat::kAuto, "rows of classification (text, label)",
            "to train answers: --columns prompt=text,response=label; to train the texts alone: --format text"};
  }
  if (asked && *asked != "text" && keys.has("text") && !answered) {
    return {DataFormat::kAuto, "rows with " + std::string(*asked) + " and text",
            "say what is trained: --format text, or " +
                columns("prompt", *asked, "response", "text").substr(std::string_view("name the columns: ").size())};
  }
  if (keys.has("text")) return named(DataFormat::kText);
  if (asked && answered) {
    const bool instruction = *asked == "instruction" || keys.has("instruction");
    if (*asked == "question" && *answered == "answer") {
      return {DataFormat::kAuto, "rows of question and answer without a context",
              columns("prompt", *asked, "response", *answered)};
    }
    return {DataFormat::kAuto, "rows of " + std::string(*asked) + " and " + std::string(*answered),
            instruction ? columns("instruction", "instruction", "output", *answered)
                        : columns("prompt", *asked, "response", *answered)};
  }
  if (const std::string_view* text = first_of(keys, kTexts)) {
    return {DataFormat::kAuto, "rows of texts (" + std::string(*text) + ")",
            "name the column: --columns text=" + std::string(*text)};
  }
  return {DataFormat::kAuto, "", ""};
}

}  // namespace

RowKind kind_of_row(const RowShape& shape) {
  RowKind kind = kind_by({shape, false});
  if (kind.format == DataFormat::kAuto && kind.what.empty()) kind = kind_by({shape, true});
  return kind;
}

bool fits_format(DataFormat format, const RowShape& shape) {
  const Keys keys{shape, true};
  switch (format) {
    case DataFormat::kSquad:
      return keys.has("paragraphs") || keys.has("qas") || (keys.has("context") && keys.has("question"));
    case DataFormat::kAlpaca:
      return keys.has("instruction") && keys.has("output");
    case DataFormat::kDolly:
      return keys.has("instruction") && keys.has("response");
    case DataFormat::kPrompt:
      return keys.has("prompt") && (keys.has("completion") || keys.has("response"));
    case DataFormat::kMessages:
      return keys.has("messages");
    case DataFormat::kShareGpt:
      return keys.has("conversations");
    case DataFormat::kText:
      return keys.has("text");
    case DataFormat::kIds:
      return keys.has("input_ids");
    case DataFormat::kAuto:
    case DataFormat::kCsv:
    case DataFormat::kParquet:
      break;
  }
  return true;
}

std::string_view needs_of(DataFormat format) {
  switch (format) {
    case DataFormat::kSquad:
      return R"("context", "question" and "answers" (or "paragraphs"))";
    case DataFormat::kAlpaca:
      return R"("instruction" and "output")";
    case DataFormat::kDolly:
      return R"("instruction" and "response")";
    case DataFormat::kPrompt:
      return R"("prompt" and "response" (or "completion"))";
    case DataFormat::kMessages:
      return R"("messages")";
    case DataFormat::kShareGpt:
      return R"("conversations")";
    case DataFormat::kText:
      return R"("text")";
    case DataFormat::kIds:
      return R"("input_ids")";
    case DataFormat::kAuto:
    case DataFormat::kCsv:
    case DataFormat::kParquet:
      break;
  }
  return "";
}

bool tells_kind(std::string_view key) {
  static const std::vector<std::string_view> all = [] {
    std::vector<std::string_view> keys = {"input_ids", "messages", "conversations", "paragraphs", "qas",  "context",
                                          "question",  "chosen",   "rejected",      "prompt",     "text", "completion"};
    for (const Form& form : forms()) keys.insert(keys.end(), form.keys.begin(), form.keys.end());
    keys.insert(keys.end(), std::begin(kAsked), std::end(kAsked));
    keys.insert(keys.end(), std::begin(kAnswered), std::end(kAnswered));
    keys.insert(keys.end(), std::begin(kTexts), std::end(kTexts));
    keys.insert(keys.end(), std::begin(kChats), std::end(kChats));
    return keys;
  }();
  return std::find(all.begin(), all.end(), key) != all.end();
}

std::string keys_text(const RowShape& shape) {
  constexpr size_t kShown = 8;
  if (shape.empty()) return "no keys";
  std::string out;
  for (size_t i = 0; i < std::min(shape.size(), kShown); ++i) out += (i ? ", " : "") + in_quotes(shape[i].first, 40);
  return "the keys " + out + (shape.size() > kShown ? ", ..." : "");
}

}  // namespace tll
