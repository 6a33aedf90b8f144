#include "src/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "src/check.h"

namespace tll {
namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int) {
  if (stop.exchange(true)) _exit(kExitInterrupted);
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int number : {SIGINT, SIGTERM}) TLL_CHECK(sigaction(number, &action, nullptr) == 0, "signal {}", number);
}

bool stop_requested() { return stop.load(std::memory_order_relaxed); }

}  // namespace tll
