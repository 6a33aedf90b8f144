// Enqueues operations and runs them.
#include "dev/emulator/queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/symbols.h"

namespace emulator {

Runtime& runtime() {
  static Runtime instance;
  return instance;
}
void misuse(const std::string& text, const void* site) {
  const Place at = place_of(site);
  const std::string line = at.line ? line_text(at) + ": " : "";
  add_report({.fault = Fault::host, .message = fmt::format("runtime call: {}{}", line, text), .place = at});
}

void repair_device() {
  EMULATOR_LOCKED;
  r.dead = r.sticky = r.last = cudaSuccess;
}

size_t Runtime::pick(size_t n) {
  random = random * 6364136223846793005ull + 1442695040888963407ull + options().seed;
  return (random >> 33) % n;
}
CUstream_st* Runtime::find(cudaStream_t handle) {
  if (!handle) return &default_stream;
  return std::find(streams.begin(), streams.end(), handle) == streams.end() ? nullptr : handle;
}

size_t Runtime::new_slot() {
  if (free_slots.empty()) {
    numbers.push_back(0);
    return numbers.size() - 1;
  }
  const size_t slot = free_slots.back();
  free_slots.pop_back();
  return slot;
}

cudaError_t Runtime::enqueue(cudaStream_t handle, Task task, std::vector<OperationPtr> after, CUgraphExec_st* graph) {
  if (dead) return remember(dead);
  CUstream_st* stream = find(handle);
  if (!stream) {
    misuse("a stream that was destroyed, or never created", task.site);
    return remember(cudaErrorInvalidResourceHandle);
  }
  if (stream->capture) {
    if (stream->capture->invalid) return remember(cudaErrorStreamCaptureInvalidated);
    CUgraph_st& captured = *stream->capture->graph;
    if (options().capture_limit >= 0 && captured.nodes.size() >= static_cast<size_t>(options().capture_limit)) {
      stream->capture->invalid = true;
      return remember(cudaErrorStreamCaptureUnsupported);
    }
    captured.nodes.push_back(std::make_shared<CUgraphNode_st>(CUgraphNode_st{std::move(task), stream->tail}));
    stream->tail = {captured.nodes.size() - 1};
    return cudaSuccess;
  }
  if (stream == &default_stream)
    if (const cudaError_t error = implicit("the default stream")) return error;
  Clock& clock = stream->clock;
  clock.join(host);
  for (const OperationPtr& before : after) clock.join(before->position.clock);
  const auto comes_after = [&](const CUstream_st& other) {
    clock.join(other.clock);
    if (other.last && !other.last->done) after.push_back(other.last);
  };
  if (stream == &default_stream) {
    for (const CUstream_st* s : streams)
      if (s != stream && s->blocking) comes_after(*s);
  } else if (stream->blocking) {
    comes_after(default_stream);
  }
  clock.set(stream->slot, ++numbers[stream->slot]);
  auto op = std::make_shared<Operation>();
  op->task = std::move(task);
  op->after = std::move(after);
  op->stream = stream;
  op->position = {stream->slot, numbers[stream->slot], clock};
  if (graph) {  // what follows in the stream comes after all nodes
    for (size_t i = 0; i < graph->slots.size(); i++) clock.set(graph->slots[i], numbers[graph->slots[i]] += graph->lengths[i]);
    for (const auto& node : graph->graph.nodes) watch_host(*op, node->task);
  }
  watch_host(*op, op->task);
  stream->waiting.push_back(op);
  stream->last = op;
  return cudaSuccess;
}

bool Runtime::run_front(CUstream_st* stream) {
  const OperationPtr op = stream->waiting.front();
  for (const OperationPtr& before : op->after)
    while (!before->done)
      if (!run_front(before->stream)) return false;
  if (op->done) return true;  // a failure has dropped all pending operations
  if (!std::exchange(op->begun, true)) check_host_sources(*op);
  const cudaError_t error = run(op->task, op->position);
  if (error == cudaErrorNotReady) return false;
  stream->waiting.pop_front();
  op->done = true;
  op->finished = std::chrono::steady_clock::now();
  op->after.clear();
  op->task.run = nullptr;
  op->task.ready = nullptr;
  watched_host -= op->host.size();
  if (error == cudaSuccess) return true;
  sticky = error;
  for (CUstream_st* s : streams) {
    for (const OperationPtr& dropped : s->waiting) {
      dropped->done = true;
      dropped->task = {};
      watched_host -= dropped->host.size();
    }
    s->waiting.clear();
  }
  return true;
}
void Runtime::rest() {
  mutex.unlock();
  std::this_thread::sleep_for(std::chrono::microseconds(50));
  mutex.lock();
}
void Runtime::finish(const OperationPtr& op) {
  while (op && !op->done)
    if (!run_front(op->stream)) rest();
}
void Runtime::wait_for(const OperationPtr& op) {
  if (!op) return;
  finish(op);
  host.join(op->position.clock);
}
void Runtime::wait_for(CUstream_st* stream) {
  finish(stream->last);
  host.join(stream->clock);
  host_sites.clear();
  if (std::all_of(streams.begin(), streams.end(), [](const CUstream_st* s) { return s->waiting.empty(); })) history.forget(host);
}
void Runtime::finish_all() {
  for (;;) {
    std::vector<CUstream_st*> ready;
    for (CUstream_st* s : streams)
      if (!s->waiting.empty()) ready.push_back(s);
    if (ready.empty()) break;
    if (!run_front(ready[pick(ready.size())])) rest();
  }
  for (CUstream_st* s : streams) wait_for(s);
}

cudaError_t Runtime::run(const Task& task, const Position& position) {
  if (!task.run) return cudaSuccess;
  if (task.ready && !task.ready()) return cudaErrorNotReady;
  if (!task.uses.empty()) {
    check_order(task.uses, history.unordered(position.slot, position.clock), task.site);
    history.add({.slot = position.slot, .number = position.number, .uses = task.uses, .site = task.site});
  }
  const cudaError_t error = task.run(++started, position);
  if (error == cudaErrorNotReady) started--;
  return error;
}

GraphRun::GraphRun(const CUgraph_st& graph, const CUgraphExec_st* executable, const Position& position)
    : graph_(graph), missing_(graph.nodes.size()), followers_(graph.nodes.size()), positions_(graph.nodes.size(), position) {
  for (size_t i = 0; i < graph.nodes.size(); i++) {
    missing_[i] = graph.nodes[i]->after.size();
    for (size_t before : graph.nodes[i]->after) followers_[before].push_back(i);
    if (missing_[i] == 0) ready_.push_back(i);
    if (executable) {
      const size_t slot = executable->slots[executable->chain[i]];
      positions_[i].slot = slot;
      positions_[i].number = executable->launched[executable->chain[i]] + executable->number[i];
      for (size_t before : graph.nodes[i]->after) positions_[i].clock.join(positions_[before].clock);
      positions_[i].clock.set(slot, positions_[i].number);
    }
  }
}
cudaError_t GraphRun::go_on() {
  Runtime& r = runtime();
  while (!ready_.empty()) {
    if (!begun_) std::swap(ready_[ready_.size() > 1 ? r.pick(ready_.size()) : 0], ready_.back());
    const size_t i = ready_.back();
    const cudaError_t error = r.run(graph_.nodes[i]->task, positions_[i]);
    begun_ = error == cudaErrorNotReady;
    if (error) return error;
    ready_.pop_back();
    for (size_t next : followers_[i])
      if (--missing_[next] == 0) ready_.push_back(next);
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
    const std::string name = launch_name(kernel);
    add_report({.fault = Fault::launch, .message = fmt::format("launch: {}: {}", name, text), .kernel = name});
    return r.remember(error);
  };
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return refuse(cudaErrorInvalidConfiguration, fmt::format("a grid of {} × {} × {} blocks", grid.x, grid.y, grid.z));
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (!block.x || !block.y || !block.z || block.x > 1024 || block.y > 1024 || block.z > 64 || threads > 1024)
    return refuse(cudaErrorInvalidConfiguration, fmt::format("a block of {} × {} × {} threads", block.x, block.y, block.z));
  const size_t limit = static_cast<size_t>(shared_limit(arch())), statics = static_shared_bytes(kernel),
               total = statics + config.dynamicSmemBytes;
  if (statics > kSharedWithoutOptIn || total > limit || total > std::max(kSharedWithoutOptIn, opt_in + statics))
    return refuse(
        cudaErrorInvalidValue,
        fmt::format("{} bytes of static and {} of dynamic shared memory: sm_{} grants {} in all, 49152 of them static, and "
                    "more than 49152 after cudaFuncSetAttribute only{}",
                    statics, config.dynamicSmemBytes, arch() / 10, limit,
                    opt_in ? fmt::format(", which was called for {}", opt_in) : ""));
  if (const int registers = registers_of(kernel)) {
    // Registers are allocated to warps in units of 256, and a block's warps are rounded up to a multiple of 4.
    const uint64_t warps = (threads + 127) / 128 * 4, all = warps * 256 * static_cast<uint64_t>((registers + 7) / 8);
    if (all > 65536)
      return refuse(cudaErrorLaunchOutOfResources,
                    fmt::format("{} registers for each of {} threads take {} of a block's 65536", registers, threads, all));
  }
  if (argument_bytes > 32764) return refuse(cudaErrorInvalidValue, fmt::format("{} bytes of arguments", argument_bytes));
  if (const auto& tell = options().instead_of_running) {
    tell({launch_name(kernel), {grid.x, grid.y, grid.z}, static_cast<unsigned>(threads), config.dynamicSmemBytes});
    return cudaSuccess;
  }
  return r.enqueue(config.stream, {[=, arguments = std::move(arguments), smem = config.dynamicSmemBytes](
                                       uint64_t number, const Position& position) {
                     Runtime& self = runtime();
                     if (options().failing_launch > 0 && --options().failing_launch == 0)
                       return self.dead = cudaErrorIllegalAddress;
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
                     launch.unordered = self.history.unordered(position.slot, position.clock);
                     run_launch(launch);
                     self.history.add({.slot = position.slot,
                                       .number = position.number,
                                       .kernel = kernel,
                                       .first_stamp = launch.first_stamp,
                                       .blocks = static_cast<uint32_t>(launch.order.size())});
                     return launch.failed ? cudaErrorLaunchFailure : cudaSuccess;
                   }});
}
cudaError_t enqueue_work(cudaStream_t stream, std::function<cudaError_t()> work) {
  EMULATOR_LOCKED;
  return r.enqueue(stream, {[work = std::move(work)](uint64_t, const Position&) { return work(); }});
}

}  // namespace emulator

using emulator::Fault;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  EMULATOR_LOCKED;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > emulator::shared_limit(emulator::arch())) {
    const std::string name = emulator::launch_name(kernel);
    emulator::add_report({.fault = Fault::launch,
                          .message = fmt::format("launch: {}: asks for {} bytes of dynamic shared memory, sm_{} grants {}", name,
                                                 value, emulator::arch() / 10, emulator::shared_limit(emulator::arch())),
                          .kernel = name});
    return r.remember(cudaErrorInvalidValue);
  }
  r.opt_ins[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  EMULATOR_LOCKED;
  return std::exchange(r.last, cudaSuccess);
}
