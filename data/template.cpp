#include "data/template.h"

#include <algorithm>
#include <array>
#include <span>

#include "data/squad.h"
#include "src/base/check.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

// A text, part of which may be cut off.
struct Content {
  std::string before = {}, cut = {}, after = {};  // `cut` is the part
  std::string text() const { return before + cut + after; }
};

struct Turn {
  std::string role;
  Content content;
  bool trained = true;
};

// What Python's str.strip() removes.
bool is_blank(char32_t c) { return char_class(c) == CharClass::kSpace || (c >= 0x1C && c <= 0x1F); }

void trim_front(std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const CodePoint c = read_code_point(text, at);
    if (!is_blank(c.value)) break;
    at += c.bytes;
  }
  text.erase(0, at);
}

void trim_back(std::string& text) {
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && is_continuation(text[last])) --last;
    if (!is_blank(read_code_point(text, last).value)) break;
    text.resize(last);
  }
}

void trim_back(Content& content) {
  for (std::string* part : {&content.after, &content.cut, &content.before}) {
    trim_back(*part);
    if (!part->empty()) break;
  }
}

Content trimmed(Content content) {
  for (std::string* part : {&content.before, &content.cut, &content.after}) {
    trim_front(*part);
    if (!part->empty()) break;
  }
  trim_back(content);
  return content;
}

// Writes the spans of a conversation. A turn number goes to what is written from the user's turn on.
class Writer {
 public:
  explicit Writer(bool parse_special) : parse_special_(parse_special) {}

  void begin_turn() { ++turn_; }
  void train(bool trained) { trained_ = trained; }
  void markup(std::string_view text) { add(std::string(text), true, false); }
  void text(std::string text) { add(std::move(text), parse_special_, false); }
  void content(Content content) {
    add(std::move(content.before), parse_special_, false);
    add(std::move(content.cut), parse_special_, true);
    add(std::move(content.after), parse_special_, false);
  }
  // Markup that is left out if the turn in front of it leaves.
  void between_turns(std::string_view text) {
    spans_.push_back({.text = std::string(text), .markup = true, .turn = turn_, .between_turns = true});
  }
  // With EOS behind it, by the tokenizer.
  void answer(std::string text) {
    spans_.push_back({.text = std::move(text), .markup = parse_special_, .trained = trained_, .ends_text = true, .turn = turn_});
  }
  std::vector<Span> take() { return std::move(spans_); }

 private:
  void add(std::string text, bool markup, bool may_shorten) {
    if (text.empty()) return;
    if (!spans_.empty()) {
      Span& last = spans_.back();
      if (last.markup == markup && last.trained == trained_ && last.turn == turn_ && !last.ends_text && !last.may_shorten &&
          !last.between_turns && !may_shorten) {
        last.text += text;
        return;
      }
    }
    spans_.push_back({.text = std::move(text), .markup = markup, .trained = trained_, .may_shorten = may_shorten, .turn = turn_});
  }

  bool parse_special_, trained_ = false;
  int32_t turn_ = -1;
  std::vector<Span> spans_;
};

bool is_system(const Turn& turn) { return turn.role == "system"; }
bool is_user(const Turn& turn) { return turn.role == "user"; }
bool is_assistant(const Turn& turn) { return turn.role == "assistant"; }

std::string_view name_of(TemplateName name) { return template_names()[size_t(name)]; }

[[noreturn]] void refuse_role(const Turn& turn, std::string_view roles) {
  bad_file("this template knows the roles {}, not {}", roles, in_quotes(turn.role, 60));
}

void check_roles(std::span<const Turn> turns) {
  for (const Turn& turn : turns) {
    if (!is_system(turn) && !is_user(turn) && !is_assistant(turn)) refuse_role(turn, "system, user and assistant");
  }
}

// User, assistant, user, ... The system text is not among the turns.
void check_alternation(std::span<const Turn> turns) {
  for (size_t i = 0; i < turns.size(); ++i) {
    if (!is_user(turns[i]) && !is_assistant(turns[i])) {
      refuse_role(turns[i], is_system(turns[i]) ? "user and assistant behind the first message" : "system, user and assistant");
    }
    if (is_user(turns[i]) != (i % 2 == 0)) {
      bad_file("in this template the roles alternate, user first; {} has the role {}",
               i == 0 ? "the first turn" : fmt::format("turn {}", i + 1), turns[i].role);
    }
  }
}

