// Streams, events, captures and graphs: what the runtime calls enqueue, and when it runs.
//
// An operation runs only when the program waits for it. One that needs other ranks (nccl.cpp) is tried again until they have
// come. The order is CUDA's: operations of a stream run in order, and after the events that the stream waits for. The default
// stream waits for everything earlier in the blocking streams (those that are not cudaStreamNonBlocking), and they wait for the
// default stream.
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
  // number: the place in the order of running, from 1; position: that in the happens-before order. Empty: nothing to do.
  // cudaErrorNotReady: it waits for other ranks, and is called again.
  std::function<cudaError_t(uint64_t number, const Position& position)> run{};
  std::vector<MemoryUse> uses{};  // of a copy or fill
  const void* site = nullptr;     // the call in the program
  bool waits = false;             // a synchronous call
  std::function<bool()> ready{};  // called before `run` until it is true; empty: it is
};

}  // namespace emulator

struct CUgraphNode_st {
  emulator::Task task;
  std::vector<size_t> after;  // indices of the nodes that come before
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
  struct HostUse {  // host memory that its copies use; the program must not touch it before it has run
    MemoryUse use;
    uint64_t hash;  // of the bytes that it reads; 0: unknown
    const void* site;
  };
  std::vector<HostUse> host{};
  bool host_reported = false, begun = false, done = false;
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
  std::shared_ptr<emulator::Capture> capture;  // null: not capturing
  std::vector<size_t> tail;                    // while capturing: the nodes that the next one comes after
};
struct CUevent_st {
  emulator::OperationPtr recorded;
  std::shared_ptr<emulator::Capture> capture;  // if recorded during a capture: the capture, and the nodes before the event
  std::vector<size_t> nodes;
};
struct CUgraphExec_st {
  CUgraph_st graph;
  // Nodes are partitioned into chains, in which each comes after the previous one. A chain has a slot; a node has its chain, and
  // its number in it from 1.
  std::vector<size_t> slots{}, chain{}, number{}, lengths{};
  std::vector<uint64_t> launched{};  // per chain: operations of its slot before this launch
  emulator::OperationPtr last{};     // the last launch; launches of an executable run one after another
};

namespace emulator {

struct Runtime {
  std::recursive_mutex mutex;
  CUstream_st default_stream;
  std::vector<CUstream_st*> streams{&default_stream};
  cudaError_t sticky = cudaSuccess, last = cudaSuccess;
  cudaError_t dead = cudaSuccess;  // after a fault of Options::failing_launch: what every call returns
  size_t graph_bytes = 0;          // device memory that graphs take
  uint64_t started = 0, random = 1;
  std::map<const void*, size_t> opt_ins;

  std::vector<uint64_t> numbers{0};  // operations of each slot so far; slot 0 is the default stream's
  std::vector<size_t> free_slots;
  Clock host;                        // what the host has waited for
  std::set<const void*> host_sites;  // accesses of host code that were reported since the program last waited
  History history;
  size_t new_slot();

  CUstream_st* find(cudaStream_t handle);  // null: no such stream
  cudaError_t enqueue(cudaStream_t handle, Task task, std::vector<OperationPtr> after = {}, CUgraphExec_st* graph = nullptr);
  bool run_front(CUstream_st* stream);  // false: it waits for other ranks
  void rest();                          // lets other threads and processes go on
  void finish(const OperationPtr& op);
  void finish_all();
  void wait_for(CUstream_st* stream);  // the program waits
  void wait_for(const OperationPtr& op);
  cudaError_t run(const Task& task, const Position& position);
  void watch_host(Operation& op, const Task& task);
  void check_host_sources(const Operation& op);

  // Calls that a capture forbids. unsafe(): those that need the relaxed mode. synchronising(): those that wait for all streams.
  // implicit(): those of the default stream.
  cudaError_t unsafe(const char* call);
  cudaError_t synchronising(const char* call);
  cudaError_t implicit(const char* call);
  cudaError_t invalidate(Capture& capture, cudaError_t error, const std::string& text);

  cudaError_t take() { return remember(dead ? dead : std::exchange(sticky, cudaSuccess)); }  // what a waiting call returns
  cudaError_t remember(cudaError_t error) {
    if (error != cudaSuccess) last = error;
    return error;
  }
  size_t pick(size_t n);  // chooses among unordered operations, by the seed
};
Runtime& runtime();
#define EMULATOR_LOCKED                         \
  emulator::Runtime& r = ::emulator::runtime(); \
  const std::lock_guard lock(r.mutex)
// What a call that makes or enqueues something begins with.
#define EMULATOR_CALL \
  EMULATOR_LOCKED;    \
  if (r.dead) return r.remember(r.dead)

void misuse(const std::string& text, const void* site = nullptr);

// Reports a wait for the stream (null: for all) where NCCL may not have enqueued yet what this thread has called.
void check_nccl_wait(const char* call, cudaStream_t stream);

// A launch of a graph. executable: null for a nested graph, all of whose nodes have the position of the node that launches it.
class GraphRun {
 public:
  GraphRun(const CUgraph_st& graph, const CUgraphExec_st* executable, const Position& position);
  cudaError_t go_on();  // cudaErrorNotReady: a node waits for other ranks

 private:
  const CUgraph_st& graph_;
  std::vector<size_t> missing_, ready_;  // ready_: the last one runs next, if begun_
  std::vector<std::vector<size_t>> followers_;
  std::vector<Position> positions_;
  bool begun_ = false;
};

}  // namespace emulator
