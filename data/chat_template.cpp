#include "data/chat_template.h"

#include <xxhash.h>

#include <algorithm>

#include "data/template.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json.h"

namespace tll {
namespace {

constexpr std::string_view kBlanks = " \t\n\v\f\r";
constexpr char kEndOfWord = '\x1f', kStatement = '\x1e', kShown = '\x1d';

bool is_blank(char c) { return kBlanks.find(c) != kBlanks.npos; }

bool is_word_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || uint8_t(c) >= 0x80;
}

// \n, \r and \r\n are one line's end each; one at the end of the text does not count.
std::string with_line_feeds(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    out += text[i] == '\r' ? '\n' : text[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Canonical {
 public:
  explicit Canonical(std::string_view text) : text_(text) {}

  std::string take() {
    while (at_ < text_.size()) {
      const size_t begin = std::min(next_tag(), text_.size());
      shown(begin);
      if (begin < text_.size()) tag();
    }
    flush();
    return std::move(out_);
  }

 private:
  size_t next_tag() const {
    size_t at = at_;
    while ((at = text_.find('{', at)) != text_.npos && at + 1 < text_.size()) {
      const char next = text_[at + 1];
      if (next == '{' || next == '%' || next == '#') return at;
      ++at;
    }
    return text_.npos;
  }

  // The text up to a tag, without the spaces that the tag takes.
  void shown(size_t end) {
    std::string_view part = text_.substr(at_, end - at_);
    if (end < text_.size()) {
      const char kind = text_[end + 1], sign = end + 2 < text_.size() ? text_[end + 2] : ' ';
      if (sign == '-') {
        part = part.substr(0, part.find_last_not_of(kBlanks) + 1);
      } else if (kind != '{' && sign != '+') {
        const size_t line = part.rfind('\n') + 1;  // 0: the part has no line's end
        const bool begins_line = line > 0 || at_ == 0 || text_[at_ - 1] == '\n';
        if (begins_line && part.find_first_not_of(kBlanks, line) == part.npos) part = part.substr(0, line);
      }
    }
    shown_ += part;
    at_ = end;
  }

  void flush() {
    if (!shown_.empty()) out_ += kShown + shown_;
    shown_.clear();
  }

  void tag() {
    const char kind = text_[at_ + 1];
    at_ += 2;
    if (at_ < text_.size() && (text_[at_] == '-' || text_[at_] == '+')) ++at_;
    const std::string_view close = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    if (kind == '#') {
      at_ = std::min(text_.find(close, at_), text_.size());
    } else {
      flush();
      out_ += kStatement;
      out_ += kind;
      while (at_ < text_.size() && !closes(close)) word();
    }
    char sign = text_.substr(at_, 1) == close.substr(0, 1) ? ' ' : at_ < text_.size() ? text_[at_++] : ' ';
    if (kind == '#' && text_[at_ - 1] == '-') sign = '-';
    at_ = std::min(at_ + close.size(), text_.size());
    if (sign == '-') {
      at_ = std::min(text_.find_first_not_of(kBlanks, at_), text_.size());
    } else if (kind != '{' && sign != '+' && text_.substr(at_).starts_with('\n')) {
      ++at_;
    }
  }

  bool closes(std::string_view close) const {
    const std::string_view rest = text_.substr(at_);
    return rest.starts_with(close) || ((rest.starts_with('-') || rest.starts_with('+')) && rest.substr(1).starts_with(close));
  }

  void word() {
    const char c = text_[at_];
    if (is_blank(c)) {
      ++at_;
    } else if (c == '\'' || c == '"') {
      string(c);
    } else if (is_word_character(c)) {
      while (at_ < text_.size() && is_word_character(text_[at_])) out_ += text_[at_++];
      out_ += kEndOfWord;
    } else {
      out_ += c;
      out_ += kEndOfWord;
      ++at_;
    }
  }

  void string(char quote) {
    std::string value;
    for (++at_; at_ < text_.size() && text_[at_] != quote; ++at_) {
      char c = text_[at_];
      if (c == '\\' && at_ + 1 < text_.size()) {
        const char next = text_[++at_];
        c = next == 'n' ? '\n' : next == 't' ? '\t' : next == 'r' ? '\r' : next;
        if (std::string_view("ntr\\'\"").find(next) == std::string_view::npos) value += '\\';
      }
      value += c;
    }
    at_ = std::min(at_ + 1, text_.size());  // behind the quote, if there is one
    out_ += fmt::format("\"{}:{}", value.size(), value);
    out_ += kEndOfWord;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string out_, shown_;
};

struct Known {
  uint64_t fingerprint;
  TemplateName name;
};

// Fingerprints of published templates whose code is in template.cpp. How they were found, and how it was checked that they show
// the same text: dev/template_compare/README.md.
constexpr Known kKnown[] = {
#include "data/known_templates.inc"
};

std::string names_of_templates() {
  std::string names;
  for (const std::string_view name : template_names()) {
    if (name != "auto" && name != "squad" && name != "none") names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  }
  return names;
}

[[noreturn]] void refuse_unknown(std::string_view jinja) {
  fail(kExitUsage,
       "the model's chat_template is not one of those that this program has code for (fingerprint {:016x}, {} bytes, it begins "
       "{}): name the template that shows the same text with --template, one of {}",
       jinja_fingerprint(jinja), jinja.size(), in_quotes(jinja, 40), names_of_templates());
}

TemplateChoice of_model(const PrepareOptions& options) {
  const auto known = recognise_template(options.model_template);
  if (!known) refuse_unknown(options.model_template);
  return {*known, fmt::format("the model's own chat_template, which is {}", template_names()[size_t(*known)])};
}

}  // namespace

std::string canonical_jinja(std::string_view jinja) { return Canonical(with_line_feeds(jinja)).take(); }

uint64_t jinja_fingerprint(std::string_view jinja) {
  const std::string canonical = canonical_jinja(jinja);
  return XXH3_64bits(canonical.data(), canonical.size());
}

std::optional<TemplateName> recognise_template(std::string_view jinja) {
  const uint64_t fingerprint = jinja_fingerprint(jinja);
  const auto found =
      std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& k) { return k.fingerprint == fingerprint; });
  if (found == std::end(kKnown)) return std::nullopt;
  return found->name;
}

std::string read_chat_template(const TextFiles& files) {
  constexpr size_t kMaxBytes = size_t{1} << 20;  // the longest published ones have 20 KB
  constexpr const char *kOwn = "chat_template.jinja", *kConfig = "tokenizer_config.json";
  const auto too_long = [](size_t bytes) { return fmt::format("<{} bytes, which are not read>", bytes); };
  if (files.has(kOwn)) {
    std::string text = files.read(kOwn);
    return text.size() > kMaxBytes ? too_long(text.size()) : text;
  }
  if (!files.has(kConfig)) return "";
  const Json json = parse_json(files.read(kConfig), files.where(kConfig));
  if (!json.is_object()) bad_file("{}: expected an object, found {}", files.where(kConfig), json.type_name());
  const auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) return "";
  const Json* value = &*found;
  if (found->is_array()) {
    const auto is_default = [](const Json& entry) {
      return entry.is_object() && entry.contains("name") && entry["name"] == "default" && entry.contains("template");
    };
    const auto entry = std::find_if(found->begin(), found->end(), is_default);
    if (entry != found->end()) value = &(*entry)["template"];
  }
  std::string text = value->is_string() ? value->get<std::string>() : json_text(*value);
  return text.size() > kMaxBytes ? too_long(text.size()) : text;
}