// A conversation on its way to a template.
struct Conversation {
  std::vector<Turn> turns;  // at least one
  const TemplateOptions& options;
  bool answer_follows;
  bool begins_with_system() const { return is_system(turns[0]); }
  std::span<const Turn> behind_system() const { return std::span(turns).subspan(begins_with_system()); }
};

std::string bos_text(const TemplateOptions& options, std::string_view usual) {
  return options.bos.empty() ? std::string(usual) : options.bos;
}
std::string eos_text(const TemplateOptions& options, std::string_view usual) {
  return options.eos.empty() ? std::string(usual) : options.eos;
}

// ---- ChatML: any role. Source: SmolLM2-Instruct, and the general template of this name.
// The end mark is trained with the line's end behind it, here and below, as in TRL's training templates.

void write_chatml_turn(Writer& out, const Turn& turn) {
  out.markup("<|im_start|>");
  if (is_system(turn) || is_user(turn) || is_assistant(turn)) {
    out.markup(turn.role);
  } else {
    out.text(turn.role);
  }
  out.markup("\n");
  out.train(is_assistant(turn) && turn.trained);
  out.content(turn.content);
  out.markup("<|im_end|>\n");
  out.train(false);
}

void write_chatml(Writer& out, const Conversation& c) {
  for (const Turn& turn : c.turns) {
    if (is_user(turn)) out.begin_turn();
    write_chatml_turn(out, turn);
  }
  if (c.answer_follows) out.markup("<|im_start|>assistant\n");
}

void write_smollm2(Writer& out, const Conversation& c) {
  if (!c.begins_with_system()) {
    out.markup("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n");
  }
  write_chatml(out, c);
}

// ---- Qwen2.5. TRL's training template trains the line's end in front of an answer too.

void write_qwen25(Writer& out, const Conversation& c) {
  check_roles(c.turns);
  if (!c.begins_with_system()) {
    out.markup("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n");
  }
  for (const Turn& turn : c.turns) {
    if (is_user(turn)) out.begin_turn();
    if (!is_assistant(turn)) {
      write_chatml_turn(out, turn);
      continue;
    }
    out.markup("<|im_start|>assistant");
    out.train(turn.trained);
    out.markup("\n");
    out.content(turn.content);
    out.markup("<|im_end|>\n");
    out.train(false);
  }
  if (c.answer_follows) out.markup("<|im_start|>assistant\n");
}

// ---- Qwen3, thinking off (enable_thinking = False). An answer's thoughts are shown behind the last question only, where the
// last answer has a place for them even if it has none.

std::string without(std::string text, bool front, bool back) {
  if (front) text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
  if (back) text.resize(text.find_last_not_of('\n') + 1);
  return text;
}

struct Thoughts {
  std::string thoughts, answer;
};

Thoughts split_thoughts(const std::string& content) {
  constexpr std::string_view kBegin = "<think>", kEnd = "</think>";
  const size_t end = content.find(kEnd);
  if (end == content.npos) return {"", content};
  std::string thoughts = without(content.substr(0, end), false, true);
  if (const size_t begin = thoughts.rfind(kBegin); begin != thoughts.npos) thoughts.erase(0, begin + kBegin.size());
  return {without(std::move(thoughts), true, false), without(content.substr(content.rfind(kEnd) + kEnd.size()), true, false)};
}

