// Streams and events.
#include <algorithm>

#include "dev/emulator/block.h"
#include "dev/emulator/queue.h"

using emulator::misuse;

// ---- streams ------------------------------------------------------------------------------------------------------------------
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  EMULATOR_CALL;
  *stream = new CUstream_st;
  (*stream)->blocking = !(flags & cudaStreamNonBlocking);
  (*stream)->slot = r.new_slot();
  r.streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

namespace {
// The stream of a call that waits for it or queries it. null: *error says why it may not.
CUstream_st* waited(emulator::Runtime& r, cudaStream_t handle, const char* call, cudaError_t* error) {
  CUstream_st* stream = r.find(handle);
  *error = cudaSuccess;
  emulator::check_nccl_wait(call, handle);
  if (!stream) {
    misuse(std::string(call) + " of a stream that was destroyed, or never created");
    *error = r.remember(cudaErrorInvalidResourceHandle);
  } else if (stream->capture) {
    *error =
        r.invalidate(*stream->capture, cudaErrorStreamCaptureUnsupported, std::string(call) + " of the stream that captures");
  } else if (stream == &r.default_stream) {
    *error = r.implicit(call);
  }
  return *error == cudaSuccess ? stream : nullptr;
}
// The same for an event.
cudaError_t waited(emulator::Runtime& r, cudaEvent_t event, const char* call) {
  if (!event) return r.remember(cudaErrorInvalidResourceHandle);
  if (!event->capture) return cudaSuccess;
  return r.invalidate(*event->capture, cudaErrorCapturedEvent, std::string(call) + " of an event that was recorded by a capture");
}
}  // namespace

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  EMULATOR_LOCKED;
  cudaError_t error = stream ? cudaSuccess : r.remember(cudaErrorInvalidResourceHandle);
  if (!stream || !waited(r, stream, "cudaStreamDestroy", &error)) return error;
  r.wait_for(stream);
  r.free_slots.push_back(stream->slot);
  std::erase(r.streams, stream);
  delete stream;
  return r.take();
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  EMULATOR_LOCKED;
  cudaError_t error;
  CUstream_st* stream = waited(r, handle, "cudaStreamSynchronize", &error);
  if (!stream) return error;
  r.wait_for(stream);
  return r.take();
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {  // each query lets one operation finish, unless it waits for other ranks
  EMULATOR_LOCKED;
  cudaError_t error;
  CUstream_st* stream = waited(r, handle, "cudaStreamQuery", &error);
  if (!stream) return error;
  if (!stream->waiting.empty()) r.run_front(stream);
  if (!stream->waiting.empty()) return cudaErrorNotReady;
  r.wait_for(stream);
  return r.take();
}
cudaError_t cudaDeviceSynchronize() {
  EMULATOR_LOCKED;
  if (const cudaError_t error = r.synchronising("cudaDeviceSynchronize")) return error;
  emulator::check_nccl_wait("cudaDeviceSynchronize", nullptr);
  r.finish_all();
  return r.take();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  EMULATOR_CALL;
  CUstream_st* stream = r.find(handle);
  if (!stream || !event) return r.remember(cudaErrorInvalidResourceHandle);
  if (!event->capture) {
    if (!event->recorded) return cudaSuccess;
    if (stream->capture)
      return r.invalidate(*stream->capture, cudaErrorStreamCaptureIsolation,
                          "cudaStreamWaitEvent of an event that was recorded before the capture, or outside of it");
    return r.enqueue(stream, {}, {event->recorded});
  }
  if (stream == &r.default_stream)
    return r.invalidate(*event->capture, cudaErrorStreamCaptureImplicit, "cudaStreamWaitEvent of the default stream");
  if (stream->capture && stream->capture != event->capture) {
    r.invalidate(*event->capture, cudaErrorStreamCaptureMerge, "cudaStreamWaitEvent that joins two captures");
    return r.invalidate(*stream->capture, cudaErrorStreamCaptureMerge, "cudaStreamWaitEvent that joins two captures");
  }
  if (!event->capture->graph)
    return r.invalidate(*event->capture, cudaErrorCapturedEvent,
                        "cudaStreamWaitEvent of an event that was recorded by a capture");
  if (event->capture->invalid) return r.remember(cudaErrorStreamCaptureInvalidated);
  if (!stream->capture) {
    stream->capture = event->capture;  // a side stream of the capture, until it ends
    stream->tail.clear();
  }
  for (size_t node : event->nodes)
    if (std::find(stream->tail.begin(), stream->tail.end(), node) == stream->tail.end()) stream->tail.push_back(node);
  return cudaSuccess;
}

// ---- events -------------------------------------------------------------------------------------------------------------------
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return cudaErrorInvalidResourceHandle;
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  EMULATOR_CALL;
  CUstream_st* stream = r.find(handle);
  if (!stream || !event) return r.remember(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    if (stream->capture->invalid) return r.remember(cudaErrorStreamCaptureInvalidated);
    event->recorded = nullptr;
    event->capture = stream->capture;
    event->nodes = stream->tail;
    return cudaSuccess;
  }
  if (const cudaError_t error = r.enqueue(stream, {})) return error;
  event->capture = nullptr;
  event->recorded = stream->last;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  EMULATOR_LOCKED;
  if (const cudaError_t error = waited(r, event, "cudaEventSynchronize")) return error;
  r.wait_for(event->recorded);
  return r.take();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  EMULATOR_LOCKED;
  if (const cudaError_t error = waited(r, event, "cudaEventQuery")) return error;
  if (const cudaError_t error = r.unsafe("cudaEventQuery")) return error;
  if (event->recorded && !event->recorded->done) r.run_front(event->recorded->stream);
  if (event->recorded && !event->recorded->done) return cudaErrorNotReady;
  r.wait_for(event->recorded);
  return r.take();
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  EMULATOR_LOCKED;
  if (!start || !end || !start->recorded || !end->recorded) return r.remember(cudaErrorInvalidResourceHandle);
  if (!start->recorded->done || !end->recorded->done) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->recorded->finished - start->recorded->finished).count();
  return cudaSuccess;
}
