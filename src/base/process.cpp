#include "src/base/process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <initializer_list>
#include <new>
#include <optional>

#include "src/base/json.h"

namespace tll {
namespace {

std::atomic<bool> stop{false};
std::optional<bool> agreed;  // of the main thread
std::atomic<const char*> activity{nullptr};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<const char*>::is_always_lock_free &&
                  std::atomic<int64_t>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");

std::atomic<bool> saving{false};
std::atomic<int64_t> stopped_at{0};  // milliseconds of the first signal, from any beginning

int64_t milliseconds_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

// To standard error, from the handler of a signal.
void tell(std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, part, std::strlen(part));
  }
}

void on_signal(int) {
  const int error = errno;  // of the code that the signal interrupts
  const bool terminal = isatty(STDERR_FILENO) == 1;
  if (!stop.exchange(true)) {
    stopped_at = milliseconds_now();
    const char* doing = activity.load();
    if (terminal)
      tell({"\nstopping ", doing ? "while " : "after this step", doing ? doing : "",
            "; what is kept is said at the end. A second signal ends the program at once\n"});
  } else if (saving) {
    if (terminal) tell({"\nwhat is kept is being written\n"});
  } else if (milliseconds_now() - stopped_at > 1000) {
    _exit(kExitInterrupted);
  }
  errno = error;
}

void on_early_signal(int) {
  tell({"note: interrupted before there was anything to keep\n"});
  _exit(kExitInterrupted);
}

std::string& error_prefix() {
  static std::string& prefix = *new std::string;  // outlives every static object
  return prefix;
}

void handle_stop_signals(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before;
    TLL_CHECK(sigaction(number, nullptr, &before) == 0, "signal {}", number);
    if (number == SIGHUP && before.sa_handler == SIG_IGN) continue;
    TLL_CHECK(sigaction(number, &action, nullptr) == 0, "signal {}", number);
  }
}

}  // namespace

void end_on_stop_signals() {
  handle_stop_signals(on_early_signal);
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  TLL_CHECK(sigaction(SIGPIPE, &action, nullptr) == 0, "signal {}", SIGPIPE);
}

void catch_stop_signals() { handle_stop_signals(on_signal); }

KeepFromStopping::KeepFromStopping() { saving = true; }
KeepFromStopping::~KeepFromStopping() { saving = false; }

bool stop_signalled() { return stop.load(std::memory_order_relaxed); }
bool stop_requested() { return agreed ? *agreed : stop_signalled(); }
void agree_to_stop(bool any) { agreed = any; }

const char* set_activity(const char* doing) { return activity.exchange(doing); }

void fill_closed_streams() {
  for (int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    while (fcntl(number, F_GETFD) < 0 && errno == EBADF)
      if (open("/dev/null", O_RDWR) < 0) return;
}

void show_errors_alone(const std::string& prefix) {
  std::fflush(nullptr);
  error_prefix() = prefix;
  const int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere < 0) fail(kExitFault, "/dev/null cannot be opened: {}", std::strerror(errno));
  for (int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nowhere, number);
  close(nowhere);
  error_descriptor = kept;
}

void show_no_errors() { error_descriptor = -1; }

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  fail(kExitFault, "standard output cannot be written{}{}", errno ? ": " : "", errno ? std::strerror(errno) : "");
}

int report(ExitCode code, const std::string& message) {
  std::string line;
  for (const char c : message) line += static_cast<unsigned char>(c) < 0x20 ? fmt::format("\\x{:02x}", c) : std::string(1, c);
  line = "error: " + error_prefix() + line + "\n";
  // In one call, so that lines of several processes stay whole.
  if (error_descriptor >= 0) [[maybe_unused]]
    const ssize_t written = write(error_descriptor, line.data(), line.size());
  return code;
}

std::pair<ExitCode, std::string> what_failed() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.exit_code, error.what()};
  } catch (const std::filesystem::filesystem_error& error) {
    bool wrong_path = false;
    for (const std::errc code : {std::errc::too_many_symbolic_link_levels, std::errc::filename_too_long,
                                 std::errc::not_a_directory, std::errc::permission_denied})
      wrong_path = wrong_path || error.code() == code;
    return {wrong_path ? kExitBadFile : kExitFault, in_quotes(error.path1().string(), 300) + ": " + error.code().message()};
  } catch (const std::bad_alloc&) {
    return {kExitFault, "the machine has no memory left"};
  } catch (const std::exception& error) {
    return {kExitFault, error.what()};
  }
}

}  // namespace tll