void write_qwen3(Writer& out, const Conversation& c) {
  check_roles(c.turns);
  const auto is_question = [](const Turn& turn) {
    const std::string text = turn.content.text();
    return is_user(turn) && !(text.starts_with("<tool_response>") && text.ends_with("</tool_response>"));
  };
  size_t last_question = c.turns.size() - 1;
  for (size_t i = 0; i < c.turns.size(); ++i) {
    if (is_question(c.turns[i])) last_question = i;
  }
  for (size_t i = 0; i < c.turns.size(); ++i) {
    const Turn& turn = c.turns[i];
    if (is_user(turn)) out.begin_turn();
    if (!is_assistant(turn)) {
      write_chatml_turn(out, turn);
      continue;
    }
    auto [thoughts, answer] = split_thoughts(turn.content.text());
    out.markup("<|im_start|>assistant\n");
    out.train(turn.trained);
    if (i > last_question && (i + 1 == c.turns.size() || !thoughts.empty())) {
      out.markup("<think>\n");
      out.text(without(std::move(thoughts), true, true));
      out.markup("\n</think>\n\n");
      answer = without(std::move(answer), true, false);
    }
    out.text(std::move(answer));
    out.markup("<|im_end|>\n");
    out.train(false);
  }
  if (c.answer_follows) out.markup("<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

// ---- Llama 2. The system text stands in the first user's turn.

void write_llama2(Writer& out, const Conversation& c) {
  const std::string bos = bos_text(c.options, "<s>"), eos = eos_text(c.options, "</s>");
  const std::span<const Turn> turns = c.behind_system();
  check_alternation(turns);
  if (turns.empty()) bad_file("this template needs a user's turn, and there is a system text only");
  for (size_t i = 0; i < turns.size(); ++i) {
    Content content = turns[i].content;
    if (is_assistant(turns[i])) {
      out.train(turns[i].trained);
      out.markup(" ");
      out.content(trimmed(std::move(content)));
      out.markup(" " + eos);
      out.train(false);
      continue;
    }
    if (i > 0 || !c.begins_with_system()) {
      out.begin_turn();
      if (i > 0 && c.begins_with_system()) {
        out.between_turns(bos + "[INST] ");
      } else {
        out.markup(bos + "[INST] ");
      }
      out.content(trimmed(std::move(content)));
      out.markup(" [/INST]");
      continue;
    }
    // The template trims the system text and the question as one, so that the question's front is not trimmed.
    out.markup(bos + "[INST] <<SYS>>\n");
    out.content(c.turns[0].content);
    trim_back(content);
    out.markup(content.text().empty() ? "\n<</SYS>>" : "\n<</SYS>>\n\n");
    out.begin_turn();
    out.content(std::move(content));
    out.markup(" [/INST]");
  }
}

// ---- Llama 3: any role; contents are trimmed.

void write_llama3_turn(Writer& out, const Turn& turn) {
  out.markup("<|start_header_id|>");
  if (is_system(turn) || is_user(turn) || is_assistant(turn)) {
    out.markup(turn.role);
  } else {
    out.text(turn.role);
  }
  out.markup("<|end_header_id|>\n\n");
  out.train(is_assistant(turn) && turn.trained);
  out.content(trimmed(turn.content));
  out.markup("<|eot_id|>");
  out.train(false);
}

constexpr std::string_view kLlama3Prefix = "<|start_header_id|>assistant<|end_header_id|>\n\n";

void write_llama3(Writer& out, const Conversation& c) {
  out.markup(bos_text(c.options, "<|begin_of_text|>"));
  for (const Turn& turn : c.turns) {
    if (is_user(turn)) out.begin_turn();
    write_llama3_turn(out, turn);
  }
  if (c.answer_follows) out.markup(kLlama3Prefix);
}

// ---- Llama 3.1, 3.2, 3.3: a system text that begins with two dates. That of 3.2 says the day of rendering; here it is an
// option.

void write_llama31(Writer& out, const Conversation& c) {
  out.markup(bos_text(c.options, "<|begin_of_text|>"));
  out.markup("<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ");
  out.text(c.options.date);
  out.markup("\n\n");
  if (c.begins_with_system()) out.content(trimmed(c.turns[0].content));
  out.markup("<|eot_id|>");
  for (const Turn& turn : c.behind_system()) {
    if (turn.role == "tool" || turn.role == "ipython") refuse_role(turn, "system, user and assistant");
    if (is_user(turn)) out.begin_turn();
    write_llama3_turn(out, turn);
  }
  if (c.answer_follows) out.markup(kLlama3Prefix);
}

// ---- Phi-3. Its tokenizers take the white space behind a mark as part of it. EOS ends the text where no answer follows.

void write_phi3(Writer& out, const Conversation& c, bool shows_empty_system) {
  check_roles(c.turns);
  for (const Turn& turn : c.turns) {
    if (is_user(turn)) out.begin_turn();
    if (is_system(turn) && !shows_empty_system && turn.content.text().empty()) continue;
    out.markup("<|" + turn.role + "|>\n");
    out.train(is_assistant(turn) && turn.trained);
    out.content(turn.content);
    out.markup("<|end|>\n");
    out.train(false);
  }
  if (c.answer_follows) return out.markup("<|assistant|>\n");
  out.train(is_assistant(c.turns.back()) && c.turns.back().trained);
  out.markup(eos_text(c.options, "<|endoftext|>"));
  out.train(false);
}

// ---- Zephyr, TinyLlama.

void write_zephyr(Writer& out, const Conversation& c) {
  check_roles(c.turns);
  for (const Turn& turn : c.turns) {
    if (is_user(turn)) out.begin_turn();
    out.markup("<|" + turn.role + "|>\n");
    out.train(is_assistant(turn) && turn.trained);
    out.content(turn.content);
    out.markup(eos_text(c.options, "</s>") + "\n");
    out.train(false);
  }
  if (c.answer_follows) out.markup("<|assistant|>\n");
}

// ---- Mistral: several forms, which differ in spaces. A system text stands in a user's turn, with an empty line behind it.

struct MistralForm {
  bool takes_system;
  bool system_in_last;                            // the last user's turn, else the first
  std::string_view open, close;                   // of a user's text
  std::string_view before_answer, behind_answer;  // behind: after EOS
  bool trims_answer;
};
// Instruct-v0.1 as first published; Mixtral-8x7B and Instruct-v0.2 as first published; both as published later (v1); v3 of
// Instruct-v0.3; v3 of Nemo, with the tokenizer tekken.
constexpr MistralForm kMistralFirst = {false, false, "[INST] ", " [/INST]", "", " ", false};
constexpr MistralForm kMistralMixtral = {false, false, "[INST] ", " [/INST]", "", "", false};
constexpr MistralForm kMistralV1 = {true, false, " [INST] ", " [/INST]", " ", "", false};
constexpr MistralForm kMistralV3 = {true, true, "[INST] ", "[/INST]", " ", "", true};
constexpr MistralForm kMistralTekken = {true, true, "[INST]", "[/INST]", "", "", false};

// The published templates of v3 show a system text only if a user's turn is the last, so that it is lost in training. Here it
// stands in the last user's turn in any case, as in mistral-common.
void write_mistral(Writer& out, const Conversation& c, const MistralForm& form) {
  if (c.begins_with_system() && !form.takes_system) {
    bad_file("this template has no place for a system text; give one that has, for example --template mistral, or leave it out");
  }
  const std::string eos = eos_text(c.options, "</s>");
  const std::span<const Turn> turns = c.behind_system();
  check_alternation(turns);
  if (turns.empty()) bad_file("this template needs a user's turn, and there is a system text only");
  const size_t with_system = !c.begins_with_system() ? turns.size() : form.system_in_last ? (turns.size() - 1) / 2 * 2 : 0;
  out.markup(bos_text(c.options, "<s>"));
  for (size_t i = 0; i < turns.size(); ++i) {
    if (is_assistant(turns[i])) {
      out.train(turns[i].trained);
      out.markup(form.before_answer);
      out.content(form.trims_answer ? trimmed(turns[i].content) : turns[i].content);
      out.markup(eos);
      out.train(false);
      out.markup(form.behind_answer);
      continue;
    }
    const bool shares_turn = i == with_system && i == 0;  // then the system text stays if the turn leaves
    if (!shares_turn) out.begin_turn();
    if (c.begins_with_system() && !form.system_in_last && i > 0) {
      out.between_turns(form.open);
    } else {
      out.markup(form.open);
    }
    if (i == with_system) {
      out.content(c.turns[0].content);
      out.markup("\n\n");
    }
    if (shares_turn) out.begin_turn();
    out.content(turns[i].content);
    out.markup(form.close);
  }
}

// ---- Alpaca: the forms of its instructions. A system text stands in place of the first sentence.

constexpr std::string_view kAlpacaHead =
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n";
constexpr std::string_view kAlpacaHeadWithInput =
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that "
    "appropriately completes the request.\n\n";
constexpr std::string_view kAlpacaInstruction = "### Instruction:\n", kAlpacaInput = "\n\n### Input:\n",
                           kAlpacaResponse = "\n\n### Response:\n";

void write_alpaca(Writer& out, const Conversation& c) {
  const std::span<const Turn> turns = c.behind_system();
  check_alternation(turns);
  if (turns.empty()) bad_file("this template needs a user's turn, and there is a system text only");
  if (c.begins_with_system()) {
    out.content(c.turns[0].content);
    out.text("\n\n");
  } else {
    out.text(std::string(kAlpacaHead));
  }
  for (size_t i = 0; i < turns.size(); ++i) {
    if (is_assistant(turns[i])) {
      out.train(turns[i].trained);
      out.answer(turns[i].content.text());
      out.train(false);
      continue;
    }
    out.begin_turn();
    if (i > 0) out.between_turns("\n\n");
    out.text(std::string(kAlpacaInstruction));
    out.content(turns[i].content);
    out.text(std::string(kAlpacaResponse));
  }
}

// ---- All of them.

void write(Writer& out, const Conversation& c) {
  switch (c.options.name) {
    case TemplateName::kChatml:
      return write_chatml(out, c);
    case TemplateName::kSmollm2:
      return write_smollm2(out, c);
    case TemplateName::kQwen25:
      return write_qwen25(out, c);
    case TemplateName::kQwen3:
      return write_qwen3(out, c);
    case TemplateName::kLlama2:
      return write_llama2(out, c);
    case TemplateName::kLlama3:
      return write_llama3(out, c);
    case TemplateName::kLlama31:
      return write_llama31(out, c);
    case TemplateName::kMistral:
      return write_mistral(out, c, kMistralV1);
    case TemplateName::kMistral01:
      return write_mistral(out, c, kMistralFirst);
    case TemplateName::kMixtral:
      return write_mistral(out, c, kMistralMixtral);
    case TemplateName::kMistral3:
      return write_mistral(out, c, kMistralV3);
    case TemplateName::kMistralNemo:
      return write_mistral(out, c, kMistralTekken);
    case TemplateName::kPhi3:
      return write_phi3(out, c, true);
    case TemplateName::kPhi35:
      return write_phi3(out, c, false);
    case TemplateName::kZephyr:
      return write_zephyr(out, c);
    case TemplateName::kAlpaca:
      return write_alpaca(out, c);
    case TemplateName::kAuto:
    case TemplateName::kSquad:
    case TemplateName::kNone:
      break;
  }
  bad_file("the form {} is not for conversations; give the model's template with --template", name_of(c.options.name));
}

std::vector<Span> render_turns(std::vector<Turn> turns, const TemplateOptions& options, bool answer_follows) {
  if (turns.empty()) bad_file("the conversation has no message");
  if (!options.system.empty() && !is_system(turns[0])) {
    turns.insert(turns.begin(), Turn{.role = "system", .content = {.before = options.system}});
  }
  Writer out(options.parse_special);
  write(out, {std::move(turns), options, answer_follows});
  return out.take();
}

// The first answer, or what stands for none.
std::string first_answer(const Example& example) { return example.answers.empty() ? std::string(kNoAnswer) : example.answers[0]; }

std::vector<Turn> turns_of(const Example& example) {
  Turn user{"user", {}}, assistant{"assistant", {}};
  switch (example.kind) {
    case ExampleKind::kQuestion:
      user.content = {"Context: ", example.context, fmt::format("\nQuestion: {}", example.prompt)};
      assistant.content.before = first_answer(example);
      break;
    case ExampleKind::kInstruction:
      user.content = {example.prompt + (example.context.empty() ? "" : "\n\n"), example.context, ""};
      assistant.content.before = example.response;
      break;
    case ExampleKind::kCompletion:
      user.content.before = example.prompt;
      assistant.content.before = example.response;
      break;
    case ExampleKind::kConversation: {
      std::vector<Turn> turns;
      for (const Message& m : example.messages) turns.push_back({m.role, {.before = m.content}, m.trained});
      return turns;
    }
    case ExampleKind::kText:
    case ExampleKind::kTokens:
      return {};
  }
  return {std::move(user), std::move(assistant)};
}

// Forms of one prompt and one answer, with EOS behind it.
std::vector<Span> write_form(const Example& example, const TemplateOptions& options) {
  Writer out(options.parse_special);
  std::string answer = example.kind == ExampleKind::kQuestion ? first_answer(example) : example.response;
  const bool has_context = !example.context.empty();
  if (options.name == TemplateName::kSquad) {
    if (example.kind != ExampleKind::kQuestion) bad_file("the form squad takes questions about a context");
    out.content({"Context: ", example.context, fmt::format("\nQuestion: {}\nAnswer:", example.prompt)});
    answer.insert(0, " ");
  } else if (options.name == TemplateName::kAlpaca) {
    out.text(options.system.empty() ? std::string(has_context ? kAlpacaHeadWithInput : kAlpacaHead) : options.system + "\n\n");
    out.content({std::string(kAlpacaInstruction) + example.prompt + std::string(has_context ? kAlpacaInput : ""), example.context,
                 std::string(kAlpacaResponse)});
  } else if (example.kind == ExampleKind::kConversation) {
    bad_file("the form none takes a prompt and an answer, not a conversation; give the model's template with --template");
  } else {
    out.content(turns_of(example)[0].content);
  }
  out.train(true);
  out.answer(std::move(answer));
  return out.take();
}

}  // namespace

std::vector<Message> as_messages(const Example& example) {
  std::vector<Message> messages;
  for (Turn& turn : turns_of(example)) messages.push_back({std::move(turn.role), turn.content.text(), turn.trained});
  return messages;
}

bool is_chat_template(TemplateName name) {
  return name != TemplateName::kSquad && name != TemplateName::kAlpaca && name != TemplateName::kNone;
}

std::vector<std::string_view> end_marks(TemplateName name) {
  switch (name) {
    case TemplateName::kChatml:
    case TemplateName::kSmollm2:
    case TemplateName::kQwen25:
    case TemplateName::kQwen3:
      return {"<|im_end|>"};
    case TemplateName::kLlama3:
    case TemplateName::kLlama31:
      return {"<|eot_id|>"};
    case TemplateName::kPhi3:
    case TemplateName::kPhi35:
      return {"<|end|>", "<|endoftext|>"};
    default:
      return {};  // EOS
  }
}

std::vector<std::string_view> all_end_marks() {
  // Of tool calls, of models that are not chat models, and of templates that are not known.
  std::vector<std::string_view> marks = {"<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "</s>"};
  for (size_t name = 0; name < template_names().size(); ++name) {
    for (const std::string_view mark : end_marks(TemplateName(name))) {
      if (std::find(marks.begin(), marks.end(), mark) == marks.end()) marks.push_back(mark);
    }
  }
  return marks;
}

std::string note_of_missing_marks(TemplateName name, const Tokenizer& tokenizer) {
  const std::vector<std::string_view> marks = end_marks(name);
  const std::string words = fmt::format("the template {} ends an answer with", name_of(name));
  if (marks.empty()) {
    if (tokenizer.eos() || !is_chat_template(name)) return "";
    return words + " EOS, and the tokenizer has none: the model reads and writes it as text";
  }
  if (tokenizer.special_id(marks[0])) return "";
  return fmt::format("{} {}, and the tokenizer has no such token: the model reads and writes it as text", words, marks[0]);
}

TemplateOptions template_options(TemplateName name, const PrepareOptions& options, const Tokenizer* tokenizer) {
  const auto spelled = [&](std::optional<int32_t> id) {
    return id ? tokenizer->decode(std::vector<int32_t>{*id}, false) : std::string();
  };
  TemplateOptions out{.name = name,
                      .system = options.system,
                      .date = options.template_date,
                      .unanswerable = options.unanswerable,
                      .parse_special = options.parse_special};
  if (tokenizer) out.bos = spelled(tokenizer->bos()), out.eos = spelled(tokenizer->eos());
  return out;
}

std::vector<Span> render(const std::vector<Message>& messages, const TemplateOptions& options, bool answer_follows) {
  return render_turns(turns_of(Example{.messages = messages}), options, answer_follows);
}

Sample make_sample(Example example, const TemplateOptions& options) {
  Sample sample{.id = std::move(example.id),
                .title = std::move(example.title),
                .where = std::move(example.where),
                .group = example.group,
                .subgroup = example.subgroup,
                .part_of_trained_row = example.part_of_trained_row};
  switch (example.kind) {
    case ExampleKind::kText:
      sample.plain_text = true;
      sample.spans = {{.text = std::move(example.text), .markup = options.parse_special, .trained = true, .ends_text = true}};
      return sample;
    case ExampleKind::kTokens:
      sample.spans = {{.may_shorten = true, .ids = std::move(example.ids), .labels = std::move(example.labels)}};
      return sample;
    case ExampleKind::kQuestion:
      sample.question = true;
      for (const std::string& answer : example.answers) {
        const std::vector<std::string>& known = sample.answers;
        if (std::find(known.begin(), known.end(), answer) == known.end()) sample.answers.push_back(answer);
      }
      sample.left_out = example.answers.empty() && options.unanswerable == Unanswerable::kSkip;
      if (sample.left_out) return sample;
      break;
    case ExampleKind::kInstruction:
    case ExampleKind::kCompletion:
      sample.question = true;
      sample.answers = {example.response};
      break;
    case ExampleKind::kConversation:
      // A generator is asked for the last answer.
      if (!example.messages.empty() && example.messages.back().role == "assistant" && example.messages.back().trained) {
        sample.question = true;
        sample.answers = {example.messages.back().content};
      }
      break;
  }
  try {
    sample.one_text = is_chat_template(options.name);
    const bool form = !sample.one_text && !(options.name == TemplateName::kAlpaca && example.kind == ExampleKind::kConversation);
    sample.spans = form ? write_form(example, options) : render_turns(turns_of(example), options, false);
  } catch (const Error& e) {
    throw Error(e.exit_code, fmt::format("{}: {}", sample.where, e.what()));
  }
  return sample;
}

}  // namespace tll
