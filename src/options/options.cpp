#include "src/options/options.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "src/base/check.h"
#include "src/base/spelling.h"
#include "src/options/foreign_options.h"
#include "src/options/nearest.h"
#include "src/options/option_table.h"
#include "src/options/run_options.h"

namespace tll {
namespace {

constexpr size_t kMaxShown = 60;  // bytes of what was typed that a message repeats as it is

// One option as typed: which row, and the shorthand if it is one.
struct Match {
  const OptionRow* row = nullptr;
  const Shorthand* shorthand = nullptr;
};

std::string replaced(std::string_view text, char from, char to) {
  std::string name(text);
  std::replace(name.begin(), name.end(), from, to);
  return name;
}
std::string normalized(std::string_view typed) { return replaced(typed, '_', '-'); }

// Commands may have options of one name: the command's own comes first.
Match find_option(const std::string& name, std::optional<Command> command = std::nullopt) {
  Match first;
  for (const OptionRow& row : option_rows()) {
    Match match;
    if (row.name == name || std::find(row.aliases.begin(), row.aliases.end(), name) != row.aliases.end()) match.row = &row;
    for (const Shorthand& shorthand : row.shorthands)
      if (shorthand.name == name) match = {&row, &shorthand};
    if (match.row == nullptr) continue;
    if (!command || row.taken_by(*command)) return match;
    if (first.row == nullptr) first = match;
  }
  return first;
}

Command read_command(const std::string& word) {
  for (const CommandRow& row : command_rows()) {
    if (row.name == word) return row.command;
  }
  const Words names = command_names();
  const std::string_view near = nearest(word, names);
  std::error_code none;
  if (near.empty() && std::filesystem::exists(word, none))
    fail(kExitUsage, "{} is a file and not a command; a data set is named with --data, a model with --model", in_quotes(word));
  if (!near.empty()) fail(kExitUsage, "unknown command {}; did you mean {}?", in_quotes(word), near);
  fail(kExitUsage, "unknown command {}; expected one of {}", in_quotes(word), fmt::join(names, ", "));
}

[[noreturn]] void unknown_option(const std::string& typed, const std::string& name, Command command) {
  Words taken, all;
  for (const OptionRow& row : option_rows()) {
    const Words names = names_of(row);
    all.insert(all.end(), names.begin(), names.end());
    if (row.taken_by(command)) taken.insert(taken.end(), names.begin(), names.end());
  }
  for (const ForeignOption& option : foreign_options())
    if (!option.name.ends_with('*')) all.push_back(option.name);
  std::string_view near = nearest(name, taken);
  if (near.empty()) near = nearest(name, all);
  const std::string shown = typed.size() <= kMaxShown ? typed : in_quotes(typed);
  if (!near.empty()) fail(kExitUsage, "unknown option {}; did you mean --{}?", shown, near);
  fail(kExitUsage, "unknown option {}; `train_llama_lora {} --help` lists the options", shown, command_name(command));
}

// A word that stands where an option should: a path, another program's `epochs=3`, or a hyphen that a word processor made long.
[[noreturn]] void not_an_option(const std::string& argument) {
  const std::string name = argument.substr(0, argument.find('='));
  std::string guess;
  if (name.size() < argument.size() && find_option(normalized(name)).row != nullptr) guess = "--" + argument;
  for (const std::string_view dash : {"\u2013", "\u2014"}) {
    std::string_view rest = argument;
    while (rest.starts_with(dash)) rest.remove_prefix(dash.size());
    if (rest.size() < argument.size())
      guess = fmt::format("--{}", rest.substr(std::min(rest.find_first_not_of('-'), rest.size())));
  }
  fail(kExitUsage, "found {} where an option was expected; options begin with --, and the command comes first{}",
       in_quotes(argument), did_you_mean(guess.size() <= kMaxShown ? guess : ""));
}

// The option that begins with these dashes and has this name.
Match match_option(size_t dashes, const std::string& name, Command command) {
  if (dashes == 2) return find_option(name, command);
  for (const OptionRow& row : option_rows()) {
    if (dashes == 1 && name.size() == 1 && row.letter == name[0]) return {&row, {}};
  }
  return {};
}

bool is_option(const std::string& argument, Command command) {
  const size_t dashes = std::min(argument.size(), argument.find_first_not_of('-'));
  return match_option(dashes, normalized(argument.substr(dashes, argument.find('=') - dashes)), command).row != nullptr;
}

class Parser {
 public:
  explicit Parser(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  Options parse() {
    read_arguments(std::nullopt);
    if (const auto run = read_run_options(options_.config)) read_arguments(run);
    if (!options_.help && !options_.man && !options_.version) require_options();
    return std::move(options_);
  }

 private:
  // With a run's options in place of the defaults, all arguments are read a second time: the first one says what is typed.
  void read_arguments(const std::optional<RunOptions>& run) {
    const auto typed = std::exchange(options_, {}).given_names;
    next_ = 0;
    options_.arguments = arguments_;
    if (arguments_.empty()) options_.command = Command::kHelp;
    read_command_words();
    for (const OptionRow& row : option_rows()) {
      for (const auto& [command, text] : row.command_defaults) {
        if (command == options_.command) set_value(row, options_, text, row.name);
      }
    }
    if (run) take_run_options(*run, typed, options_);
    const std::filesystem::path config = options_.config;
    while (next_ < arguments_.size()) read_option();
    if (run) options_.config = config;
    if (run && config.empty()) options_.given_names.erase("config");
    // A batch that was chosen for a number of rows has that number no more once it is another.
    const bool holds = options_.batch_size * options_.grad_accum == options_.effective_batch;
    if (run && !typed.contains("effective-batch") && options_.batch_size != kAutomatic && !holds) options_.effective_batch = 0;
    for (const auto& [row, text] : implying_) set_implied(*row, options_, text);
    if (options_.plan) options_.command = Command::kPlan;
  }

  void read_command_words() {
    if (arguments_.empty() || arguments_[0].empty() || arguments_[0][0] == '-') return;
    if (arguments_[0].find('=') != std::string::npos || arguments_[0].starts_with("\u2013") ||
        arguments_[0].starts_with("\u2014"))
      not_an_option(arguments_[0]);
    options_.command = read_command(arguments_[next_++]);
    options_.command_named = true;
    if (command_row(options_.command).topic.empty()) return;
    if (next_ < arguments_.size() && arguments_[next_][0] != '-') options_.topic = arguments_[next_++];
    if (options_.command == Command::kHelp && !options_.topic.empty()) read_command(options_.topic);
  }

  void read_option() {
    const std::string& argument = arguments_[next_++];
    if (argument.empty() || argument[0] != '-') not_an_option(argument);
    const size_t equals = argument.find('=');
    const std::string typed = argument.substr(0, equals);
    const size_t dashes = std::min(typed.size(), typed.find_first_not_of('-'));
    const std::string name = normalized(typed.substr(dashes));
    std::optional<std::string> value;
    if (equals != std::string::npos) value = argument.substr(equals + 1);
    const Match match = match_option(dashes, name, options_.command);
    if (match.row == nullptr) {
      const ForeignOption* foreign = dashes == 2 ? find_foreign_option(name) : nullptr;
      if (foreign == nullptr) unknown_option(typed, name, options_.command);
      return read_foreign(*foreign, typed, value);
    }
    const OptionRow& row = *match.row;
    if (!row.taken_by(options_.command))
      fail(kExitUsage, "{} is not an option of {}; it is one of {}", typed, command_name(options_.command),
           fmt::join(command_names(row.commands), ", "));
    if (match.shorthand == nullptr) {
      const std::string text = value ? *value : following_value(row, typed);
      set_value(row, options_, text, typed);
      for (const std::string_view item : foreign_items(row, text)) say_without_effect(fmt::format("{}={}", typed, item));
      if (!row.implies.empty()) implying_[&row] = text;
    } else if (wanted(value, typed)) {
      set_value(row, options_, match.shorthand->on, typed);
    } else if (!match.shorthand->off.empty()) {
      set_value(row, options_, match.shorthand->off, typed);
    } else {
      options_.declined.emplace(match.shorthand->on);
      if (value_text(row, options_) == match.shorthand->on) set_value(row, options_, default_text(row, options_.command), typed);
      return;
    }
    options_.given_names.emplace(row.name);
  }

  // The value of an option that was typed without '='.
  std::string following_value(const OptionRow& row, const std::string& typed) {
    const bool more = next_ < arguments_.size();
    if (!row.bare.empty()) {
      const bool given = more && !arguments_[next_].starts_with('-') &&
                         (accepts_value(row, arguments_[next_]) || !guess_value(row, arguments_[next_]).empty());
      return given ? arguments_[next_++] : std::string(row.bare);
    }
    if (!more || is_option(arguments_[next_], options_.command))
      fail(kExitUsage, "{} needs a value: {}", typed, expected_value(row));
    return arguments_[next_++];
  }

  // An option of another trainer. Its value is the next argument if that is no option. A flag needs none.
  void read_foreign(const ForeignOption& option, const std::string& typed, std::optional<std::string> value) {
    const auto is_value = [&](const std::string& text) {
      const std::string word = lower_case(text);
      if (option.flag) return word == "auto" || word == "none" || accepts_value(*find_option("plan").row, text);
      const bool negative = text.size() > 1 && text[0] == '-' && text[1] >= '0' && text[1] <= '9';
      return negative || !text.starts_with('-');
    };
    if (!value && next_ < arguments_.size() && is_value(arguments_[next_])) value = arguments_[next_++];
    if (!changes_nothing(option, value.value_or("true")))
      fail(kExitUsage, "{} {}: {}", typed, in_quotes(value.value_or("true")), option.refusal);
    say_without_effect(typed);
  }

  void say_without_effect(const std::string& typed) {
    auto& names = options_.without_effect;
    if (std::find(names.begin(), names.end(), typed) == names.end()) names.push_back(typed);
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
        fail(kExitUsage, "{} needs --{}{}{}: {}", command_name(options_.command), row.name, row.value.empty() ? "" : " ",
             row.value, description(row));
    }
    if (options_.command == Command::kCompletion && options_.topic.empty())
      fail(kExitUsage, "completion needs a shell: {}", command_row(Command::kCompletion).topic);
  }

