#include "src/options/options.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "src/base/check.h"
#include "src/options/option_table.h"

namespace tll {
namespace {

// One option as typed: which row, and for a shorthand (--bf16) the value that it stands for.
struct Match {
  const OptionRow* row = nullptr;
  std::string_view shorthand;
};

std::string replaced(std::string_view text, char from, char to) {
  std::string name(text);
  std::replace(name.begin(), name.end(), from, to);
  return name;
}
std::string normalized(std::string_view typed) { return replaced(typed, '_', '-'); }
std::string snake_case(const OptionRow& row) { return replaced(row.name, '-', '_'); }

Match find_option(const std::string& name) {
  for (const OptionRow& row : option_rows()) {
    if (row.name == name || std::find(row.aliases.begin(), row.aliases.end(), name) != row.aliases.end()) return {&row, {}};
    for (const auto& [shorthand, value] : row.shorthands) {
      if (shorthand == name) return {&row, value};
    }
  }
  return {};
}

// How many letters must be put in, taken out, replaced, or swapped with the next, to turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

// The word nearest to what was typed, or nothing if none is near: at most a third of the letters differ.
std::string_view nearest(std::string_view typed, const Words& words) {
  std::string_view best;
  size_t best_distance = std::min(std::max<size_t>(1, typed.size() / 3) + 1, typed.size());  // something must be alike
  for (std::string_view word : words) {
    const size_t distance = edit_distance(typed, word);
    if (distance < best_distance) best = word, best_distance = distance;
  }
  return best;
}

Command read_command(const std::string& word) {
  for (const CommandRow& row : command_rows()) {
    if (row.name == word) return row.command;
  }
  const Words names = command_names();
  if (word == "export") fail(kExitUsage, "export is not in this version; expected one of {}", fmt::join(names, ", "));
  const std::string_view near = nearest(word, names);
  std::error_code none;
  if (near.empty() && std::filesystem::exists(word, none))
    fail(kExitUsage, "'{}' is a file and not a command; a data set is named with --data, a model with --model", word);
  if (!near.empty()) fail(kExitUsage, "unknown command '{}'; did you mean '{}'?", word, near);
  fail(kExitUsage, "unknown command '{}'; expected one of {}", word, fmt::join(names, ", "));
}

[[noreturn]] void unknown_option(const std::string& typed, const std::string& name, Command command) {
  Words taken, all;
  for (const OptionRow& row : option_rows()) {
    Words names = row.aliases;
    names.push_back(row.name);
    for (const auto& shorthand : row.shorthands) names.push_back(shorthand.first);
    all.insert(all.end(), names.begin(), names.end());
    if (row.taken_by(command)) taken.insert(taken.end(), names.begin(), names.end());
  }
  std::string_view near = nearest(name, taken);
  if (near.empty()) near = nearest(name, all);
  if (!near.empty()) fail(kExitUsage, "unknown option {}; did you mean --{}?", typed, near);
  fail(kExitUsage, "unknown option {}; `train_llama_lora {} --help` lists the options", typed, command_name(command));
}

bool is_option(const std::string& argument) {
  if (argument == "-h") return true;
  if (argument.rfind("--", 0) != 0) return false;
  return find_option(normalized(argument.substr(2, argument.find('=') - 2))).row != nullptr;
}

class Parser {
 public:
  explicit Parser(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  Options parse() {
    read_command_words();
    for (const OptionRow& row : option_rows()) {
      for (const auto& [command, text] : row.command_defaults) {
        if (command == options_.command) set_value(row, options_, text, row.name);
      }
    }
    while (next_ < arguments_.size()) read_option();
    if (options_.plan) options_.command = Command::kPlan;
    if (!options_.help && !options_.man) require_options();
    return std::move(options_);
  }

 private:
  void read_command_words() {
    if (arguments_.empty() || arguments_[0].empty() || arguments_[0][0] == '-') return;
    options_.command = read_command(arguments_[next_++]);
    options_.command_named = true;
    if (command_row(options_.command).topic.empty()) return;
    if (next_ < arguments_.size() && arguments_[next_][0] != '-') options_.topic = arguments_[next_++];
    if (options_.command == Command::kHelp && !options_.topic.empty()) read_command(options_.topic);
  }

  void read_option() {
    const std::string& argument = arguments_[next_++];
    if (argument.empty() || argument[0] != '-')
      fail(kExitUsage, "found '{}' where an option was expected; options begin with --, and the command comes first", argument);
    const size_t equals = argument.find('=');
    const std::string typed = argument.substr(0, equals);
    const size_t dashes = std::min(typed.size(), typed.find_first_not_of('-'));
    const std::string name = normalized(typed.substr(dashes));
    const Match match = dashes == 2 || typed == "-h" ? find_option(name) : Match{};
    if (match.row == nullptr) unknown_option(typed, name, options_.command);
    const OptionRow& row = *match.row;
    if (!row.taken_by(options_.command))
      fail(kExitUsage, "{} is not an option of {}; it is one of {}", typed, command_name(options_.command),
           fmt::join(command_names(row.commands), ", "));

    std::optional<std::string> value;
    if (equals != std::string::npos) value = argument.substr(equals + 1);
    if (match.shorthand.empty()) {
      set_value(row, options_, value ? *value : following_value(row, typed), typed);
    } else if (!wanted(value, typed)) {
      return;
    } else {
      set_value(row, options_, match.shorthand, typed);
    }
    options_.given_names.emplace(row.name);
  }

  // The value of an option that was typed without '='.
  std::string following_value(const OptionRow& row, const std::string& typed) {
    const bool more = next_ < arguments_.size();
    if (!row.bare.empty()) {
      const bool given = more && !arguments_[next_].starts_with('-') && accepts_value(row, arguments_[next_]);
      return given ? arguments_[next_++] : std::string(row.bare);
    }
    if (!more || is_option(arguments_[next_])) fail(kExitUsage, "{} needs a value: {}", typed, expected_value(row));
    return arguments_[next_++];
  }

  // A shorthand is a flag: `--bf16`, `--bf16 true`, `--bf16 false`. It is read as the flag --plan is.
  bool wanted(const std::optional<std::string>& value, const std::string& typed) {
    const OptionRow& flag = *find_option("plan").row;
    Options scratch;
    set_value(flag, scratch, value ? *value : following_value(flag, typed), typed);
    return scratch.plan;
  }

  void require_options() const {
    for (const OptionRow& row : option_rows()) {
      if ((row.required & command_bit(options_.command)) && !options_.given(row.name))
        fail(kExitUsage, "{} needs --{} {}: {}", command_name(options_.command), row.name, row.value, description(row));
    }
    if (options_.command == Command::kCompletion && options_.topic.empty())
      fail(kExitUsage, "completion needs a shell: {}", command_row(Command::kCompletion).topic);
  }

  const std::vector<std::string>& arguments_;
  size_t next_ = 0;
  Options options_;
};

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) { return Parser(arguments).parse(); }

bool Options::given(std::string_view name) const {
  const std::string wanted = normalized(name);
  const Match match = find_option(wanted);
  TLL_CHECK(match.row != nullptr && match.row->name == wanted, "no option '{}' in the table", name);
  return given_names.count(wanted) > 0;
}

Json options_json(const Options& options) {
  Json json = Json::object();
  json["command"] = command_name(options.command);
  for (const OptionRow& row : option_rows()) {
    if (row.taken_by(options.command) && row.name != "help" && row.name != "man")
      json[snake_case(row)] = value_json(row, options);
  }
  return json;
}

Json resume_settings_json(const Options& options) {
  Json json = Json::object();
  for (const OptionRow& row : option_rows()) {
    if (row.fixed_on_resume) json[snake_case(row)] = value_json(row, options);
  }
  return json;
}

const CommandRow& command_row(Command command) {
  const CommandRow& row = command_rows().at(static_cast<size_t>(command));
  TLL_CHECK(row.command == command, "{} is out of order", row.name);
  return row;
}

Words command_names(unsigned commands) {
  Words names;
  for (const CommandRow& row : command_rows()) {
    if (commands & command_bit(row.command)) names.push_back(row.name);
  }
  return names;
}

const char* command_name(Command command) { return command_row(command).name.data(); }

}  // namespace tll
