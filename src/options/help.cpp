#include "src/options/help.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "src/base/check.h"
#include "src/options/option_table.h"

namespace tll {
namespace {

constexpr std::string_view kProgram = "train_llama_lora";
constexpr size_t kWidth = 80;          // columns of a line; an example is one line, to be copied
constexpr size_t kCommandColumn = 14;  // where the explanations of commands begin
constexpr size_t kOptionColumn = 28;   // and those of options
constexpr std::string_view kExitCodes =
    "0 done; 1 a fault of the program or machine; 2 usage; 3 does not fit in --memory; 4 a file is missing or malformed; "
    "5 training cannot go on; 130 interrupted, after a checkpoint was written";
constexpr std::string_view kTagline = "LoRA fine-tuning of Llama-family models";
constexpr std::string_view kSpelling =
    "An option is written `--name value` or `--name=value`; `-` and `_` are equal in names; of a repeated option the last "
    "counts.";

// Breaks `text` at spaces; lines after the first are indented to `column`, where the first is taken to begin.
std::string wrapped(std::string_view text, size_t column) {
  std::string out;
  size_t used = column;
  while (!text.empty()) {
    std::string_view word = text.substr(0, text.find(' '));
    const size_t comma = column + word.size() > kWidth ? word.rfind(',', kWidth - column - 1) : std::string_view::npos;
    const bool cut = comma != std::string_view::npos && comma + 1 < word.size();  // a list longer than a line
    if (cut) word = word.substr(0, comma + 1);
    text.remove_prefix(std::min(text.size(), word.size() + (cut ? 0 : 1)));
    if (used > column && used + 1 + word.size() > kWidth) {
      out += '\n' + std::string(column, ' ');
      used = column;
    }
    if (used > column) out += ' ', ++used;
    out += word;
    used = cut ? kWidth : used + word.size();
  }
  return out;
}

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
  const std::string value = default_text(row, command);
  if (row.required & command_bit(command)) {
    text += "; required";
  } else if (!value.empty() && !(row.is_flag() && value == "off")) {
    text += fmt::format(" (default {})", value);
  }
  std::vector<std::string> names;
  for (std::string_view alias : row.aliases) names.push_back(fmt::format("{}{}", alias == "h" ? "-" : "--", alias));
  for (const auto& [name, meaning] : row.shorthands) {
    const bool known = std::find(row.later.begin(), row.later.end(), meaning) == row.later.end();
    if (known) names.push_back(fmt::format("--{}", name));
  }
  return names.empty() ? text : fmt::format("{} [{}]", text, fmt::join(names, ", "));
}

std::string entry(std::string_view left, std::string_view right, size_t column) {
  std::string line = fmt::format("  {}", left);
  line += line.size() + 2 > column ? '\n' + std::string(column, ' ') : std::string(column - line.size(), ' ');
  return line + wrapped(right, column) + '\n';
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
  out += '\n' + wrapped(more, 0) + '\n';
  return out + "Exit codes: " + wrapped(kExitCodes, 12) + "\n";
}

std::string command_help(Command command) {
  const CommandRow& row = command_row(command);
  std::string out = wrapped(fmt::format("{} {}: {}", kProgram, row.name, row.summary), 0) + "\n\n";
  out += fmt::format("Usage: {} {}{}{} [OPTIONS]\n", kProgram, row.name, row.topic.empty() ? "" : " ", row.topic);
  out += example(row);
  std::string_view section;
  for (const OptionRow& option : option_rows()) {
    if (!option.taken_by(command)) continue;
    if (option.section != section) out += fmt::format("\n{}:\n", section = option.section);
    out += entry(signature(option), explanation(option, command), kOptionColumn);
  }
  return out + '\n' + wrapped(kSpelling, 0) + '\n';
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
  if (options.command == Command::kCompletion) return completion(options.topic);
  return std::nullopt;
}

}  // namespace tll
