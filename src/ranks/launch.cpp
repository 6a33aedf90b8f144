#include "src/ranks/launch.h"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>

#include "src/base/process.h"

namespace tll {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenLooks{5};
constexpr std::chrono::milliseconds kForALastWord{3000};  // for children, after an error

// The cores that a rank may run on.
struct RankCores {
  uint64_t machine = 0;
  cpu_set_t cores;

  static RankCores of_this_process() {
    RankCores own;
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    std::string boot;
    std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
    own.machine = std::hash<std::string>()(boot + name);
    if (sched_getaffinity(0, sizeof own.cores, &own.cores) != 0) std::memset(&own.cores, 0xff, sizeof own.cores);
    return own;
  }
  bool shares_with(const RankCores& other) const {
    cpu_set_t both;
    CPU_AND(&both, &cores, &other.cores);
    return machine == other.machine && CPU_COUNT(&both) > 0;
  }
};

}  // namespace

Ranks::Ranks(const RankStart& start) : for_the_end_(start.for_the_end) {
  const auto found = start.environment ? place_from_environment(start.environment) : place_from_environment();
  if (found && found->size > 1) {
    place_ = *found;
    if (start.wanted > 0 && start.wanted != place_.size)
      fail(kExitUsage, "--ranks {}, but {} started {} ranks: leave --ranks out", start.wanted, place_.launcher, place_.size);
  } else {
    TLL_CHECK(start.wanted >= 0, "{} ranks", start.wanted);
    place_.size = place_.local_size = place_.to_start = std::max(1, start.wanted);
  }
  if (place_.size == 1) return;
  try {
    join(start);
    if (collectives_) count_sharing();  // all have come
  } catch (const Error& error) {
    leave(error.exit_code, error.what());
    end_children();
    throw;
  }
  if (block_) block_->remove_file();
}

void Ranks::join(const RankStart& start) {
  if (place_.has_mpi && start.open_mpi) {
    collectives_ = start.open_mpi();
    TLL_CHECK(collectives_->rank() == place_.rank && collectives_->size() == place_.size,
              "MPI has rank {} of {}, {} has {} of {}", collectives_->rank(), collectives_->size(), place_.launcher, place_.rank,
              place_.size);
    show_errors_of_others();
  } else if (!place_.on_one_machine()) {
    if (!start.gpus_may_meet || place_.to_start > 1)
      fail(kExitUsage, "{} started {} ranks on several machines ({} of them here): start them with mpirun", place_.launcher,
           place_.size, place_.local_size);
    show_errors_of_others();
  } else if (place_.to_start > 1) {
    start_children();
  } else {
    show_errors_of_others();
    block_ = SharedBlock::named(place_.run, place_.rank, place_.size, SharedMemoryCollectives::kWindow, start.patience.start);
  }
  if (block_) collectives_ = std::make_unique<SharedMemoryCollectives>(block_, place_.rank, start.patience);
}

void Ranks::show_errors_of_others() const {
  if (place_.rank > 0) show_errors_alone(fmt::format("rank {}: ", place_.rank));
}

void Ranks::start_children() {
  block_ = SharedBlock::anonymous(place_.size, SharedMemoryCollectives::kWindow);
  std::fflush(nullptr);  // else each child would print it again
  const pid_t parent = getpid();
  for (int rank = 1; rank < place_.size; rank++) {
    const pid_t pid = fork();
    if (pid < 0) {
      const int error = errno;
      for (const pid_t child : children_) kill(child, SIGKILL);
      fail(kExitFault, "the process of rank {} of {} could not be started: {}", rank, place_.size, std::strerror(error));
    }
    if (pid == 0) {
      children_.clear();
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(kExitFault);  // it ended before that
      place_.rank = place_.local_rank = rank;
      show_errors_of_others();
      return;
    }
    children_.push_back(pid);
    block_->of(rank).set(ProcessIdentity::of_child(pid));
  }
}

void Ranks::count_sharing() {
  std::vector<RankCores> all(static_cast<size_t>(place_.size));
  const RankCores own = RankCores::of_this_process();
  all[static_cast<size_t>(place_.rank)] = own;
  collectives_->all_gather_host(all.data(), sizeof(RankCores));
  sharing_cores_ =
      static_cast<int>(std::count_if(all.begin(), all.end(), [&](const RankCores& r) { return own.shares_with(r); }));
}

void Ranks::finish(int code) {
  const Clock::time_point end = Clock::now() + for_the_end_;
  for (size_t i = 0; i < children_.size(); i++) {
    const size_t rank = i + 1;
    int32_t ended = 0;
    while ((ended = ended_child(children_[i])) == 0) {
      if (Clock::now() > end) {
        kill(children_[i], SIGKILL);
        fail(kExitFault, "rank {} (process {}) did not end within {} seconds after the others", rank, children_[i],
             std::chrono::duration_cast<std::chrono::seconds>(for_the_end_).count());
      }
      std::this_thread::sleep_for(kBetweenLooks);
    }
    if (ended_with_code(ended, code)) continue;
    static_cast<SharedMemoryCollectives&>(*collectives_).require_nobody_left();
    fail(kExitFault, "rank {} (process {}) ended ({}) after its last step, where exit code {} was expected", rank, children_[i],
         how_ended(ended), code);
  }
}

void Ranks::leave(ExitCode code, const std::string& message) noexcept {
  if (collectives_ && !collectives_->leave(code, message)) show_no_errors();
  for_the_end_ = std::min(for_the_end_, kForALastWord);
}

// A child that failed first may still be printing why.
void Ranks::end_children() noexcept {
  const Clock::time_point end = Clock::now() + for_the_end_;
  for (pid_t& child : children_) {
    while (ended_child(child) == 0 && Clock::now() < end) std::this_thread::sleep_for(kBetweenLooks);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  children_.clear();
}

Ranks::~Ranks() { end_children(); }

}  // namespace tll
