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
#include <string>
#include <thread>
#include <vector>

#include "emulator/runtime.h"

namespace emulator {
using Work = std::function<cudaError_t(uint64_t number)>;  // number: how many began before it; empty: nothing to do
}

struct CUgraphNode_st {
  emulator::Work run;
  std::vector<size_t> after;  // nodes of the same graph
};
struct CUgraph_st {
  std::vector<std::shared_ptr<CUgraphNode_st>> nodes;
};

namespace emulator {

struct Operation {
  Work run;
  std::vector<std::shared_ptr<Operation>> after;
  CUstream_st* stream = nullptr;
  bool done = false;
  std::chrono::steady_clock::time_point finished;
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
  emulator::OperationPtr last;  // its launches come one after another
};

namespace emulator {

struct Runtime {
  std::recursive_mutex mutex;
  CUstream_st default_stream;
  std::vector<CUstream_st*> streams{&default_stream};
  cudaError_t sticky = cudaSuccess, last = cudaSuccess;
  uint64_t started = 0, random = 1;
  std::map<const void*, size_t> opt_ins;

  CUstream_st* find(cudaStream_t handle);  // null: no stream
  cudaError_t enqueue(cudaStream_t handle, Work run, std::vector<OperationPtr> after = {});
  void run_front(CUstream_st* stream);
  void finish(const OperationPtr& op);
  void finish_all();
  cudaError_t run(const Work& work) { return work ? work(++started) : cudaSuccess; }
  cudaError_t run_graph(const CUgraph_st& graph);

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

void misuse(const std::string& text);

}  // namespace emulator
