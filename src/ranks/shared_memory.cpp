#include "src/ranks/shared_memory.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <ctime>

#include "src/base/check.h"
#include "src/base/parallel.h"

namespace tll {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kSpin = std::chrono::microseconds(50);
constexpr milliseconds kNap{100};  // how long a rank that waits sleeps before it looks at the others
// The parent of the ranks knows how a process ended, and is given so long to say it.
constexpr milliseconds kForTheParent{500};

// Not private to the process: others sleep on the same page.
void futex_wait(std::atomic<uint32_t>& word, uint32_t value, milliseconds most) {
  static_assert(sizeof word == sizeof(uint32_t));
  const timespec time{.tv_sec = most.count() / 1000, .tv_nsec = most.count() % 1000 * 1000000};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &time, nullptr, 0);
}
void futex_wake(std::atomic<uint32_t>& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

int cores() {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

void copy(char* to, const char* from, int64_t bytes) {
  parallel_ranges(bytes, 1,
                  [&](int64_t begin, int64_t end) { std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin)); });
}

// What a call is, for the comparison with the other ranks': its kind, and a number that its sizes give.
enum Kind : uint64_t { kGather = 1, kExchange, kBroadcast, kBarrier };
uint64_t operation_of(Kind kind, uint64_t sizes) { return sizes << 3 | kind; }
uint64_t sizes_of(Bounds bounds) {
  uint64_t hash = 0;
  for (const int64_t bound : bounds) hash = hash * 0x9e3779b97f4a7c15 + static_cast<uint64_t>(bound);
  return hash;
}

void require_cpu(const Device& device) {
  TLL_CHECK(device.kind == DeviceKind::cpu && !device.dry, "shared memory carries nothing of a GPU");
}
void require_bounds(Bounds bounds, int size) {
  TLL_CHECK(bounds.size() == static_cast<size_t>(size) + 1 && std::is_sorted(bounds.begin(), bounds.end()), "{} bounds, {} ranks",
            bounds.size(), size);
}

constexpr const char* kGoOn = "the last checkpoint stands, go on with --resume";

}  // namespace

