// What the program says about itself, all of it made from the table of options: help, the manual page, shell completion.
#pragma once

#include <optional>
#include <string>

#include "src/options/options.h"

namespace tll {

// The text that these options ask for in place of work (--help, --man, --version, `help`, `completion`, `version`), or nothing.
// It goes to standard output and the program is done. Error with exit code 2 for a shell that is not known.
std::optional<std::string> help_text(const Options&);

// `text` with a backslash before each of the special characters.
std::string escaped(std::string_view text, std::string_view special);

std::string overview();                            // the commands
std::string command_help(Command);                 // one command, its options by section, one worked example
std::string man_page();                            // roff, for man(1)
std::string completion(const std::string& shell);  // bash, zsh or fish

}  // namespace tll
