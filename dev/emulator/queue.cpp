// Enqueuing, and running what is enqueued.
#include "dev/emulator/queue.h"

#include <algorithm>
#include <utility>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"

namespace emulator {

Runtime& runtime() {
  static Runtime instance;
  return instance;
}
void misuse(const std::string& text) { add_report({.fault = Fault::host, .message = "runtime call: " + text}); }

size_t Runtime::pick(size_t n) {
  random = random * 6364136223846793005ull + 1442695040888963407ull + options().seed;
  return (random >> 33) % n;
}
CUstream_st* Runtime::find(cudaStream_t handle) {
  if (!handle || handle == cudaStreamLegacy) return &default_stream;
  return std::find(streams.begin(), streams.end(), handle) == streams.end() ? nullptr : handle;
}

cudaError_t Runtime::enqueue(cudaStream_t handle, Work work, std::vector<OperationPtr> after) {
  CUstream_st* stream = find(handle);
  if (!stream) {
    misuse("a stream that was destroyed, or never created");
    return remember(cudaErrorInvalidResourceHandle);
  }
  if (stream->capture) {
    if (stream->capture->invalid) return remember(cudaErrorStreamCaptureInvalidated);
    CUgraph_st& graph = *stream->capture->graph;
    graph.nodes.push_back(std::make_shared<CUgraphNode_st>(CUgraphNode_st{std::move(work), stream->tail}));
    stream->tail = {graph.nodes.size() - 1};
    return cudaSuccess;
  }
  if (stream == &default_stream)
    if (const cudaError_t error = implicit("the default stream")) return error;
  auto op = std::make_shared<Operation>(Operation{std::move(work), std::move(after), stream, false, {}});
  if (stream == &default_stream) {
    for (CUstream_st* s : streams)
      if (s != stream && s->blocking && s->last && !s->last->done) op->after.push_back(s->last);
  } else if (stream->blocking && default_stream.last && !default_stream.last->done) {
    op->after.push_back(default_stream.last);
  }
  stream->waiting.push_back(op);
  stream->last = op;
  return cudaSuccess;
}

void Runtime::run_front(CUstream_st* stream) {
  const OperationPtr op = stream->waiting.front();
  for (const OperationPtr& before : op->after) finish(before);
  if (op->done) return;  // a failure has emptied the streams
  stream->waiting.pop_front();
  const cudaError_t error = run(op->run);
  op->done = true;
  op->finished = std::chrono::steady_clock::now();
  op->after.clear();
  op->run = nullptr;
  if (error == cudaSuccess) return;
  sticky = error;
  for (CUstream_st* s : streams) {
    for (const OperationPtr& dropped : s->waiting) dropped->done = true;
    s->waiting.clear();
  }
}
void Runtime::finish(const OperationPtr& op) {
  while (op && !op->done) run_front(op->stream);
}
void Runtime::finish_all() {
  for (;;) {
    std::vector<CUstream_st*> ready;
    for (CUstream_st* s : streams)
      if (!s->waiting.empty()) ready.push_back(s);
    if (ready.empty()) return;
    run_front(ready[pick(ready.size())]);
  }
}
cudaError_t Runtime::run_graph(const CUgraph_st& graph) {
  const size_t n = graph.nodes.size();
  std::vector<size_t> missing(n), ready;
  std::vector<std::vector<size_t>> followers(n);
  for (size_t i = 0; i < n; i++) {
    missing[i] = graph.nodes[i]->after.size();
    for (size_t before : graph.nodes[i]->after) followers[before].push_back(i);
    if (missing[i] == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    std::swap(ready[ready.size() > 1 ? pick(ready.size()) : 0], ready.back());
    const size_t i = ready.back();
    ready.pop_back();
    if (const cudaError_t error = run(graph.nodes[i]->run)) return error;
    for (size_t next : followers[i])
      if (--missing[next] == 0) ready.push_back(next);
  }
  return cudaSuccess;
}

// ---- launches -----------------------------------------------------------------------------------------------------------------
cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* kernel, RunThread run,
                           std::shared_ptr<const void> arguments, size_t argument_bytes) {
  EMULATOR_LOCKED;
  const dim3 grid = config.gridDim, block = config.blockDim;
  const size_t opt_in = r.opt_ins.count(kernel) ? r.opt_ins[kernel] : 0;
  const auto refuse = [&](cudaError_t error, const std::string& text) {
    add_report(
        {.fault = Fault::launch, .message = "launch: " + launch_name(kernel) + ": " + text, .kernel = launch_name(kernel)});
    return r.remember(error);
  };
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return refuse(cudaErrorInvalidConfiguration, "a grid of " + std::to_string(grid.x) + " × " + std::to_string(grid.y) + " × " +
                                                     std::to_string(grid.z) + " blocks");
  if (!block.x || !block.y || !block.z || block.x > 1024 || block.y > 1024 || block.z > 64 ||
      uint64_t{block.x} * block.y * block.z > 1024)
    return refuse(cudaErrorInvalidConfiguration, "a block of " + std::to_string(block.x) + " × " + std::to_string(block.y) +
                                                     " × " + std::to_string(block.z) + " threads");
  const size_t limit = static_cast<size_t>(shared_limit(arch()));
  if (config.dynamicSmemBytes > limit || config.dynamicSmemBytes > std::max<size_t>(48 * 1024, opt_in))
    return refuse(cudaErrorInvalidValue, std::to_string(config.dynamicSmemBytes) + " bytes of dynamic shared memory: sm_" +
                                             std::to_string(arch() / 10) + " grants " + std::to_string(limit) +
                                             ", and more than 49152 after cudaFuncSetAttribute only");
  if (argument_bytes > 32764) return refuse(cudaErrorInvalidValue, std::to_string(argument_bytes) + " bytes of arguments");
  return r.enqueue(config.stream, [=, arguments = std::move(arguments), smem = config.dynamicSmemBytes](uint64_t number) {
    Launch launch;
    launch.kernel = kernel;
    launch.run = run;
    launch.arguments = arguments;
    launch.argument_bytes = argument_bytes;
    launch.grid = grid;
    launch.block = block;
    launch.dynamic_bytes = smem;
    launch.opt_in = opt_in;
    launch.seed = (options().seed * 0x9e3779b97f4a7c15ull) ^ (number * 0xd1342543de82ef95ull);
    run_launch(launch);
    return launch.failed ? cudaErrorLaunchFailure : cudaSuccess;
  });
}
cudaError_t enqueue_work(cudaStream_t stream, std::function<cudaError_t()> work) {
  EMULATOR_LOCKED;
  return r.enqueue(stream, [work = std::move(work)](uint64_t) { return work(); });
}

}  // namespace emulator

using emulator::Fault;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  EMULATOR_LOCKED;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > emulator::shared_limit(emulator::arch())) {
    emulator::add_report({.fault = Fault::launch,
                          .message = "launch: " + emulator::launch_name(kernel) + ": asks for " + std::to_string(value) +
                                     " bytes of dynamic shared memory, sm_" + std::to_string(emulator::arch() / 10) + " grants " +
                                     std::to_string(emulator::shared_limit(emulator::arch())),
                          .kernel = emulator::launch_name(kernel)});
    return r.remember(cudaErrorInvalidValue);
  }
  r.opt_ins[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  EMULATOR_LOCKED;
  return std::exchange(r.last, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  EMULATOR_LOCKED;
  return r.last;
}
