// Options of other trainers (transformers, TRL, PEFT, axolotl, unsloth, torchtune, LLaMA-Factory) that have no counterpart here,
// so that a command line that was written for one of them says what becomes of each.
#pragma once

#include <string_view>
#include <vector>

namespace tll {

struct ForeignOption {
  std::string_view name;                    // words joined by '-'; with '*' at the end every name that begins so
  bool flag = false;                        // its value is true, false or auto, and may be left out
  std::string_view refusal = {};            // why a value that is not in `same` is refused, and what to do; empty: none is
  std::vector<std::string_view> same = {};  // values that ask for what is done here
};

const std::vector<ForeignOption>& foreign_options();

// Null if the name is not in the table. A name stands before a beginning of names.
const ForeignOption* find_foreign_option(std::string_view name);

// Whether this value changes nothing here: none is refused, it is in `same`, or it says "none". Numbers are compared as numbers.
bool changes_nothing(const ForeignOption&, std::string_view value);

}  // namespace tll
