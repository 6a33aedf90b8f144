#include "src/options/run_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/options/option_table.h"

namespace tll {
namespace {

// What a repeated run does not do again, or is about what is printed.
constexpr std::array kOfOneRun = {"resume", "reschedule", "overwrite", "config", "plan", "json", "quiet", "profile"};

const OptionRow* row_of(const std::string& key, std::optional<Command> command) {
  for (const OptionRow& row : option_rows())
    if (snake_case(row) == key && (!command || row.taken_by(*command))) return &row;
  return nullptr;
}

// As the user would type it; nothing for what cannot be an option's value.
std::optional<std::string> typed_value(const OptionRow& row, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number_integer()) return value.dump() + (row.size ? "B" : "");
  if (value.is_number()) return fmt::format("{}", value.get<double>());
  if (!value.is_array()) return std::nullopt;
  std::vector<std::string> items;
  for (const Json& item : value) {
    if (!item.is_string()) return std::nullopt;
    items.push_back(item.get<std::string>());
  }
  return fmt::format("{}", fmt::join(items, ","));
}

std::string written_by(const RunOptions& run) {
  return run.version.empty() ? "" : fmt::format("; the file is of version {}", run.version);
}

bool trains(Command command) { return command == Command::kTrain || command == Command::kPlan; }

}  // namespace

std::optional<RunOptions> read_run_options(const std::filesystem::path& file) {
  constexpr uintmax_t kMost = 256 << 20;  // a plan with its tensors has some MB
  std::error_code none;
  if (!std::filesystem::is_regular_file(file, none) || std::filesystem::file_size(file, none) > kMost) return std::nullopt;
  const auto text_of = [](const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
  };
  try {
    const Json json = parse_json(read_file(file), file.string());
    if (!json.is_object() || !json.contains("run") || !json.contains("options") || !json.at("options").is_object())
      return std::nullopt;
    RunOptions run{file, json.at("options"), {}, text_of(json.at("options"), "command"), ""};
    if (const auto program = json.find("program"); program != json.end() && program->is_object())
      run.version = text_of(*program, "version");
    if (const auto given = json.find("given"); given != json.end() && given->is_array()) {
      run.given.emplace();
      for (const Json& name : *given)
        if (name.is_string()) run.given->insert(name.get<std::string>());
    }
    return run;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void take_run_options(const RunOptions& run, const std::set<std::string, std::less<>>& typed, Options& into) {
  std::vector<std::string> unknown;
  for (const auto& [key, value] : run.options.items()) {
    const OptionRow* row = row_of(key, into.command);
    if (row == nullptr) {
      if (key != "command" && row_of(key, std::nullopt) == nullptr) unknown.push_back(in_quotes(key));
      continue;
    }
    const bool of_one_run = std::find(kOfOneRun.begin(), kOfOneRun.end(), row->name) != kOfOneRun.end();
    const bool result = row->name == "output" && !trains(into.command);
    // How a model's weights were held that nobody asked for: another model's may lie in another type.
    if (row->name == "weights" && run.given && !run.given->contains("weights")) continue;
    if (of_one_run || result || typed.contains(row->name) || value.is_null() || value == Json::array()) continue;
    const std::optional<std::string> text = typed_value(*row, value);
    const std::string where = fmt::format("{}: \"{}\"", run.file.string(), key);
    if (!text) bad_file("{} expects {}, found {}{}", where, expected_value(*row), in_quotes(json_text(value)), written_by(run));
    try {
      set_value(*row, into, *text, where);
    } catch (const Error& error) {
      bad_file("{}{}; --{} chooses another value", error.what(), written_by(run), row->name);
    }
    const bool given = run.given ? run.given->contains(std::string(row->name)) : *text != default_text(*row, into.command);
    if (given) into.given_names.emplace(row->name);
  }
  const Json config = run.options.value("config", Json());  // that of a model, if the run had one
  into.config = config.is_string() ? config.get<std::string>() : "";
  if (!unknown.empty())
    fmt::print(stderr, "note: {}: {} {} known here and {} left out{}\n", run.file.string(), fmt::join(unknown, ", "),
               unknown.size() == 1 ? "is not" : "are not", unknown.size() == 1 ? "is" : "are", written_by(run));
  if (trains(into.command) || run.command != "train") return;
  const bool full = run.options.value("train", Json()) == "full";
  const std::string_view name = full ? "model" : "adapter";
  const OptionRow* row = row_of(std::string(name), into.command);
  if (row == nullptr || typed.contains(name)) return;
  const std::filesystem::path directory = run.file.parent_path().empty() ? "." : run.file.parent_path();
  (full ? into.model : into.adapter) = directory;
  into.given_names.emplace(name);
}

std::string shell_word(const std::string& text) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || c >= 0x80 || std::string_view("_-./:=+@%,").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

std::string command_line(const std::vector<std::string>& arguments) {
  constexpr std::array kSecrets = {"hf-token", "hub-token", "auth-token", "access-token",
                                   "api-key",  "api-token", "password",   "secret"};
  std::string line = "./train_llama_lora";
  bool hide = false;  // the next argument
  for (const std::string& argument : arguments) {
    std::string name = argument.substr(0, argument.find('='));
    std::replace(name.begin(), name.end(), '_', '-');
    const bool option = name.starts_with("-");
    const bool secret = option && std::any_of(kSecrets.begin(), kSecrets.end(),
                                              [&](const char* word) { return name.find(word) != std::string::npos; });
    if (hide && !option)
      line += " ***";
    else if (secret && argument.size() > name.size())
      line += fmt::format(" {}=***", argument.substr(0, name.size()));
    else
      line += " " + shell_word(argument);
    hide = secret && argument.size() == name.size();
  }
  return line;
}

}  // namespace tll
