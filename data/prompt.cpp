#include "data/prompt.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/json.h"

namespace tll {
namespace {

const PromptTemplate kTemplates[] = {
    {"squad",
     [](const SquadSample& s, std::string_view context) {
       return fmt::format("Context: {}\nQuestion: {}\nAnswer:", context, s.question);
     },
     [](std::string_view answer) { return fmt::format(" {}", answer); }},
};

constexpr std::string_view kBlanks = " \t\n\v\f\r";

std::string_view trimmed(std::string_view s) {
  const size_t begin = s.find_first_not_of(kBlanks);
  return begin == std::string_view::npos ? std::string_view() : s.substr(begin, s.find_last_not_of(kBlanks) - begin + 1);
}

// The answer's tokens behind `prompt` when the whole text does not begin with the prompt's tokens.
std::vector<int32_t> encode_answer_apart(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt, std::string_view answer,
                                         const std::string& whole) {
  for (const bool without_space : {false, true}) {
    if (without_space && !answer.starts_with(' ')) break;
    std::vector<int32_t> ids = tokenizer.encode(without_space ? answer.substr(1) : answer);
    std::vector<int32_t> all = prompt;
    all.insert(all.end(), ids.begin(), ids.end());
    if (tokenizer.decode(all) == whole) return ids;
  }
  bad_file(
      "the tokenizer joins the end of a prompt with the answer behind it, and no encoding of the answer {} alone decodes to "
      "that text; use a model with another tokenizer",
      in_quotes(answer));
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

std::vector<int32_t> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt) {
  std::vector<int32_t> ids = tokenizer.encode(prompt);
  if (tokenizer.adds_bos() && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

TokenizedSample tokenize_sample(const Tokenizer& tokenizer, std::string_view prompt, std::string_view answer) {
  if (!tokenizer.eos()) bad_file("the tokenizer has no end-of-text token (eos), so an answer's end cannot be trained");
  const std::vector<int32_t> head = tokenizer.encode(prompt);
  std::string text(prompt);
  text += answer;
  std::vector<int32_t> whole = tokenizer.encode(text);
  if (!(whole.size() >= head.size() && std::equal(head.begin(), head.end(), whole.begin()))) {
    const std::vector<int32_t> tail = encode_answer_apart(tokenizer, head, answer, text);
    whole = head;
    whole.insert(whole.end(), tail.begin(), tail.end());
  }
  TokenizedSample out{std::move(whole), int32_t(head.size())};
  if (tokenizer.adds_bos() && tokenizer.bos()) {
    out.tokens.insert(out.tokens.begin(), *tokenizer.bos());
    ++out.prompt_tokens;
  }
  out.tokens.push_back(*tokenizer.eos());
  return out;
}

std::string answer_from_generation(std::string_view generated, bool unanswerable_trained) {
  std::string_view answer = trimmed(generated);
  answer = trimmed(answer.substr(0, answer.find('\n')));
  return unanswerable_trained && answer == kNoAnswer ? "" : std::string(answer);
}

}  // namespace tll
