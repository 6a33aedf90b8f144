// What the runtime calls enqueue, and when it runs: streams, events, captures and graphs.
//
// What is enqueued waits until the program waits for it, and then runs in the order that CUDA promises: that of its stream; after
// the events that the stream waits for; and, for the default stream, after everything before it in the streams that are not
// cudaStreamNonBlocking, which in turn wait for it.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "dev/emulator/order.h"
#include "emulator/runtime.h"

namespace emulator {

struct Task {
  // number: how many began before it; where it stands among the others. Empty: nothing to do.
  std::function<cudaError_t(uint64_t number, const Position& position)> run{};
  std::vector<MemoryUse> uses{};  // of a copy or a fill
  const void* site = nullptr;     // where the program called for it
  bool waits = false;             // the program waits for it at once
};

}  // namespace emulator

struct CUgraphNode_st {
  emulator::Task task;
  std::vector<size_t> after;  // nodes of the same graph
};
struct CUgraph_st {
  std::vector<std::shared_ptr<CUgraphNode_st>> nodes;
};

namespace emulator {

struct Operation {
  Task task;
  std::vector<std::shared_ptr<Operation>> after;
  CUstream_st* stream = nullptr;
  Position position{};
  struct HostUse {  // host memory that its copies touch: not to be used before it has run
    MemoryUse use;
    uint64_t hash;  // of what it reads; 0: not known
    const void* site;
  };
  std::vector<HostUse> host{};
  bool host_reported = false, done = false;
  std::chrono::steady_clock::time_point finished{};
};
using OperationPtr = std::shared_ptr<Operation>;

struct Capture {
  CUstream_st* origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool invalid = false;
  std::unique_ptr<CUgraph_st> graph = std::make_unique<CUgraph_st>();
};

}  // namespace emulator

struct CUstream_st {
  bool blocking = true;
  size_t slot = 0;
  emulator::Clock clock;  // of its last operation
  std::deque<emulator::OperationPtr> waiting;
  emulator::OperationPtr last;
  std::shared_ptr<emulator::Capture> capture;  // null: what is enqueued will run
  std::vector<size_t> tail;                    // while it captures: the nodes that its next one comes after
};
struct CUevent_st {
  emulator::OperationPtr recorded;
  std::shared_ptr<emulator::Capture> capture;  // recorded in a stream that captured, after these nodes
  std::vector<size_t> nodes;
};
struct CUgraphExec_st {
  CUgraph_st graph;
  // Chains of nodes that come one after another have slots: each node's chain, and its number in it from 1.
  std::vector<size_t> slots{}, chain{}, number{}, lengths{};
  std::vector<uint64_t> launched{};  // of each slot: operations before the launch that runs
  emulator::OperationPtr last{};     // its launches come one after another
};

namespace emulator {

struct Runtime {
  std::recursive_mutex mutex;
  CUstream_st default_stream;
  std::vector<CUstream_st*> streams{&default_stream};
  cudaError_t sticky = cudaSuccess, last = cudaSuccess;
  uint64_t started = 0, random = 1;
  std::map<const void*, size_t> opt_ins;

  std::vector<uint64_t> numbers{0};  // of each slot: operations so far. Slot 0 is the default stream's.
  std::vector<size_t> free_slots;
  Clock host;                        // what the program has waited for
  std::set<const void*> host_sites;  // of the host's code, reported since the program last waited
  History history;
  size_t new_slot();

  CUstream_st* find(cudaStream_t handle);  // null: no stream
  cudaError_t enqueue(cudaStream_t handle, Task task, std::vector<OperationPtr> after = {}, CUgraphExec_st* graph = nullptr);
  void run_front(CUstream_st* stream);
  void finish(const OperationPtr& op);
  void finish_all();
  void wait_for(CUstream_st* stream);  // the program waits
  void wait_for(const OperationPtr& op);
  cudaError_t run(const Task& task, const Position& position);
  // executable: null for a graph within a graph, all of whose nodes have that one's position.
  cudaError_t run_graph(const CUgraph_st& graph, const CUgraphExec_st* executable, const Position& position);
  void watch_host(Operation& op, const Task& task);
  void check_host_sources(const Operation& op);

  // What the capture of a stream forbids: unsafe() a call that a capture in a mode that is not relaxed does not allow,
  // synchronising() one that waits for all streams, implicit() one of the default stream.
  cudaError_t unsafe(const char* call);
  cudaError_t synchronising(const char* call);
  cudaError_t implicit(const char* call);
  cudaError_t invalidate(Capture& capture, cudaError_t error, const std::string& text);

  cudaError_t take() { return remember(std::exchange(sticky, cudaSuccess)); }  // what the waiting call returns
  cudaError_t remember(cudaError_t error) {
    if (error != cudaSuccess) last = error;
    return error;
  }
  size_t pick(size_t n);  // a seed gives the order in which what is not ordered advances
};
Runtime& runtime();
#define EMULATOR_LOCKED                         \
  emulator::Runtime& r = ::emulator::runtime(); \
  const std::lock_guard lock(r.mutex)

void misuse(const std::string& text, const void* site = nullptr);

}  // namespace emulator
