// Stream capture and graphs. A capturing stream adds operations to a graph instead of running them. A launch of the graph runs
// all nodes, in any order that respects the captured dependencies.
#include <algorithm>

#include "dev/emulator/block.h"
#include "dev/emulator/queue.h"

namespace emulator {

cudaError_t Runtime::invalidate(Capture& capture, cudaError_t error, const std::string& text) {
  const char* why = capture.graph ? " while a stream captures: its graph is lost (" : " after that capture (";
  if (!capture.invalid || !capture.graph) misuse(text + why + cudaGetErrorName(error) + ")");
  capture.invalid = true;
  return remember(error);
}
cudaError_t Runtime::unsafe(const char* call) {
  const std::thread::id self = std::this_thread::get_id();
  for (CUstream_st* s : streams)
    if (s->capture && (s->capture->mode == cudaStreamCaptureModeGlobal ||
                       (s->capture->mode == cudaStreamCaptureModeThreadLocal && s->capture->thread == self)))
      return invalidate(*s->capture, cudaErrorStreamCaptureUnsupported, call);
  return cudaSuccess;
}
cudaError_t Runtime::synchronising(const char* call) {
  for (CUstream_st* s : streams)
    if (s->capture) return invalidate(*s->capture, cudaErrorStreamCaptureUnsupported, call);
  return cudaSuccess;
}
cudaError_t Runtime::implicit(const char* call) {
  for (CUstream_st* s : streams)
    if (s->capture && s->blocking) return invalidate(*s->capture, cudaErrorStreamCaptureImplicit, call);
  return cudaSuccess;
}

}  // namespace emulator

using emulator::Capture;
using emulator::misuse;

// ---- capture ------------------------------------------------------------------------------------------------------------------
cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  EMULATOR_CALL;
  CUstream_st* stream = r.find(handle);
  if (!stream) return r.remember(cudaErrorInvalidResourceHandle);
  if (stream == &r.default_stream) {
    misuse("cudaStreamBeginCapture: the default stream cannot capture");
    return r.remember(cudaErrorStreamCaptureUnsupported);
  }
  if (stream->capture) return r.invalidate(*stream->capture, cudaErrorIllegalState, "cudaStreamBeginCapture");
  stream->capture = std::make_shared<Capture>(Capture{stream, mode, std::this_thread::get_id()});
  stream->tail.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  EMULATOR_LOCKED;
  CUstream_st* stream = r.find(handle);
  if (!stream || !status) return r.remember(stream ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
  if (stream == &r.default_stream)
    for (const CUstream_st* s : r.streams)
      if (s->capture && s->blocking) return r.remember(cudaErrorStreamCaptureImplicit);
  *status = !stream->capture           ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  EMULATOR_LOCKED;
  CUstream_st* stream = r.find(handle);
  if (!stream || !graph) return r.remember(stream ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
  *graph = nullptr;
  emulator::check_nccl_wait("cudaStreamEndCapture", handle);
  if (!stream->capture) {
    misuse("cudaStreamEndCapture of a stream that does not capture");
    return r.remember(cudaErrorIllegalState);
  }
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture->origin != stream)
    return r.invalidate(*capture, cudaErrorStreamCaptureUnmatched, "cudaStreamEndCapture of a stream that joined the capture");
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return r.invalidate(*capture, cudaErrorStreamCaptureWrongThread, "cudaStreamEndCapture by another thread");

  // Side streams must have joined: their last nodes must come before the last one of this stream.
  const auto& nodes = capture->graph->nodes;
  std::vector<bool> before(nodes.size());
  std::vector<size_t> open = stream->tail;
  while (!open.empty()) {
    const size_t node = open.back();
    open.pop_back();
    if (before[node]) continue;
    before[node] = true;
    open.insert(open.end(), nodes[node]->after.begin(), nodes[node]->after.end());
  }
  cudaError_t error = capture->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  for (CUstream_st* s : r.streams) {
    if (s->capture != capture) continue;
    if (!error && !std::all_of(s->tail.begin(), s->tail.end(), [&](size_t node) { return before[node]; }))
      error =
          r.invalidate(*capture, cudaErrorStreamCaptureUnjoined, "a side stream that does not join the first one by an event");
    s->capture = nullptr;
    s->tail.clear();
  }
  std::unique_ptr<CUgraph_st> done = std::move(capture->graph);  // events of this capture are now useless
  if (!error) *graph = done.release();
  return r.remember(error);
}

// ---- graphs -------------------------------------------------------------------------------------------------------------------
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  EMULATOR_LOCKED;
  if (!graph || !count) return r.remember(cudaErrorInvalidValue);
  for (size_t i = 0; nodes && i < *count; i++) nodes[i] = i < graph->nodes.size() ? graph->nodes[i].get() : nullptr;
  *count = nodes ? std::min(*count, graph->nodes.size()) : graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  EMULATOR_CALL;
  if (!executable || !graph || (flags & ~1ull)) return r.remember(cudaErrorInvalidValue);  // 1: auto-free on launch
  auto* e = new CUgraphExec_st{*graph};
  std::vector<size_t> last;  // of each chain
  for (size_t i = 0; i < graph->nodes.size(); i++) {
    size_t chain = last.size();
    for (size_t before : graph->nodes[i]->after)
      if (last[e->chain[before]] == before) chain = e->chain[before];
    if (chain == last.size()) {
      last.push_back(i);
      e->slots.push_back(r.new_slot());
      e->lengths.push_back(0);
    }
    last[chain] = i;
    e->chain.push_back(chain);
    e->number.push_back(++e->lengths[chain]);
  }
  r.graph_bytes += graph->nodes.size() * emulator::options().graph_node_bytes;
  *executable = e;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream) {
  EMULATOR_CALL;
  if (!executable) return r.remember(cudaErrorInvalidValue);
  const CUstream_st* s = r.find(stream);
  if (s && s->capture) return r.invalidate(*s->capture, cudaErrorStreamCaptureUnsupported, "cudaGraphUpload");
  return r.enqueue(stream, {});
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  EMULATOR_CALL;
  if (!executable) return r.remember(cudaErrorInvalidValue);
  std::vector<emulator::OperationPtr> after;
  if (executable->last && !executable->last->done) after.push_back(executable->last);
  const CUstream_st* stream = r.find(handle);
  const bool nested = stream && stream->capture;
  auto copy = std::make_shared<CUgraphExec_st>(*executable);  // for this launch, which may outlive the executable
  copy->last = nullptr;
  for (size_t slot : copy->slots) copy->launched.push_back(r.numbers[slot]);
  auto launch = std::make_shared<std::unique_ptr<emulator::GraphRun>>();  // while it runs
  const cudaError_t error =
      r.enqueue(handle, {[copy, nested, launch](uint64_t, const emulator::Position& position) {
                  if (!*launch)
                    *launch = std::make_unique<emulator::GraphRun>(copy->graph, nested ? nullptr : copy.get(), position);
                  const cudaError_t result = (*launch)->go_on();
                  if (result != cudaErrorNotReady) launch->reset();
                  return result;
                }},
                std::move(after), nested ? nullptr : executable);
  if (error) return error;
  if (!stream->capture) executable->last = stream->last;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (!graph) return cudaErrorInvalidValue;
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  EMULATOR_LOCKED;
  if (!executable) return cudaErrorInvalidValue;
  r.free_slots.insert(r.free_slots.end(), executable->slots.begin(), executable->slots.end());
  r.graph_bytes -= std::min(r.graph_bytes, executable->graph.nodes.size() * emulator::options().graph_node_bytes);
  delete executable;
  return cudaSuccess;
}
