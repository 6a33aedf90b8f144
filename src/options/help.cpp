#include "src/options/help.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "src/base/check.h"
#include "src/options/option_table.h"
#include "src/report/build_facts.h"
#include "src/report/terminal.h"

namespace tll {
namespace {

constexpr std::string_view kProgram = "train_llama_lora";
constexpr size_t kWidth = 80;          // columns of a line; an example is one line, to be copied
constexpr size_t kCommandColumn = 14;  // where the explanations of commands begin
constexpr size_t kOptionColumn = 28;   // and those of options
constexpr std::string_view kExitCodes =
    "0 done; 1 a fault of the program or machine; 2 usage; 3 does not fit in --memory; 4 a file is missing or malformed; "
    "5 training cannot go on; 130 interrupted, after a checkpoint of what was trained";
constexpr std::string_view kTagline = "LoRA fine-tuning of Llama-family models";
constexpr std::string_view kSpelling =
    "An option is written `--name value` or `--name=value`; `-` and `_` are equal in names; of a repeated option the last "
    "counts.";

// Text that begins in this column, and whose other lines are indented to it.
std::string in_column(std::string_view text, size_t column) { return wrapped(text, kWidth, column, column); }

// "--packing on|off", "--lr X", "--quiet"
std::string signature(const OptionRow& row) {
  const std::string name = fmt::format("--{}", row.name);
  if (row.is_flag()) return value_text(row, Options{}) == "on" ? name + " on|off" : name;
  if (!row.value.empty()) return fmt::format("{} {}", name, row.value);
  return fmt::format("{} {}", name, fmt::join(row.choices, "|"));
}

// The explanation with the default and the other names.
std::string explanation(const OptionRow& row, Command command) {
  std::string text = description(row);
  const bool words_apart = !row.value.empty() && std::holds_alternative<EnumMember>(row.member);  // too many for the signature
  if (words_apart) text += fmt::format(". One of {}", fmt::join(row.choices, ", "));
  const std::string value = default_text(row, command);
  if (row.required & command_bit(command)) {
    text += "; required";
  } else if (!value.empty() && !(row.is_flag() && value == "off")) {
    text += fmt::format(" (default {})", value);
  }
  std::vector<std::string> names;
  if (row.letter) names.push_back(fmt::format("-{}", row.letter));
  for (std::string_view alias : row.aliases) names.push_back(fmt::format("--{}", alias));
  for (const Shorthand& shorthand : row.shorthands) names.push_back(fmt::format("--{}", shorthand.name));
  return names.empty() ? text : fmt::format("{} [{}]", text, fmt::join(names, ", "));
}

std::string entry(std::string_view left, std::string_view right, size_t column) {
  std::string line = fmt::format("  {}", left);
  line += line.size() + 2 > column ? '\n' + std::string(column, ' ') : std::string(column - line.size(), ' ');
  return line + in_column(right, column) + '\n';
}

std::string example(const CommandRow& row) {
  return fmt::format("\nExample: ./{} {}\n         {}\n", kProgram, row.example, row.example_says);
}

std::string escaped_roff(std::string_view text) { return escaped(text, "\\-"); }

}  // namespace

std::string escaped(std::string_view text, std::string_view special) {
  std::string out;
  for (char c : text) {
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string overview() {
  std::string out = fmt::format("{}: {}\n\nUsage: {} [COMMAND] [OPTIONS]; without a command it trains.\n\nCommands:\n", kProgram,
                                kTagline, kProgram);
  for (const CommandRow& row : command_rows()) out += entry(row.name, row.summary, kCommandColumn);
  out += example(command_rows()[0]);
  const std::string more = fmt::format("`{} COMMAND --help` lists a command's options. {}", kProgram, kSpelling);
  out += '\n' + in_column(more, 0) + '\n';
  return out + "Exit codes: " + in_column(kExitCodes, 12) + "\n";
}

std::string command_help(Command command) {
  const CommandRow& row = command_row(command);
  std::string out = in_column(fmt::format("{} {}: {}", kProgram, row.name, row.summary), 0) + "\n\n";
  out += fmt::format("Usage: {} {}{}{} [OPTIONS]\n", kProgram, row.name, row.topic.empty() ? "" : " ", row.topic);
  out += example(row);
  std::string_view section;
  for (const OptionRow& option : option_rows()) {
    if (!option.taken_by(command)) continue;
    if (option.section != section) out += fmt::format("\n{}:\n", section = option.section);
    out += entry(signature(option), explanation(option, command), kOptionColumn);
  }
  return out + '\n' + in_column(kSpelling, 0) + '\n';
}

std::string man_page() {
  std::string out = fmt::format(".TH TRAIN_LLAMA_LORA 1\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n[COMMAND] [OPTIONS]\n",
                                kProgram, escaped_roff(kTagline), kProgram);
  out += fmt::format(".SH DESCRIPTION\nWithout a command it trains. {}\n.SH COMMANDS\n", escaped_roff(kSpelling));
  for (const CommandRow& row : command_rows())
    out += fmt::format(".TP\n.B {} {}\n{}\n", row.name, escaped_roff(row.topic), escaped_roff(row.summary));
  out += ".SH OPTIONS\n";
  std::string_view section;
  for (const OptionRow& option : option_rows()) {
    if (option.section != section) out += fmt::format(".SS {}\n", section = option.section);
    const auto first = static_cast<Command>(std::countr_zero(option.commands));
    out += fmt::format(".TP\n.B {}\n{}\n.br\nCommands: {}.\n", escaped_roff(signature(option)),
                       escaped_roff(explanation(option, first)), fmt::join(command_names(option.commands), ", "));
  }
  out += ".SH EXAMPLES\n";
  for (const CommandRow& row : command_rows())
    out += fmt::format(".TP\n.B {} {}\n{}\n", kProgram, escaped_roff(row.example), escaped_roff(row.example_says));
  return out + fmt::format(".SH EXIT STATUS\n{}\n", escaped_roff(kExitCodes));
}

std::optional<std::string> help_text(const Options& options) {
  if (options.man) return man_page();
  if (options.command == Command::kHelp) {
    for (const CommandRow& row : command_rows()) {
      if (row.name == options.topic) return command_help(row.command);
    }
    return overview();
  }
  if (options.help) return options.command_named ? command_help(options.command) : overview();
  if (options.version || options.command == Command::kVersion)
    return options.json ? version_json().dump() + "\n" : version_text();
  if (options.command == Command::kCompletion) return completion(options.topic);
  return std::nullopt;
}

}  // namespace tll
