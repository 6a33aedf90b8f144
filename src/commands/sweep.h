// plan --sweep: the plan of every combination of values of some options, as a table.
#pragma once

#include <string>
#include <vector>

#include "src/options/option_table.h"

namespace tll {

// "rank=4,8;targets=q,v|all-linear": an option and its alternatives, separated by '|' where one is in the list, else by commas.
struct SweptOption {
  const OptionRow* row;
  std::vector<std::string> values;
};
// Error (kExitUsage) names what is wrong: no '=', an option that plan does not take, one twice, no value.
std::vector<SweptOption> read_sweep(const std::string& text);

// Prints the table, with --json a list of plans without tensors, with --csv comma-separated values. The last option varies
// fastest. Exit code 3 if no combination fits, else 0.
int print_sweep(const Options& options);

}  // namespace tll
