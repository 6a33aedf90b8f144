// The shape of the table of commands and options; the rows are in option_table.cpp.
#pragma once

#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "src/options/options.h"

namespace tll {

// A command; its row is at its place in the enum.
struct CommandRow {
  Command command;
  std::string_view name;
  std::string_view topic;  // what may follow the name: "[COMMAND]", "SHELL", or nothing
  std::string_view summary;
  std::string_view example;  // arguments of a call that works
  std::string_view example_says;
};

// An enum field, seen as the index of its enumerator.
struct EnumMember {
  int (*get)(const Options&);
  void (*set)(Options&, int);
};

using Member =
    std::variant<bool Options::*, int64_t Options::*, double Options::*, std::string Options::*, std::filesystem::path Options::*,
                 std::optional<std::filesystem::path> Options::*, std::vector<std::string> Options::*, EnumMember>;

// Smallest and largest value; a bound may be left out of the range.
struct Range {
  double low = 0;
  double high = std::numeric_limits<double>::infinity();
  bool low_excluded = false;
  bool high_excluded = false;
};

using Words = std::vector<std::string_view>;
using WordPairs = std::vector<std::pair<std::string_view, std::string_view>>;

// A flag that means an option with a value: --bf16 is --dtype bf16. Turned off, it means `off`, or nothing where that is empty.
struct Shorthand {
  std::string_view name, on, off = {};
};

// A value, as typed, means a value of another option too, unless that is given.
struct Implied {
  std::string_view value, option, its_value;
};

constexpr unsigned command_bit(Command command) { return 1u << static_cast<int>(command); }

struct OptionRow {
  std::string_view name;     // words joined by '-'
  std::string_view section;  // of help; its rows stand together
  unsigned commands;         // the commands that take it: bits of command_bit
  Member member;
  std::string_view value = {};  // what stands for the value in help; nothing for flags and choices
  std::string_view help;
  Words aliases = {};
  char letter = 0;                // the short name: -o
  Words choices = {};             // an enum's words in the order of its enumerators; the items of a list
  std::string_view nothing = {};  // the word for a list without items, where that is a value
  WordPairs synonyms = {};        // other spellings of values
  std::vector<Shorthand> shorthands = {};
  std::vector<Implied> implies = {};
  Words foreign = {};          // items of a list that other trainers know: they are named in a note, and left out
  std::string_view bare = {};  // the value when none follows the name; empty: a value must follow
  Range range = {};
  bool size = false;       // bytes, with units
  bool automatic = false;  // a whole number that may be the word `auto`, kept as kAutomatic
  unsigned required = 0;   // the commands that cannot do without it
  std::vector<std::pair<Command, std::string_view>> command_defaults = {};
  std::string_view demo_default = {};  // in place of the default where the demo model is used
  bool fixed_on_resume = false;        // the numbers of a run depend on it: a resumed run must have the same value

  bool taken_by(Command command) const { return commands & command_bit(command); }
  bool is_flag() const { return std::holds_alternative<bool Options::*>(member); }
};

const std::vector<CommandRow>& command_rows();
const std::vector<OptionRow>& option_rows();
const CommandRow& command_row(Command);
Words command_names(unsigned commands = ~0u);  // of these bits of command_bit

// The row of this name or alias, in which `-` and `_` are equal; null: there is none.
const OptionRow* find_row(std::string_view name);

// The row's name in JSON: "batch_size".
std::string snake_case(const OptionRow&);

// Sets what this value of the row implies of other options, unless they are given; from then on they are.
void set_implied(const OptionRow&, Options&, std::string_view text);

// Every name by which the row is known, without dashes and letters.
Words names_of(const OptionRow&);

// The row's help, with its demo_default.
std::string description(const OptionRow&);

// The row's field as JSON (words as words, sizes as bytes, an unset path as null) and as the user would type it ("" if unset).
Json value_json(const OptionRow&, const Options&);
std::string value_text(const OptionRow&, const Options&);

// The default for this command, as the user would type it ("" if there is none).
std::string default_text(const OptionRow&, Command);

// "a whole number from 1 to 64", "one of none, full", ...
std::string expected_value(const OptionRow&);

// Reads `text` into the row's field. Error with exit code 2 naming `typed`, the option as the user wrote it, and what the value
// was probably meant to be.
void set_value(const OptionRow&, Options&, std::string_view text, std::string_view typed);

// What `text`, which is no value of the row, was probably meant to be; nothing if there is no guess.
std::string guess_value(const OptionRow&, std::string_view text);

// Those items of a list in `text` that are foreign to the row.
Words foreign_items(const OptionRow&, std::string_view text);

// Whether set_value would take `text` (used where a value is optional).
bool accepts_value(const OptionRow&, std::string_view text);

}  // namespace tll
