#include "data/prompt.h"

#include "src/base/check.h"

namespace tll {
namespace {

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

}  // namespace tll
