// Notices a rank of an MPI run that no longer answers, and decides which rank's error is the first.
//
// A thread of each rank has a communicator of its own. Every few seconds rank r sends a word to rank 0, which answers. A rank
// that ends is not its business: mpirun sees that, names the rank and ends the others. A process that is stopped, or a host that
// is gone, is only silent.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "src/ranks/open_mpi_library.h"

namespace tll {

class MpiWatch {
 public:
  // `names` are those of all ranks, for the message: "rank 1 (host b, process 1234)". After `silence` without a word from another
  // rank, the error is printed and all ranks end, with exit code 1.
  MpiWatch(const OpenMpi& mpi, ompi_communicator_t* communicator, int rank, std::vector<std::string> names,
           std::chrono::milliseconds silence);
  // Waits for the other ranks' farewells, for a few seconds.
  ~MpiWatch();
  MpiWatch(const MpiWatch&) = delete;
  MpiWatch& operator=(const MpiWatch&) = delete;

  // This rank ends with an error. Returns whether no other rank did before; rank 0 decides, and is waited for only for a moment.
  // All ranks end with `code` after a few seconds, if this one has not ended them by then.
  bool first_to_leave(int code) noexcept;
  // Ends the thread at once, without a word to the others.
  void stop() noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  enum class Word : int32_t { none, here, leaving, first, not_first, bye };
  // One for each rank that this one talks to: of rank 0 all others, of another rank only rank 0.
  struct Peer {
    int rank = 0;
    Word heard = Word::none, said = Word::none;  // the messages' memory
    ompi_request_t *receiving = nullptr, *sending = nullptr;
    Word next = Word::none;             // to be said when the last word is out
    Clock::duration quiet{}, untold{};  // since it last spoke, and since it was last spoken to
    bool gone = false, told_bye = false;
  };
  void run();
  bool turn(Clock::duration passed);  // false: all farewells are said
  void hear(Peer&);
  void say(Peer&);
  bool claim(int rank);  // whether `rank` is the first that leaves
  [[noreturn]] void end_all(int code) noexcept;

  const OpenMpi mpi_;
  ompi_communicator_t* const communicator_;
  const int rank_;
  const std::vector<std::string> names_;
  const std::chrono::milliseconds silence_;
  std::vector<Peer> peers_;
  std::atomic<int> first_left_{-1};        // rank 0 alone knows
  std::atomic<Word> verdict_{Word::none};  // rank 0's, on another rank that leaves
  std::atomic<int> code_{0};               // with which this rank leaves; 0: it does not
  bool said_leaving_ = false;
  Clock::duration since_left_{};
  std::atomic<bool> ending_{false}, stopped_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace tll