TemplateChoice choose_template(DataFormat format, const PrepareOptions& options) {
  const bool has_turns = format != DataFormat::kText && format != DataFormat::kIds;
  const bool converses = format == DataFormat::kMessages || format == DataFormat::kShareGpt;
  const TemplateName given = options.template_name;
  const std::string_view word = template_names()[size_t(given)], rows = data_format_names()[size_t(format)];
  TemplateChoice choice;
  if (given != TemplateName::kAuto) {
    if (!has_turns && given != TemplateName::kNone) {
      fail(kExitUsage, "--template {} is for prompts and conversations, and the data are {}; leave it out", word,
           format == DataFormat::kText ? "texts" : "token ids");
    }
    if (given == TemplateName::kSquad && format != DataFormat::kSquad) {
      fail(kExitUsage, "--template squad is the form of questions about a context, and the rows are of the format {}", rows);
    }
    if (given == TemplateName::kNone && converses) {
      fail(kExitUsage, "--template none takes prompts, and the rows are conversations; give one of {}", names_of_templates());
    }
    choice = {given, fmt::format("--template {}", word)};
  } else if (!has_turns) {
    choice = {TemplateName::kNone, "texts and ids need none"};
  } else if (format == DataFormat::kSquad) {
    choice = {TemplateName::kSquad, "questions about a context"};
  } else if (format == DataFormat::kPrompt) {
    choice = {TemplateName::kNone, "prompts and answers are taken as they are; --template gives them another form"};
  } else if (!options.model_template.empty()) {
    choice = of_model(options);
  } else if (converses) {
    fail(kExitUsage, "conversations need a template, and the model has no chat_template: name one with --template, one of {}",
         names_of_templates());
  } else {
    choice = {TemplateName::kAlpaca, "instructions, and the model has no chat_template"};
  }
  const bool ignores_system = choice.name == TemplateName::kNone || choice.name == TemplateName::kSquad;
  if (!options.system.empty() && ignores_system) {
    fail(kExitUsage,
         "--system is the system text of conversations, and the form {} has no place for it; leave it out, or give "
         "another --template",
         template_names()[size_t(choice.name)]);
  }
  return choice;
}

}  // namespace tll
