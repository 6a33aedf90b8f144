// Templates without a tokenizer, for fingerprints.py.
//
//   template_lines fingerprint FILE...         the fingerprint of the chat_template in each file
//   template_lines render TEMPLATE BOS EOS     a conversation a line -> its text, and its text where an answer follows
#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "data/chat_template.h"
#include "data/template.h"
#include "src/base/file.h"
#include "src/base/json.h"

namespace {

using namespace tll;

std::string text_of(const std::vector<Message>& messages, const TemplateOptions& form, bool answer_follows) {
  std::string text;
  for (const Span& span : render(messages, form, answer_follows)) text += span.text;
  return text;
}

void render_lines(const std::string& name, const std::string& bos, const std::string& eos) {
  const auto& names = template_names();
  const auto found = std::find(names.begin(), names.end(), name);
  const TemplateOptions form{.name = TemplateName(found - names.begin()), .bos = bos, .eos = eos};
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<Message> messages;
    for (const Json& m : parse_json(line, "standard input")) messages.push_back({m["role"], m["content"]});
    fmt::print("{}\n", json_text({text_of(messages, form, false), text_of(messages, form, true)}));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() == 4 && words[0] == "render") render_lines(words[1], words[2], words[3]);
  for (size_t i = 1; i < words.size() && words[0] == "fingerprint"; ++i)
    fmt::print("{:016x}\n", jinja_fingerprint(read_file(words[i])));
}
