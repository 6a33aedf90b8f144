// Streams and events. What is enqueued waits until the program waits for it, and then runs in the order that CUDA promises: that
// of its stream; after the events that the stream waits for; and, for the default stream, after everything before it in the
// streams that are not cudaStreamNonBlocking, which in turn wait for it.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"

using emulator::Fault;
using emulator::options;

namespace {

struct Operation {
  std::function<cudaError_t()> run;
  std::vector<std::shared_ptr<Operation>> after;
  CUstream_st* stream = nullptr;
  bool done = false;
  std::chrono::steady_clock::time_point finished;
};
using OperationPtr = std::shared_ptr<Operation>;

}  // namespace

struct CUstream_st {
  bool blocking = true;
  std::deque<OperationPtr> waiting;
  OperationPtr last;
};
struct CUevent_st {
  OperationPtr recorded;
};

namespace {

struct Runtime {
  std::recursive_mutex mutex;
  CUstream_st default_stream;
  std::vector<CUstream_st*> streams{&default_stream};
  cudaError_t sticky = cudaSuccess, last = cudaSuccess;
  uint64_t enqueued = 0, random = 1;
  std::map<const void*, size_t> opt_ins;

  // A seed gives the order in which streams that do not wait for each other advance.
  size_t pick(size_t n) {
    random = random * 6364136223846793005ull + 1442695040888963407ull + options().seed;
    return (random >> 33) % n;
  }
  void enqueue(cudaStream_t handle, std::function<cudaError_t()> run, std::vector<OperationPtr> after = {}) {
    CUstream_st* stream = handle ? handle : &default_stream;
    auto op = std::make_shared<Operation>(Operation{std::move(run), std::move(after), stream, false, {}});
    if (stream == &default_stream) {
      for (CUstream_st* s : streams)
        if (s != stream && s->blocking && s->last && !s->last->done) op->after.push_back(s->last);
    } else if (stream->blocking && default_stream.last && !default_stream.last->done) {
      op->after.push_back(default_stream.last);
    }
    stream->waiting.push_back(op);
    stream->last = op;
    enqueued++;
  }
  void run_front(CUstream_st* stream) {
    const OperationPtr op = stream->waiting.front();
    for (const OperationPtr& before : op->after) finish(before);
    if (op->done) return;  // a failure has emptied the streams
    stream->waiting.pop_front();
    const cudaError_t error = op->run ? op->run() : cudaSuccess;
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
  void finish(const OperationPtr& op) {
    while (op && !op->done) run_front(op->stream);
  }
  void finish_stream(cudaStream_t handle) {
    CUstream_st* stream = handle ? handle : &default_stream;
    finish(stream->last);
  }
  void finish_all() {
    for (;;) {
      std::vector<CUstream_st*> ready;
      for (CUstream_st* s : streams)
        if (!s->waiting.empty()) ready.push_back(s);
      if (ready.empty()) return;
      run_front(ready[pick(ready.size())]);
    }
  }
  cudaError_t take() {  // what the waiting call returns
    const cudaError_t error = std::exchange(sticky, cudaSuccess);
    return remember(error);
  }
  cudaError_t remember(cudaError_t error) {
    if (error != cudaSuccess) last = error;
    return error;
  }
};
Runtime& runtime() {
  static Runtime instance;
  return instance;
}
#define LOCKED              \
  Runtime& r = ::runtime(); \
  const std::lock_guard lock(r.mutex)

void misuse(const std::string& text) { emulator::add_report({.fault = Fault::host, .message = "runtime call: " + text}); }

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = emulator::in_device_memory(to), from_device = emulator::in_device_memory(from);
  std::string wrong;
  if (to_device) wrong = emulator::check_device_range(to, bytes, false);
  if (wrong.empty() && from_device) wrong = emulator::check_device_range(from, bytes, kind != cudaMemcpyDeviceToDevice);
  if (kind != cudaMemcpyDefault && wrong.empty() &&
      (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
       from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
    wrong = "memory of another side than the direction says";
  if (!wrong.empty()) {
    misuse("a copy of " + std::to_string(bytes) + " bytes uses " + wrong);
    return cudaErrorInvalidValue;
  }
  std::memmove(to, from, bytes);
  if (to_device && from_device) emulator::copy_written(to, from, bytes);
  if (to_device && !from_device) emulator::set_written(to, bytes);
  return cudaSuccess;
}

}  // namespace

namespace emulator {

cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* kernel, RunThread run,
                           std::shared_ptr<const void> arguments, size_t argument_bytes) {
  LOCKED;
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
  const uint64_t seed = (options().seed * 0x9e3779b97f4a7c15ull) ^ (r.enqueued * 0xd1342543de82ef95ull);
  r.enqueue(config.stream, [=, arguments = std::move(arguments), smem = config.dynamicSmemBytes] {
    Launch launch;
    launch.kernel = kernel;
    launch.run = run;
    launch.arguments = arguments;
    launch.argument_bytes = argument_bytes;
    launch.grid = grid;
    launch.block = block;
    launch.dynamic_bytes = smem;
    launch.opt_in = opt_in;
    launch.seed = seed;
    run_launch(launch);
    return launch.failed ? cudaErrorLaunchFailure : cudaSuccess;
  });
  return cudaSuccess;
}
cudaError_t enqueue_work(cudaStream_t stream, std::function<cudaError_t()> work) {
  LOCKED;
  r.enqueue(stream, std::move(work));
  return cudaSuccess;
}

}  // namespace emulator

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  LOCKED;
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
  LOCKED;
  return std::exchange(r.last, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  LOCKED;
  return r.last;
}

// ---- memory -------------------------------------------------------------------------------------------------------------------
cudaError_t cudaMalloc(void** p, size_t bytes) {
  LOCKED;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = emulator::allocate_device(bytes);
  return r.remember(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t) { return cudaMalloc(p, bytes); }
cudaError_t cudaFree(void* p) {
  LOCKED;
  r.finish_all();
  if (p && !emulator::free_device(p)) {
    misuse("cudaFree of a pointer that cudaMalloc did not give");
    return r.remember(cudaErrorInvalidValue);
  }
  return r.take();
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  LOCKED;
  r.enqueue(stream, [p] { return !p || emulator::free_device(p) ? cudaSuccess : cudaErrorInvalidValue; });
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  *p = std::malloc(bytes);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) { return cudaMallocHost(p, bytes); }
cudaError_t cudaFreeHost(void* p) {
  LOCKED;
  r.finish_all();
  std::free(p);
  return r.take();
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = options().device_bytes;
  *free_bytes = *total_bytes - emulator::device_bytes_used();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  LOCKED;
  r.enqueue(stream, [=] { return copy(to, from, bytes, kind); });
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  LOCKED;
  cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  r.finish_stream(nullptr);
  return r.take();
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  LOCKED;
  r.enqueue(stream, [=] {
    const std::string wrong = bytes == 0 ? std::string() : emulator::check_device_range(p, bytes, false);
    if (!wrong.empty()) {
      misuse("a fill of " + std::to_string(bytes) + " bytes uses " + wrong);
      return cudaErrorInvalidValue;
    }
    std::memset(p, value, bytes);
    if (bytes > 0) emulator::set_written(p, bytes);
    return cudaSuccess;
  });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int value, size_t bytes) {
  LOCKED;
  cudaMemsetAsync(p, value, bytes, nullptr);
  r.finish_stream(nullptr);
  return r.take();
}

// ---- streams and events -------------------------------------------------------------------------------------------------------
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  LOCKED;
  *stream = new CUstream_st;
  (*stream)->blocking = !(flags & cudaStreamNonBlocking);
  r.streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  LOCKED;
  if (!stream) return r.remember(cudaErrorInvalidResourceHandle);
  r.finish_stream(stream);
  std::erase(r.streams, stream);
  delete stream;
  return r.take();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  LOCKED;
  r.finish_stream(stream);
  return r.take();
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {  // every question lets one operation finish
  LOCKED;
  CUstream_st* s = stream ? stream : &r.default_stream;
  if (!s->waiting.empty()) r.run_front(s);
  return s->waiting.empty() ? r.take() : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
  LOCKED;
  r.finish_all();
  return r.take();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  LOCKED;
  if (event->recorded && !event->recorded->done) r.enqueue(stream, nullptr, {event->recorded});
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  LOCKED;
  r.enqueue(stream, nullptr);
  event->recorded = (stream ? stream : &r.default_stream)->last;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  LOCKED;
  r.finish(event->recorded);
  return r.take();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  LOCKED;
  if (event->recorded && !event->recorded->done) r.run_front(event->recorded->stream);
  return !event->recorded || event->recorded->done ? r.take() : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  LOCKED;
  if (!start->recorded || !end->recorded) return r.remember(cudaErrorInvalidResourceHandle);
  if (!start->recorded->done || !end->recorded->done) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->recorded->finished - start->recorded->finished).count();
  return cudaSuccess;
}
