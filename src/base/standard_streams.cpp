#include "src/base/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "src/base/json.h"

namespace tll {

void fill_closed_streams() {
  for (int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    while (fcntl(number, F_GETFD) < 0 && errno == EBADF)
      if (open("/dev/null", O_RDWR) < 0) return;
}

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  fail(kExitFault, "standard output cannot be written{}{}", errno ? ": " : "", errno ? std::strerror(errno) : "");
}

int report(ExitCode code, const std::string& message) {
  std::string line;
  for (const char c : message) line += static_cast<unsigned char>(c) < 0x20 ? fmt::format("\\x{:02x}", c) : std::string(1, c);
  std::fprintf(stderr, "error: %s\n", line.c_str());
  return code;
}

int report(const std::filesystem::filesystem_error& error) {
  bool wrong_path = false;
  for (const std::errc code : {std::errc::too_many_symbolic_link_levels, std::errc::filename_too_long, std::errc::not_a_directory,
                               std::errc::permission_denied})
    wrong_path = wrong_path || error.code() == code;
  return report(wrong_path ? kExitBadFile : kExitFault, in_quotes(error.path1().string(), 300) + ": " + error.code().message());
}

}  // namespace tll
