#include "src/ranks/peer_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace tll {
namespace {

struct ProcessState {
  char state = 0;  // as in /proc/PID/stat; 0: there is no such process
  uint64_t started = 0;
};

// Allocates nothing: ranks call it while they wait.
ProcessState state_of(int32_t pid) {
  char text[1024];
  *fmt::format_to_n(text, sizeof text - 1, "/proc/{}/stat", pid).out = 0;
  const int file = open(text, O_RDONLY | O_CLOEXEC);
  if (file < 0) return {.state = errno == ENOENT ? '\0' : '?'};
  const ssize_t size = read(file, text, sizeof text - 1);
  const bool gone = size < 0 && errno == ESRCH;
  close(file);
  if (size <= 0) return {.state = gone ? '\0' : '?'};
  text[size] = 0;
  // PID (NAME) STATE …: the name may hold anything, spaces and parentheses among it. The start is the 22nd word.
  const char* at = std::strrchr(text, ')');
  if (!at || at[1] != ' ') return {.state = '?'};
  ProcessState found{.state = at[2]};
  for (int word = 2; word < 22 && at; word++) at = std::strchr(at + 1, ' ');
  if (at) found.started = std::strtoull(at, nullptr, 10);
  return found;
}

uint64_t own_numbering() {
  struct stat status;
  return stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
}

}  // namespace

ProcessIdentity ProcessIdentity::of_child(int32_t pid) {
  return {.pid = pid, .started = state_of(pid).started, .numbering = own_numbering()};
}
ProcessIdentity ProcessIdentity::self() { return of_child(getpid()); }

bool has_ended(const ProcessIdentity& process) {
  if (process.numbering == 0 || process.numbering != own_numbering()) return false;
  const ProcessState now = state_of(process.pid);
  if (now.state == '?') return false;
  return now.state == 0 || now.state == 'Z' || now.state == 'X' || now.started != process.started;
}

int32_t ended_child(int32_t pid) {
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != pid) return 0;
  return 1 + (info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status);
}

std::string how_ended(int32_t status_plus_one) {
  const int status = status_plus_one - 1;
  return WIFSIGNALED(status) ? fmt::format("killed by signal {}", WTERMSIG(status))
                             : fmt::format("exit code {}", WEXITSTATUS(status));
}

bool ended_with_code(int32_t status_plus_one, int code) {
  return status_plus_one > 0 && WIFEXITED(status_plus_one - 1) && WEXITSTATUS(status_plus_one - 1) == code;
}

}  // namespace tll
