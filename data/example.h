// One example of a data set, as its format has it: what is asked, what is answered, and where it stands in the file. A template
// (data/template.h) makes text of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

// A turn of a conversation. Roles are "system", "user" and "assistant", by whatever name the file has them ("human", "gpt"); any
// other role ("tool") stays as it is, and a template that has no place for it refuses it.
struct Message {
  std::string role, content;
  bool trained = true;  // of an assistant: false where the file says weight 0
};

enum class ExampleKind {
  kQuestion,      // prompt: a question about `context`; answers: gold answers, none: the context does not answer it
  kInstruction,   // prompt: an instruction; context: its input, may be empty; response
  kCompletion,    // prompt, response: as they are
  kConversation,  // messages
  kText,          // text, all of it trained
  kTokens         // ids, labels
};

struct Example {
  ExampleKind kind = ExampleKind::kConversation;
  std::string id = {}, title = {};  // may be empty
  std::string where = {};           // place in the file, for messages: "line 7", "data[3].paragraphs[2].qas[0]"
  std::string prompt = {}, context = {}, response = {}, text = {};
  std::vector<std::string> answers = {};  // of a question: as in the file, duplicates kept
  std::vector<Message> messages = {};
  std::vector<int32_t> ids = {}, labels = {};  // of one length; labels as in a Dataset
  bool part_of_trained_row = false;            // ids: other documents of its packed row are trained
  // Keys of what the split holds out: whole groups, or subgroups if groups are too few. What examples share is what is hashed:
  // the article and the context of a question, the file of a text, the prompt of an instruction, the first user's turn.
  uint64_t group = 0, subgroup = 0;
};

// As a conversation, for chat templates. A question is a user's turn "Context: {context}\nQuestion: {question}"; an instruction
// is followed by its input behind an empty line. Not for kText and kTokens.
std::vector<Message> as_messages(const Example& example);

}  // namespace tll
