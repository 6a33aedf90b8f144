#include "data/example.h"

#include "data/squad.h"
#include "src/base/check.h"

namespace tll {

std::vector<Message> as_messages(const Example& example) {
  const auto turns = [](std::string asked, std::string answered) {
    return std::vector<Message>{{.role = "user", .content = std::move(asked)},
                                {.role = "assistant", .content = std::move(answered)}};
  };
  switch (example.kind) {
    case ExampleKind::kQuestion:
      return turns("Context: " + example.context + "\nQuestion: " + example.prompt,
                   example.answers.empty() ? std::string(kNoAnswer) : example.answers[0]);
    case ExampleKind::kInstruction:
      return turns(example.context.empty() ? example.prompt : example.prompt + "\n\n" + example.context, example.response);
    case ExampleKind::kCompletion:
      return turns(example.prompt, example.response);
    case ExampleKind::kConversation:
      return example.messages;
    case ExampleKind::kText:
    case ExampleKind::kTokens:
      break;
  }
  TLL_CHECK(false, "kind {}", int(example.kind));
}

}  // namespace tll
