// The rows of instructions, of prompts, of conversations and of texts.
#include <algorithm>
#include <iterator>

#include "data/example_reader.h"
#include "data/sample.h"
#include "src/base/check.h"

namespace tll {
namespace {

// Null, false, 0 and what is empty say nothing, also written as a string.
bool says_nothing(const Json& value) {
  return value.is_null() || value == false || value == 0 || value == "" || value == "[]" || value == "{}" || value == "null" ||
         (value.is_structured() && value.empty());
}

// Keys that change what is trained, and are not implemented.
struct Refused {
  std::string_view key, advice;
};
constexpr std::string_view kNoTools = "tools are not trained here; leave these rows out";
constexpr std::string_view kNoPictures = "pictures and sound are not trained here; leave these rows out";
// Of an assistant's message: whether it is trained, 0 or 1, false or true.
constexpr const char* kTrainedKeys[] = {"weight", "train", "training", "trainable", "train_on_turn", "loss"};
constexpr std::string_view kAsMessages = R"(write these rows as {"messages": [...]}, which have a place for it)";
constexpr Refused kRefusedOfRow[] = {{"tools", kNoTools},
                                     {"functions", kNoTools},
                                     {"function_call", kNoTools},
                                     {"tool_calls", kNoTools},
                                     {"image", kNoPictures},
                                     {"images", kNoPictures},
                                     {"video", kNoPictures},
                                     {"videos", kNoPictures},
                                     {"audio", kNoPictures},
                                     {"audios", kNoPictures},
                                     {"weight", "rows are trained alike; repeat or leave out rows"},
                                     {"train", "rows are trained alike; leave out those that are not"},
                                     {"weights", "rows are trained alike; repeat or leave out rows"}};
constexpr Refused kRefusedOfPrompt[] = {{"system", kAsMessages}, {"system_prompt", kAsMessages}, {"history", kAsMessages}};
constexpr Refused kRefusedOfMessage[] = {
    {"tool_calls", kNoTools},
    {"tool_call_id", kNoTools},
    {"function_call", kNoTools},
    {"images", kNoPictures},
    {"image", kNoPictures},
    {"audio", kNoPictures},
    {"loss_mask", R"(say what is trained by "weight" (0 or 1) of an assistant's message)"},
    {"thinking", "put it into the content, or remove it"},
    {"reasoning", "put it into the content, or remove it"},
    {"reasoning_content", "put it into the content, or remove it"},
};

template <class List>
void refuse_keys(const Place& object, const List& refused) {
  for (const auto& [key, value] : object.value.items()) {
    const auto is = [&key = key](const Refused& r) { return r.key == key; };
    const auto found = std::find_if(std::begin(refused), std::end(refused), is);
    const bool of_training = key == "weight" || key == "train" || key == "loss_mask";  // 0 says much
    if (found != std::end(refused) && !(of_training ? value.is_null() : says_nothing(value))) {
      bad_file("{}: key {} is {}: it changes what is trained, and is not implemented; {}", object.name(), in_quotes(key),
               shown(value), found->advice);
    }
  }
}

// What the readers of this file share: keys, and the id of a row.
class RowReaderBase : public ExampleReader {
 public:
  RowReaderBase(const ExampleOptions& options, std::vector<std::string_view> known)
      : options_(options), unknown_(std::move(known)) {}

  SourceFindings findings() const override {
    SourceFindings all = findings_;
    unknown_.count_into(all.unknown_keys);
    return all;
  }

 protected:
  // An example that has the row's place and id.
  Example begin(const Place& row, ExampleKind kind) {
    if (!row.value.is_object()) row.refuse("an object");
    refuse_keys(row, kRefusedOfRow);
    constexpr std::string_view kHarmless[] = {"id"};
    unknown_.meet(row.value, row.name(), kHarmless);
    Example out{.kind = kind, .where = row.where};
    if (row.has("id") && !row.value["id"].is_structured())
      out.id = row.value["id"].is_string() ? row.value["id"].get<std::string>() : row.value["id"].dump();
    return out;
  }
  uint64_t key(std::string_view shared) const { return group_key(shared, options_.seed); }

  ExampleOptions options_;
  UnknownKeys unknown_;
  SourceFindings findings_;
};

// An instruction, an input to it that may be absent, and a response.
class InstructionRows : public RowReaderBase {
 public:
  InstructionRows(const ExampleOptions& options, const char* input, const char* output, std::vector<std::string_view> known)
      : RowReaderBase(options, std::move(known)), input_(input), output_(output) {}

  void read(const Place& row, std::vector<Example>& out) override {
    Example e = begin(row, ExampleKind::kInstruction);
    refuse_keys(row, kRefusedOfPrompt);
    e.prompt = row.at("instruction").string();
    if (row.has(input_)) e.context = row.at(input_).string();
    e.response = row.at(output_).label();
    e.group = key(e.prompt);
    e.subgroup = key(e.prompt + '\n' + e.context);
    out.push_back(std::move(e));
  }

