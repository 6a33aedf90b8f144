// The command line of the programs over cases: test_gradients and bench_ops.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/base/check.h"

namespace tll::test {

struct ProgramOption {
  std::string name;
  std::function<void(const std::string&)> take;  // gets the value: --name VALUE or --name=VALUE
  bool flag = false;                             // has none
};
// Reads the options and runs the body; --help prints the help instead. Returns the exit code, of an Error as well, which it
// prints. `known` ends the message about an unknown option.
int run_program(int argc, char** argv, const char* help, const std::string& known, std::vector<ProgramOption> options,
                const std::function<int()>& body);

// What an option's value must be; else "WHAT, not 'TEXT'" is the error.
void expect_one_of(const std::vector<std::string>& names, const std::string& text, const std::string& what);
int64_t whole_number(const std::string& text, size_t most_digits, int64_t least, const std::string& what);

}  // namespace tll::test
