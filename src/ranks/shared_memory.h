// Collectives between ranks that share memory: processes of one machine, or threads of one process. What one rank has for others
// it copies into a window of its own, and they copy it out, in rounds; there are two windows, so that a round is filled while the
// one before is still read.
//
// Of a GPU's memory this carrier moves nothing: beside a GPU only its *_host calls may be used.
//
// Nothing is allocated by a call. A rank that waits spins shortly, and then gives its core away until the round is full.
//
// An Error (kExitFault) of a call names the rank at fault: its process ended, or was not scheduled for `silence` (stopped, or the
// machine swaps). A rank that runs, but is not at the collective, is waited for without end: it may be writing a checkpoint.
// After an Error the only call allowed is leave().
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "src/ranks/collectives.h"
#include "src/ranks/shared_block.h"

namespace tll {

struct RankPatience {
  std::chrono::milliseconds beat{200};       // how often a process shows that it runs
  std::chrono::milliseconds silence{30000};  // without a beat
  std::chrono::milliseconds start{60000};    // until all ranks have come
};

class SharedMemoryCollectives : public Collectives {
 public:
  static constexpr int64_t kWindow = 1 << 20;  // bytes; two for each rank, which a processor's cache holds

  // Joins as `rank`; does not wait for the others, as the first call does.
  SharedMemoryCollectives(std::shared_ptr<SharedBlock> block, int rank, const RankPatience& patience = {});
  ~SharedMemoryCollectives() override;

  void all_gather(const Device& device, void* data, Bounds bounds) override;
  void exchange(const Device& device, void* to, const void* from, Bounds bounds) override;
  void broadcast(const Device& device, void* data, int64_t bytes, int root) override;
  void all_gather_host(void* data, int64_t bytes) override;
  void broadcast_host(void* data, int64_t bytes, int root) override;
  void barrier() override;
  bool leave(int code, const std::string& message) noexcept override;
  std::string name() const override { return "shared memory"; }

  // The Error of the rank that left, if one has.
  void require_nobody_left() const;
  // The same, and that of a rank whose process has ended. Does not wait for ranks; for a rank that waits for something else.
  void require_all_run() override;

 private:
  template <class Begin, class End>
  void gather(char* data, const Begin& begin, const End& end, uint64_t operation);
  void send(char* data, int64_t bytes, int root);
  char* own_window() const { return block_->window(rank(), half_of(round_ + 1)); }
  const char* window_of(int rank) const { return block_->window(rank, half_of(round_)); }
  static int half_of(uint64_t round) { return static_cast<int>(round & 1); }

  void meet(uint64_t operation);
  bool all_arrived() const;
  bool somebody_left() const { return (block_->all().failure.load() & 1) != 0; }
  void wait_for_round();
  void look_at_peers(std::chrono::milliseconds waited);
  [[noreturn]] void report_death(int rank, const ProcessIdentity& process);
  void wake_all() noexcept;
  void beat();
  void post_ended_children() noexcept;

  const std::shared_ptr<SharedBlock> block_;
  const RankPatience patience_;
  const ProcessIdentity self_;
  const bool spins_;
  uint64_t round_ = 0;
  struct Seen {
    uint64_t beats = 0;
    std::chrono::milliseconds silent{0};
  };
  std::vector<Seen> seen_;                           // of each peer, while this rank waits
  std::chrono::steady_clock::time_point last_look_;  // of the same

  std::mutex ending_lock_;
  std::condition_variable ending_;
  bool ends_ = false;
  std::thread heart_;
};

}  // namespace tll
