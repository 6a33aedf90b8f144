// The emulated NCCL: its communicators, and the units in which their calls run.
#pragma once

#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dev/emulator/nccl_peers.h"
#include "dev/emulator/queue.h"
#include "kernels/nccl_api.h"

namespace emulator::nccl {

using tll::nccl_api::Comm;
using tll::nccl_api::Result;
using SteadyClock = std::chrono::steady_clock;

struct Call {  // send: what this rank gives, or null; receive: where what it gets goes, or null
  Kind kind{};
  const char* send = nullptr;
  char* receive = nullptr;
  size_t bytes = 0;
  int peer = -1;  // or the root
};

// A group of calls, or one call. It is enqueued as one operation, and runs when all ranks that it needs have come to theirs.
class Unit {
 public:
  Unit(std::shared_ptr<tll::nccl_api::Communicator> comm, std::vector<Call> calls, const void* site);
  std::vector<MemoryUse> uses() const;
  bool ready();  // whether it can be finished, or never will be
  cudaError_t finish();
  const void* site() const { return site_; }
  bool captured = false;  // a node of a graph: then it must be one on all ranks

 private:
  struct Progress {  // with one other rank
    std::vector<size_t> sends{}, receives{};
    size_t collectives_done = 0, sends_done = 0, receives_done = 0;
  };
  struct Arrived {
    char* to;
    std::vector<char> bytes;
  };
  std::string check_memory() const;
  void post();
  std::string match(int rank);  // what is wrong
  bool done(const Progress&) const;
  std::string missing() const;  // for which rank it waits, and what that has not called
  std::string name(const Call&) const;

  std::shared_ptr<tll::nccl_api::Communicator> comm_;
  std::vector<Call> calls_;
  std::vector<size_t> collectives_;  // of calls_
  const void* site_;
  bool posted_ = false;
  SteadyClock::time_point begun_{};
  uint64_t epoch_ = 0;
  std::vector<Progress> progress_;
  std::vector<Arrived> arrived_;
};

}  // namespace emulator::nccl

struct tll::nccl_api::Communicator {
  Communicator(const std::string& name, int r, int n) : rank(r), size(n), peers(name, r, n) {}
  const int rank, size;
  const std::thread::id thread = std::this_thread::get_id();
  const int process = getpid();
  emulator::nccl::Peers peers;
  Result state = ncclInProgress;  // what ncclCommGetAsyncError gives
  std::string error{};            // what ncclGetLastError gives
  bool met = false, finalizing = false, finalized = false;
  bool aborted = false;
  bool faulted = false;                              // a fault was reported, here or by another rank
  uint64_t collectives = 0;                          // begun
  cudaStream_t stream = nullptr;                     // of the first call
  std::shared_ptr<emulator::nccl::Unit> accepted{};  // not yet enqueued
  int polls = 0;                                     // since it was accepted
  // Operations of streams, and nodes of graphs, hold copies.
  std::shared_ptr<char> enqueued = std::make_shared<char>(), captured = std::make_shared<char>();
  emulator::nccl::SteadyClock::time_point tried{};  // when a unit was last looked at

  // Reports a fault of the program, and tells the other ranks.
  void fault(const std::string& text, const void* site);
  // Moves messages, and notices what has become of the other ranks.
  void move();
};
