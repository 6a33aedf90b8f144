// Completion scripts, from the table of options. Each offers the commands, the options of the command on the line, the words of
// a choice, and file names where a path goes.
#include <fmt/ranges.h>

#include <algorithm>

#include "src/base/check.h"
#include "src/options/help.h"
#include "src/options/option_table.h"

namespace tll {
namespace {

bool is_path(const OptionRow& row) {
  return std::holds_alternative<std::filesystem::path Options::*>(row.member) ||
         std::holds_alternative<std::optional<std::filesystem::path> Options::*>(row.member);
}

std::string commands() { return fmt::format("{}", fmt::join(command_names(), " ")); }

std::string shells() {
  std::string names(command_row(Command::kCompletion).topic);
  std::replace(names.begin(), names.end(), '|', ' ');
  return names;
}

// `text` inside single quotes; the characters of `special` get a backslash.
std::string quoted(std::string_view text, std::string_view special) {
  std::string out = escaped(text, special);
  for (size_t at = 0; (at = out.find('\'', at)) != std::string::npos; at += 4) out.replace(at, 1, "'\\''");
  return out;
}

std::string bash_completion() {
  std::string values, options;
  for (const OptionRow& row : option_rows()) {
    if (row.is_flag()) continue;
    std::string names = fmt::format("--{}", row.name);
    for (std::string_view alias : row.aliases) names += fmt::format("|--{}", alias);
    const std::string words = is_path(row)
                                  ? "compopt -o filenames; COMPREPLY=($(compgen -f -- \"$current\"))"
                                  : fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$current\"))", fmt::join(row.choices, " "));
    values += fmt::format("    {}) {}; return ;;\n", names, words);
  }
  for (const CommandRow& command : command_rows()) {
    options += fmt::format("    {}) words='", command.name);
    for (const OptionRow& row : option_rows()) {
      if (row.taken_by(command.command)) options += fmt::format("--{} ", row.name);
    }
    options += "' ;;\n";
  }
  return fmt::format(R"(_train_llama_lora() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=train words
  [[ ${{COMP_WORDS[1]}} != -* && $COMP_CWORD -gt 1 ]] && command=${{COMP_WORDS[1]}}
  case $previous in
    help) COMPREPLY=($(compgen -W '{0}' -- "$current")); return ;;
    completion) COMPREPLY=($(compgen -W '{1}' -- "$current")); return ;;
{2}  esac
  case $command in
{3}  esac
  [[ $COMP_CWORD == 1 ]] && words+=' {0}'
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _train_llama_lora train_llama_lora
)",
                     commands(), shells(), values, options);
}

std::string zsh_completion() {
  std::string cases;
  for (const CommandRow& command : command_rows()) {
    cases += fmt::format("    {}) _arguments '1:command:({})'", command.name, commands());
    if (command.command == Command::kHelp) cases += fmt::format(" '2:command:({})'", commands());
    if (command.command == Command::kCompletion) cases += fmt::format(" '2:shell:({})'", shells());
    for (const OptionRow& row : option_rows()) {
      if (!row.taken_by(command.command)) continue;
      cases += fmt::format(" \\\n      '--{}[{}]", row.name, quoted(description(row), "[]:\\"));
      if (is_path(row)) {
        cases += fmt::format(":{}:_files", row.bare.empty() ? "path" : ":path");
      } else if (!row.is_flag()) {
        cases += fmt::format(":value:({})", fmt::join(row.choices, " "));
      }
      cases += "'";
    }
    cases += " ;;\n";
  }
  return fmt::format(R"(#compdef train_llama_lora
_train_llama_lora() {{
  local command=train
  [[ $CURRENT -gt 2 && $words[2] != -* ]] && command=$words[2]
  case $command in
{}  esac
}}
if [[ $funcstack[1] == _train_llama_lora ]]; then _train_llama_lora "$@"; else compdef _train_llama_lora train_llama_lora; fi
)",
                     cases);
}

std::string fish_completion() {
  std::string out = "complete -c train_llama_lora -f\n";
  for (const CommandRow& row : command_rows())
    out +=
        fmt::format("complete -c train_llama_lora -n __fish_use_subcommand -a {} -d '{}'\n", row.name, quoted(row.summary, "\\"));
  out += fmt::format("complete -c train_llama_lora -n '__fish_seen_subcommand_from help' -a '{}'\n", commands());
  out += fmt::format("complete -c train_llama_lora -n '__fish_seen_subcommand_from completion' -a '{}'\n", shells());
  for (const OptionRow& row : option_rows()) {
    // Without a command it trains, so an option of train is offered unless a command that lacks it was typed.
    const bool trains = row.taken_by(Command::kTrain);
    const Words named = command_names(trains ? ~row.commands : row.commands);
    std::string condition;
    if (!named.empty())
      condition = fmt::format(" -n '{}__fish_seen_subcommand_from {}'", trains ? "not " : "", fmt::join(named, " "));
    std::string argument;
    if (is_path(row)) argument = row.bare.empty() ? " -r -F" : " -F";
    if (!is_path(row) && !row.is_flag()) argument = fmt::format(" -x -a '{}'", fmt::join(row.choices, " "));
    out += fmt::format("complete -c train_llama_lora{} -l {}{} -d '{}'\n", condition, row.name, argument,
                       quoted(description(row), "\\"));
  }
  return out;
}

}  // namespace

std::string completion(const std::string& shell) {
  if (shell == "bash") return bash_completion();
  if (shell == "zsh") return zsh_completion();
  if (shell == "fish") return fish_completion();
  fail(kExitUsage, "completion knows bash, zsh and fish, found '{}'", shell);
}

}  // namespace tll
