#include "tests/op_program.h"

#include <algorithm>
#include <cstdio>

#include "src/base/check.h"

namespace tll::test {

int run_program(int argc, char** argv, const char* help, const std::string& known, std::vector<ProgramOption> options,
                const std::function<int()>& body) {
  try {
    bool help_wanted = false;
    options.push_back({"--help", [&](const std::string&) { help_wanted = true; }, true});
    for (int i = 1; i < argc; i++) {
      const std::string arg = argv[i], name = arg.substr(0, arg.find('='));
      const auto option =
          std::find_if(options.begin(), options.end(), [&](const ProgramOption& o) { return o.name == (o.flag ? arg : name); });
      if (option == options.end()) fail(kExitUsage, "unknown option '{}'{}", arg, known);
      if (!option->flag && name == arg && i + 1 == argc) fail(kExitUsage, "{} needs a value", name);
      option->take(option->flag ? "" : name != arg ? arg.substr(name.size() + 1) : argv[++i]);
    }
    if (!help_wanted) return body();
    std::fputs(help, stdout);
    return kExitDone;
  } catch (const Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return error.exit_code;
  }
}

void expect_one_of(const std::vector<std::string>& names, const std::string& text, const std::string& what) {
  if (std::find(names.begin(), names.end(), text) == names.end()) fail(kExitUsage, "{}, not '{}'", what, text);
}
int64_t whole_number(const std::string& text, size_t most_digits, int64_t least, const std::string& what) {
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
  if (text.empty() || text.size() > most_digits || !digits || std::stoll(text) < least)
    fail(kExitUsage, "{}, not '{}'", what, text);
  return std::stoll(text);
}

}  // namespace tll::test