  const std::vector<std::string>& arguments_;
  size_t next_ = 0;
  Options options_;
  std::map<const OptionRow*, std::string> implying_;  // the values, as typed, of options that may imply others
};

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) { return Parser(arguments).parse(); }

bool Options::given(std::string_view name) const {
  const std::string wanted = normalized(name);
  const Match match = find_option(wanted);
  TLL_CHECK(match.row != nullptr && match.row->name == wanted, "no option '{}' in the table", name);
  return given_names.count(wanted) > 0;
}

int Options::progress_output() const { return command == Command::kTrain && !json ? STDOUT_FILENO : STDERR_FILENO; }

std::string snake_case(const OptionRow& row) { return replaced(row.name, '-', '_'); }

Json options_json(const Options& options) {
  Json json = Json::object();
  json["command"] = command_name(options.command);
  for (const OptionRow& row : option_rows()) {
    if (row.taken_by(options.command) && row.name != "help" && row.name != "man" && row.name != "version")
      json[snake_case(row)] = value_json(row, options);
  }
  return json;
}

Json resume_settings_json(const Options& options) {
  Json json = Json::object();
  for (const OptionRow& row : option_rows()) {
    if (row.fixed_on_resume) json[snake_case(row)] = value_json(row, options);
  }
  json["grad_accum"] = options.grad_accum * options.ranks;  // a run may go on with another number of ranks
  return json;
}

const OptionRow* find_row(std::string_view name) {
  const Match match = find_option(normalized(name));
  return match.shorthand == nullptr ? match.row : nullptr;
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
