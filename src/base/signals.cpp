#include "src/base/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "src/base/check.h"

namespace tll {
namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int) {
  if (stop.exchange(true)) _exit(kExitInterrupted);
  constexpr char kSaid[] = "\nstopping after this step, with a checkpoint; once more ends at once\n";
  if (isatty(STDERR_FILENO)) {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kSaid, sizeof kSaid - 1);
  }
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before;
    TLL_CHECK(sigaction(number, nullptr, &before) == 0, "signal {}", number);
    if (number == SIGHUP && before.sa_handler == SIG_IGN) continue;
    TLL_CHECK(sigaction(number, &action, nullptr) == 0, "signal {}", number);
  }
  action.sa_handler = SIG_IGN;
  TLL_CHECK(sigaction(SIGPIPE, &action, nullptr) == 0, "signal {}", SIGPIPE);
}

bool stop_requested() { return stop.load(std::memory_order_relaxed); }

}  // namespace tll