SharedMemoryCollectives::SharedMemoryCollectives(std::shared_ptr<SharedBlock> block, int rank, const RankPatience& patience)
    : Collectives(rank, block->size()),
      block_(std::move(block)),
      patience_(patience),
      self_(ProcessIdentity::self()),
      spins_(block_->size() <= cores()),
      seen_(static_cast<size_t>(block_->size())) {
  TLL_CHECK(rank >= 0 && rank < size(), "rank {} of {}", rank, size());
  block_->of(rank).set(self_);
  // Signals are the other threads' to handle.
  sigset_t every, before;
  sigfillset(&every);
  pthread_sigmask(SIG_SETMASK, &every, &before);
  heart_ = std::thread([this] { beat(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

SharedMemoryCollectives::~SharedMemoryCollectives() {
  {
    const std::lock_guard lock(ending_lock_);
    ends_ = true;
  }
  ending_.notify_one();
  heart_.join();
}

void SharedMemoryCollectives::beat() {
  std::unique_lock lock(ending_lock_);
  while (!ends_) {
    block_->of(rank()).beats.fetch_add(1);
    post_ended_children();
    ending_.wait_for(lock, patience_.beat);
  }
}

void SharedMemoryCollectives::post_ended_children() noexcept {
  for (int r = 0; r < size(); r++) {
    BlockOfRank& peer = block_->of(r);
    const int32_t pid = peer.pid;
    if (pid == 0 || pid == self_.pid || peer.ended != 0) continue;
    const int32_t ended = ended_child(pid);
    if (ended == 0) continue;
    peer.ended = ended;
    wake_all();
  }
}

// ---- waiting

void SharedMemoryCollectives::wake_all() noexcept {
  BlockOfAll& all = block_->all();
  all.news.fetch_add(1);
  if (all.asleep.load() > 0) futex_wake(all.news);
}

bool SharedMemoryCollectives::all_arrived() const {
  for (int r = 0; r < size(); r++)
    if (block_->of(r).arrived.load() < round_) return false;
  return true;
}

// Ends when every rank is at this round. Then each has read what it wanted of the round before, whose windows are filled next.
void SharedMemoryCollectives::meet(uint64_t operation) {
  require_nobody_left();
  BlockOfRank& own = block_->of(rank());
  round_++;
  own.operation[half_of(round_)].store(operation, std::memory_order_relaxed);
  own.arrived.store(round_);
  if (all_arrived())
    wake_all();
  else
    wait_for_round();
  for (int r = 0; r < size(); r++) {
    const uint64_t other = block_->of(r).operation[half_of(round_)].load(std::memory_order_relaxed);
    TLL_CHECK(other == operation, "rank {} is at another collective ({:x}) than rank {} ({:x})", r, other, rank(), operation);
  }
}

void SharedMemoryCollectives::wait_for_round() {
  const Clock::time_point start = Clock::now();
  for (int i = 0; spins_ && (i % 16 != 15 || Clock::now() - start < kSpin); i++) {
    if (all_arrived()) return;
    pause_core();
  }
  for (Seen& peer : seen_) peer = {};
  last_look_ = start;
  BlockOfAll& all = block_->all();
  // The last to arrive changes `news` after its arrival, and then looks for sleepers: it finds this one, or this one finds it.
  for (;;) {
    all.asleep.fetch_add(1);
    const uint32_t news = all.news.load();
    if (!all_arrived() && !somebody_left()) futex_wait(all.news, news, kNap);
    all.asleep.fetch_sub(1);
    if (all_arrived()) return;
    require_nobody_left();
    look_at_peers(std::chrono::duration_cast<milliseconds>(Clock::now() - start));
  }
}

void SharedMemoryCollectives::look_at_peers(milliseconds waited) {
  const Clock::time_point now = Clock::now();
  // This process may have been stopped as well, and the whole machine with it: a look stands for so much at most.
  const milliseconds since = std::min(std::chrono::duration_cast<milliseconds>(now - last_look_), 2 * kNap);
  last_look_ = now;
  for (int r = 0; r < size(); r++) {
    BlockOfRank& peer = block_->of(r);
    if (peer.arrived.load() >= round_) continue;
    const ProcessIdentity process = peer.process();
    if (process.pid == self_.pid) continue;  // a thread of this process
    if (process.pid == 0) {
      if (waited > patience_.start)
        fail(kExitFault, "rank {} has not come within {} seconds: all {} ranks must be started", r,
             std::chrono::duration_cast<std::chrono::seconds>(patience_.start).count(), size());
      continue;
    }
    if (peer.ended != 0 || has_ended(process)) report_death(r, process);
    Seen& seen = seen_[static_cast<size_t>(r)];
    const uint64_t beats = peer.beats;
    seen.silent = beats == seen.beats ? seen.silent + since : milliseconds{0};
    seen.beats = beats;
    if (seen.silent > patience_.silence)
      fail(kExitFault, "rank {} (process {}) has not answered for {} seconds; {}", r, process.pid,
           static_cast<double>(patience_.silence.count()) / 1000, kGoOn);
  }
}

void SharedMemoryCollectives::require_all_run() {
  require_nobody_left();
  for (int r = 0; r < size(); r++) {
    const BlockOfRank& peer = block_->of(r);
    const ProcessIdentity process = peer.process();
    if (process.pid != 0 && process.pid != self_.pid && (peer.ended != 0 || has_ended(process))) report_death(r, process);
  }
}

// The process has ended. It may have said why, or have been here before it did.
void SharedMemoryCollectives::report_death(int rank, const ProcessIdentity& process) {
  BlockOfRank& peer = block_->of(rank);
  const Clock::time_point end = Clock::now() + kForTheParent;
  while (block_->all().are_children && peer.ended == 0 && Clock::now() < end) {
    post_ended_children();
    std::this_thread::sleep_for(milliseconds(10));
  }
  require_nobody_left();
  const int32_t ended = peer.ended;
  fail(kExitFault, "rank {} (process {}) ended{}; {}", rank, process.pid, ended ? " (" + how_ended(ended) + ")" : "", kGoOn);
}

// ---- the first failure

bool SharedMemoryCollectives::leave(int code, const std::string& message) noexcept {
  BlockOfAll& all = block_->all();
  const uint32_t own = 2 * (static_cast<uint32_t>(rank()) + 1);
  uint32_t found = 0;
  while (!all.failure.compare_exchange_strong(found, own)) {
    // Another was first. If it was killed before it could say why, this rank speaks.
    if (found & 1) return false;
    if (!has_ended(block_->of(static_cast<int>(found / 2) - 1).process())) return false;
  }
  size_t length = std::min(message.size(), sizeof all.failure_message);
  while (length < message.size() && length > 0 && (static_cast<unsigned char>(message[length]) & 0xc0) == 0x80) length--;
  std::memcpy(all.failure_message, message.data(), length);
  all.failure_length = static_cast<uint32_t>(length);
  all.failure_code = code;
  all.failure.store(own | 1);
  wake_all();
  return true;
}

void SharedMemoryCollectives::require_nobody_left() const {
  const BlockOfAll& all = block_->all();
  const uint32_t failure = all.failure.load();
  if (!(failure & 1)) return;
  const size_t length = std::min<size_t>(all.failure_length, sizeof all.failure_message);
  throw Error(static_cast<ExitCode>(all.failure_code),
              fmt::format("rank {}: {}", failure / 2 - 1, std::string(all.failure_message, length)));
}

// ---- the operations

template <class Begin, class End>
void SharedMemoryCollectives::gather(char* data, const Begin& begin, const End& end, uint64_t operation) {
  const int64_t window = block_->window_bytes();
  int64_t longest = 0;
  for (int r = 0; r < size(); r++) longest = std::max(longest, end(r) - begin(r));
  for (int64_t done = 0; done < longest; done += window) {
    const auto bytes = [&](int r) { return std::clamp<int64_t>(end(r) - begin(r) - done, 0, window); };
    copy(own_window(), data + begin(rank()) + done, bytes(rank()));
    meet(operation);
    for (int other = 1; other < size(); other++) {  // each begins with another, so that no window is read by all at once
      const int r = (rank() + other) % size();
      copy(data + begin(r) + done, window_of(r), bytes(r));
    }
  }
}

void SharedMemoryCollectives::all_gather(const Device& device, void* data, Bounds bounds) {
  require_cpu(device);
  require_bounds(bounds, size());
  const ProfileScope scope(device.profile, "all_gather", {.bytes = static_cast<double>(bounds.back() - bounds.front())});
  gather(
      static_cast<char*>(data), [&](int r) { return bounds[static_cast<size_t>(r)]; },
      [&](int r) { return bounds[static_cast<size_t>(r) + 1]; }, operation_of(kGather, sizes_of(bounds)));
}

void SharedMemoryCollectives::all_gather_host(void* data, int64_t bytes) {
  gather(
      static_cast<char*>(data), [&](int r) { return r * bytes; }, [&](int r) { return (r + 1) * bytes; },
      operation_of(kGather, static_cast<uint64_t>(bytes)));
}

// A window has a place for a part of each rank.
void SharedMemoryCollectives::exchange(const Device& device, void* to, const void* from, Bounds bounds) {
  require_cpu(device);
  require_bounds(bounds, size());
  const ProfileScope scope(device.profile, "exchange", {.bytes = static_cast<double>(bounds.back() - bounds.front())});
  const uint64_t operation = operation_of(kExchange, sizes_of(bounds));
  const int64_t place = block_->window_bytes() / size() / 64 * 64;
  TLL_CHECK(place > 0, "windows of {} bytes for {} ranks", block_->window_bytes(), size());
  const auto part = [&](int r) { return bounds[static_cast<size_t>(r)]; };
  const auto bytes = [&](int r) { return bounds[static_cast<size_t>(r) + 1] - bounds[static_cast<size_t>(r)]; };
  int64_t longest = 0;
  for (int r = 0; r < size(); r++) longest = std::max(longest, bytes(r));
  char* result = static_cast<char*>(to);
  const char* parts = static_cast<const char*>(from);
  copy(result + rank() * bytes(rank()), parts + part(rank()), bytes(rank()));
  for (int64_t done = 0; done < longest; done += place) {
    const auto now = [&](int r) { return std::clamp<int64_t>(bytes(r) - done, 0, place); };
    for (int r = 0; r < size(); r++)
      if (r != rank()) copy(own_window() + r * place, parts + part(r) + done, now(r));
    meet(operation);
    for (int other = 1; other < size(); other++) {
      const int r = (rank() + other) % size();
      copy(result + r * bytes(rank()) + done, window_of(r) + rank() * place, now(rank()));
    }
  }
}

void SharedMemoryCollectives::send(char* data, int64_t bytes, int root) {
  TLL_CHECK(root >= 0 && root < size(), "root {} of {}", root, size());
  const int64_t window = block_->window_bytes();
  const uint64_t operation = operation_of(kBroadcast, static_cast<uint64_t>(bytes * size() + root));
  for (int64_t done = 0; done < bytes; done += window) {
    const int64_t now = std::min(window, bytes - done);
    if (rank() == root) copy(own_window(), data + done, now);
    meet(operation);
    if (rank() != root) copy(data + done, window_of(root), now);
  }
}

void SharedMemoryCollectives::broadcast(const Device& device, void* data, int64_t bytes, int root) {
  require_cpu(device);
  const ProfileScope scope(device.profile, "broadcast", {.bytes = static_cast<double>(bytes)});
  send(static_cast<char*>(data), bytes, root);
}
void SharedMemoryCollectives::broadcast_host(void* data, int64_t bytes, int root) { send(static_cast<char*>(data), bytes, root); }

void SharedMemoryCollectives::barrier() { meet(operation_of(kBarrier, 0)); }

}  // namespace tll