 private:
  const char *input_, *output_;
};

class TextRows : public RowReaderBase {
 public:
  explicit TextRows(const ExampleOptions& options) : RowReaderBase(options, {"text"}) {}
  void read(const Place& row, std::vector<Example>& out) override {
    Example e = begin(row, ExampleKind::kText);
    e.text = row.at("text").string();
    e.group = e.subgroup = key(e.text);
    out.push_back(std::move(e));
  }
};

// By what names the roles go.
std::string_view role_of(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kRoles[] = {
      {"user", "user"},      {"assistant", "assistant"}, {"system", "system"},     {"developer", "system"},
      {"human", "user"},     {"gpt", "assistant"},       {"chatgpt", "assistant"}, {"bing", "assistant"},
      {"bard", "assistant"}, {"gpt4", "assistant"},      {"gpt-4", "assistant"},   {"model", "assistant"},
      {"bot", "assistant"},  {"prompter", "user"},       {"User", "user"},         {"Assistant", "assistant"},
      {"System", "system"},  {"Human", "user"},          {"ai", "assistant"},      {"AI", "assistant"}};
  const auto is = [&](const auto& pair) { return pair.first == name; };
  const auto found = std::find_if(std::begin(kRoles), std::end(kRoles), is);
  return found == std::end(kRoles) ? "" : found->second;
}

class MessageReader {
 public:
  explicit MessageReader(const Columns* columns) : columns_(columns) {}

  void count_into(SourceFindings& findings) const { keys_.count_into(findings.unknown_keys); }

  std::vector<Message> messages(const Place& list) {
    if (list.value.is_string()) {
      bad_file("{}: expected a list of messages, found a string; if it holds JSON, write the value itself", list.name());
    }
    if (!list.value.is_array()) list.refuse("a list of messages");
    if (list.value.empty()) bad_file("{}: this list has no message", list.name());
    std::vector<Message> out;
    out.reserve(list.value.size());
    for (size_t i = 0; i < list.value.size(); ++i) {
      const Place place{list.value[i], list.file, fmt::format("{}[{}]", list.where, i), true};
      out.push_back(message(place));
    }
    return out;
  }

 private:
  static const char* key_of(const Json& message, const std::string& assigned, const char* first, const char* second) {
    if (!assigned.empty()) return assigned.c_str();
    return !message.contains(first) && message.contains(second) ? second : first;
  }

  Message message(const Place& place) {
    const Json& value = place.value;
    if (!value.is_object()) place.refuse("an object with a role and a content");
    refuse_keys(place, kRefusedOfMessage);
    static const std::string kNone;
    const char* role_key = key_of(value, columns_ ? columns_->role() : kNone, "role", "from");
    const char* content_key = key_of(value, columns_ ? columns_->content() : kNone, "content", "value");
    const std::string harmless[] = {role_key, content_key, "name"};
    const std::string_view views[] = {harmless[0], harmless[1], harmless[2]};
    if (value.size() > 2) keys_.meet(value, place.name(), views);
    const std::string name = place.at(role_key).string();
    const std::string_view role = role_of(name);
    if (role.empty()) {
      const bool tool = name == "tool" || name == "function" || name == "observation" || name == "function_call" ||
                        name == "tool_call" || name == "tool_response" || name == "function_response" || name == "ipython";
      if (tool) bad_file("{}: {}: the role is {}; {}", place.name(), role_key, in_quotes(name), kNoTools);
      bad_file("{}: {}: expected system (developer), user (human) or assistant (gpt, model), found {}", place.name(), role_key,
               in_quotes(name));
    }
    Message out{.role = std::string(role), .content = content(place.at(content_key))};
    for (const char* key : kTrainedKeys) {
      if (!place.has(key)) continue;
      const Json& trained = value[key];
      const bool on = trained == 1 || trained == true, off = trained == 0 || trained == false;
      if (!on && !(off && out.role == "assistant") && !(off && trained.is_boolean())) {
        bad_file("{}: {}: expected 0 or 1 of an assistant's message, found {} of a message of {}", place.name(), key,
                 shown(trained), out.role);
      }
      out.trained &= on || out.role != "assistant";
    }
    return out;
  }

  // A string, or a list of parts that are texts.
  static std::string content(const Place& place) {
    if (place.value.is_string()) return place.value.get<std::string>();
    if (!place.value.is_array()) place.refuse("a string");
    std::string out;
    for (const Place& part : place.elements()) {
      if (part.value.is_string()) {
        out += part.value.get_ref<const std::string&>();
        continue;
      }
      const std::string type = part.at("type").string();
      if (type != "text") bad_file("{}: type: expected text, found {}; {}", part.name(), in_quotes(type), kNoPictures);
      out += part.at("text").string();
    }
    return out;
  }

  const Columns* columns_;
  UnknownKeys keys_{{"role", "content", "from", "value", "weight", "train", "training", "trainable", "train_on_turn", "loss"}};
};

class MessageRows : public RowReaderBase {
 public:
  MessageRows(const ExampleOptions& options, std::vector<std::string_view> known)
      : RowReaderBase(options, std::move(known)), messages_(options.columns) {}

  SourceFindings findings() const override {
    SourceFindings all = RowReaderBase::findings();
    messages_.count_into(all);
    return all;
  }

 protected:
  std::vector<Message> messages(const Place& list) { return messages_.messages(list); }

  void set_groups(Example& e) const {
    std::string users;
    bool first = true;
    for (const Message& m : e.messages) {
      if (m.role != "user") continue;
      if (first) e.group = key(m.content);
      first = false;
      users += m.content;
      users += '\n';
    }
    e.subgroup = key(users);
  }

  // A system text that stands beside the list.
  void add_system(const Place& row, Example& e) {
    if (!row.has("system")) return;
    const std::string text = row.at("system").string();
    if (text.empty()) return;
    const bool has = std::any_of(e.messages.begin(), e.messages.end(), [](const Message& m) { return m.role == "system"; });
    if (has) bad_file("{}: system: there is a system text here, and another one in the messages; remove one", row.name());
    e.messages.insert(e.messages.begin(), {.role = "system", .content = text});
  }

 private:
  MessageReader messages_;
};

class ChatRows : public MessageRows {
 public:
  ChatRows(const ExampleOptions& options, const char* key, bool skip_leading)
      : MessageRows(options, {key, "system"}), key_(key), skip_leading_(skip_leading) {}

  void read(const Place& row, std::vector<Example>& out) override {
    Example e = begin(row, ExampleKind::kConversation);
    e.messages = messages(row.at(key_));
    add_system(row, e);
    if (skip_leading_) leave_out_leading(e);
    set_groups(e);
    out.push_back(std::move(e));
  }

 private:
  // ShareGPT's conversations may begin in their middle, with an answer.
  void leave_out_leading(Example& e) {
    const auto user = std::find_if(e.messages.begin(), e.messages.end(), [](const Message& m) { return m.role == "user"; });
    if (user == e.messages.end()) return;
    const auto answer = std::remove_if(e.messages.begin(), user, [](const Message& m) { return m.role == "assistant"; });
    if (answer == user) return;
    findings_.note("{0} turns of the assistant in front of the first user's turn are left out (the first is in {2})",
                   user - answer, 0, e.where);
    e.messages.erase(answer, user);
  }

  const char* key_;
  bool skip_leading_;
};

class PromptRows : public MessageRows {
 public:
  explicit PromptRows(const ExampleOptions& options) : MessageRows(options, {"prompt", "completion", "response"}) {}

  void read(const Place& row, std::vector<Example>& out) override {
    Example e = begin(row, ExampleKind::kCompletion);
    refuse_keys(row, kRefusedOfPrompt);
    if (row.has("completion") && row.has("response")) {
      bad_file(
          "{}: there is a completion and a response; say which is trained: --columns response=completion or "
          "--columns completion=response",
          row.name());
    }
    const Place prompt = row.at("prompt"),
                response = row.at(row.value.contains("completion") && !row.has("response") ? "completion" : "response");
    if (prompt.value.is_array() || response.value.is_array()) {
      e.kind = ExampleKind::kConversation;
      e.messages = messages(prompt);
      for (Message& m : e.messages) m.trained = false;
      for (Message& m : messages(response)) e.messages.push_back(std::move(m));
      set_groups(e);
    } else {
      e.prompt = prompt.string();
      e.response = response.label();
      e.group = key(e.prompt);
      e.subgroup = key(e.prompt + '\n' + e.response);
    }
    out.push_back(std::move(e));
  }
};

}  // namespace

std::unique_ptr<ExampleReader> example_reader(DataFormat format, const ExampleOptions& options) {
  switch (format) {
    case DataFormat::kSquad:
      return squad_reader(options.seed);
    case DataFormat::kIds:
      return token_row_reader(options.seed, options.vocab_size);
    case DataFormat::kAlpaca:
      return std::make_unique<InstructionRows>(options, "input", "output",
                                               std::vector<std::string_view>{"instruction", "input", "output"});
    case DataFormat::kDolly:
      return std::make_unique<InstructionRows>(options, "context", "response",
                                               std::vector<std::string_view>{"instruction", "context", "response", "category"});
    case DataFormat::kPrompt:
      return std::make_unique<PromptRows>(options);
    case DataFormat::kMessages:
      return std::make_unique<ChatRows>(options, "messages", false);
    case DataFormat::kShareGpt:
      return std::make_unique<ChatRows>(options, "conversations", true);
    case DataFormat::kText:
      return std::make_unique<TextRows>(options);
    case DataFormat::kAuto:
    case DataFormat::kCsv:
    case DataFormat::kParquet:
      break;
  }
  TLL_CHECK(false, "format {}", int(format));
}

std::vector<Message> read_messages(const Json& list, const std::string& file, SourceFindings& findings) {
  MessageReader reader(nullptr);
  std::vector<Message> messages = reader.messages({list, file, "messages", true});
  reader.count_into(findings);
  return messages;
}

Example text_example(std::string text, std::string where, std::string_view file, uint64_t seed) {
  Example e{.kind = ExampleKind::kText, .where = std::move(where), .text = std::move(text)};
  e.group = group_key(file, seed);
  e.subgroup = group_key(e.text, seed);
  return e;
}

}  // namespace tll
