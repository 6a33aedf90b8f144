// Stream capture and graphs, and the error codes of what a capture forbids.
#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "dev/emulator/tests/collectives.h"
#include "emulator/emulator.h"

namespace {

constexpr int kValues = 64;

struct Graphs : testing::Test {
  const emulator::Options before = emulator::options();
  cudaStream_t stream = nullptr, side = nullptr;
  cudaEvent_t forked = nullptr, joined = nullptr;
  float *a = nullptr, *b = nullptr, *c = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;

  Graphs() {
    emulator::options().print = false;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithPriority(&side, cudaStreamNonBlocking, -1), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&forked, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming), cudaSuccess);
    for (float** p : {&a, &b, &c}) EXPECT_EQ(cudaMalloc(p, kValues * sizeof(float)), cudaSuccess);
  }
  ~Graphs() override {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    for (float* p : {a, b, c}) EXPECT_EQ(cudaFree(p), cudaSuccess);
    for (cudaEvent_t event : {forked, joined}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    for (cudaStream_t s : {stream, side}) EXPECT_EQ(cudaStreamDestroy(s), cudaSuccess);
    if (graph) cudaGraphDestroy(graph);
    if (executable) cudaGraphExecDestroy(executable);
    for (const emulator::Report& r : emulator::take_reports()) ADD_FAILURE() << r.message;
    cudaGetLastError();
    emulator::options() = before;
  }
  void set(float* p, float value) {
    const std::vector<float> host(kValues, value);
    EXPECT_EQ(cudaMemcpy(p, host.data(), sizeof(float) * kValues, cudaMemcpyHostToDevice), cudaSuccess);
  }
  void expect(const float* p, float value) {
    std::vector<float> host(kValues);
    EXPECT_EQ(cudaMemcpy(host.data(), p, sizeof(float) * kValues, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(host, std::vector<float>(kValues, value));
  }
  cudaStreamCaptureStatus status(cudaStream_t s) {
    cudaStreamCaptureStatus result{};
    EXPECT_EQ(cudaStreamIsCapturing(s, &result), cudaSuccess);
    return result;
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    EXPECT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
  }
};

TEST_F(Graphs, ReplayWhatWasCapturedWithItsFrozenArguments) {
  set(a, 1.0f);
  float factor = 2.0f;
  begin();
  EXPECT_EQ(status(stream), cudaStreamCaptureStatusActive);
  collectives::scale(stream, b, a, factor, kValues);
  EXPECT_EQ(cudaMemcpyAsync(c, b, kValues * sizeof(float), cudaMemcpyDeviceToDevice, stream), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(b, 0, kValues * sizeof(float), stream), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(status(stream), cudaStreamCaptureStatusNone);
  EXPECT_FALSE(emulator::is_written(b, 4));  // nothing has run
  factor = 100.0f;
  size_t nodes = 0;
  EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
  EXPECT_EQ(nodes, 3u);

  EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphUpload(executable, stream), cudaSuccess);
  for (float value : {1.0f, 5.0f}) {
    set(a, value);
    EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    expect(c, 2 * value);
    expect(b, 0.0f);
  }
  // In the order of its stream, and not before the wait.
  EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  collectives::scale(stream, a, c, 1.0f, kValues);
  EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  expect(c, 20.0f);
}

TEST_F(Graphs, SideStreamsForkAndJoinByEvents) {
  for (uint64_t seed = 1; seed <= 10; seed++) {
    emulator::options().seed = seed;
    set(a, 3.0f);
    EXPECT_EQ(cudaMemset(b, 0, kValues * sizeof(float)), cudaSuccess);
    begin(cudaStreamCaptureModeThreadLocal);
    collectives::scale(stream, b, a, 2.0f, kValues);
    EXPECT_EQ(cudaEventRecord(forked, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(side, forked), cudaSuccess);
    EXPECT_EQ(status(side), cudaStreamCaptureStatusActive);
    collectives::scale(side, c, b, 2.0f, kValues);
    EXPECT_EQ(cudaEventRecord(joined, side), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(stream, joined), cudaSuccess);
    collectives::scale(stream, a, c, 2.0f, kValues);
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(status(side), cudaStreamCaptureStatusNone);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    expect(a, 24.0f);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    graph = nullptr;
    executable = nullptr;
  }
}

TEST_F(Graphs, LaunchesAreCheckedAtEveryReplay) {
  begin();
  collectives::scale(stream, b, a, 2.0f, kValues);  // a is not written
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
    const auto reports = emulator::take_reports();
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].fault, emulator::Fault::uninitialised);
  }
}

// Each of these invalidates the capture: an error code, a report, no graph.
TEST_F(Graphs, WhatACaptureForbids) {
  cudaStream_t blocking = nullptr, other = nullptr;
  cudaEvent_t outside = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&outside), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(outside, other), cudaSuccess);
  void* p = nullptr;
  float host = 0;
  const auto record = [&] {
    EXPECT_EQ(cudaEventRecord(forked, stream), cudaSuccess);
    return forked;
  };
  constexpr auto kGlobal = cudaStreamCaptureModeGlobal;
  constexpr auto kThread = cudaStreamCaptureModeThreadLocal;
  constexpr auto kRelaxed = cudaStreamCaptureModeRelaxed;
  constexpr auto kUnsupported = cudaErrorStreamCaptureUnsupported;
  struct Violation {
    const char* name;
    cudaStreamCaptureMode mode;
    cudaError_t code;
    std::function<cudaError_t()> call;
    bool blocking = false;  // the stream that captures
  };
  const Violation violations[] = {
      {"cudaMalloc", kGlobal, kUnsupported, [&] { return cudaMalloc(&p, 4); }},
      {"cudaMalloc, thread", kThread, kUnsupported, [&] { return cudaMalloc(&p, 4); }},
      {"cudaMalloc of another thread", kGlobal, kUnsupported,
       [&] {
         cudaError_t error = cudaSuccess;
         std::thread([&] { error = cudaMalloc(&p, 4); }).join();
         return error;
       }},
      {"cudaHostAlloc", kGlobal, kUnsupported, [&] { return cudaHostAlloc(&p, 4, cudaHostAllocDefault); }},
      {"cudaFree", kGlobal, kUnsupported, [&] { return cudaFree(nullptr); }},
      {"synchronise", kRelaxed, kUnsupported, [&] { return cudaStreamSynchronize(stream); }},
      {"query", kRelaxed, kUnsupported, [&] { return cudaStreamQuery(stream); }},
      {"device", kRelaxed, kUnsupported, [&] { return cudaDeviceSynchronize(); }},
      {"cudaMemcpy", kGlobal, kUnsupported, [&] { return cudaMemcpy(a, &host, 4, cudaMemcpyHostToDevice); }},
      {"cudaMemcpy, blocking", kRelaxed, cudaErrorStreamCaptureImplicit,
       [&] { return cudaMemcpy(a, &host, 4, cudaMemcpyHostToDevice); }, true},
      {"default stream", kRelaxed, cudaErrorStreamCaptureImplicit, [&] { return cudaMemsetAsync(a, 0, 4, nullptr); }, true},
      {"event outside", kRelaxed, cudaErrorStreamCaptureIsolation, [&] { return cudaStreamWaitEvent(stream, outside); }},
      {"captured event", kRelaxed, cudaErrorCapturedEvent, [&] { return cudaEventSynchronize(record()); }},
      {"captured event query", kRelaxed, cudaErrorCapturedEvent, [&] { return cudaEventQuery(record()); }},
      {"ended elsewhere", kRelaxed, cudaErrorStreamCaptureUnmatched,
       [&] {
         EXPECT_EQ(cudaStreamWaitEvent(side, record()), cudaSuccess);
         return cudaStreamEndCapture(side, &graph);
       }},
      {"other thread", kGlobal, cudaErrorStreamCaptureWrongThread,
       [&] {
         cudaError_t error = cudaSuccess;
         std::thread([&] { error = cudaStreamEndCapture(stream, &graph); }).join();
         return error;
       }},
      {"two captures", kRelaxed, cudaErrorStreamCaptureMerge,
       [&] {
         EXPECT_EQ(cudaStreamBeginCapture(side, kRelaxed), cudaSuccess);
         const cudaError_t error = cudaStreamWaitEvent(side, record());
         EXPECT_EQ(cudaStreamEndCapture(side, &graph), cudaErrorStreamCaptureInvalidated);
         EXPECT_EQ(emulator::take_reports().size(), 2u);
         return error;
       }},
      {"begun twice", kRelaxed, cudaErrorIllegalState, [&] { return cudaStreamBeginCapture(stream, kRelaxed); }},
  };
  for (const Violation& v : violations) {
    SCOPED_TRACE(v.name);
    cudaStream_t capturing = v.blocking ? blocking : stream;
    ASSERT_EQ(cudaStreamBeginCapture(capturing, v.mode), cudaSuccess);
    const bool merge = v.code == cudaErrorStreamCaptureMerge;
    EXPECT_EQ(v.call(), v.code);
    EXPECT_EQ(emulator::take_reports().size(), merge ? 0u : 1u);
    EXPECT_EQ(status(capturing), cudaStreamCaptureStatusInvalidated);
    EXPECT_EQ(cudaMemsetAsync(a, 0, 4, capturing), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(cudaStreamEndCapture(capturing, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(status(side), cudaStreamCaptureStatusNone);
  }
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(side, record()), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(b, 0, 4, side), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  EXPECT_EQ(emulator::take_reports().size(), 1u);
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
  EXPECT_EQ(emulator::take_reports().size(), 2u);
  EXPECT_EQ(cudaEventDestroy(outside), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

// Allowed during a capture: other streams, another thread's allocations in thread-local mode, the default stream if no blocking
// stream captures, and queries that touch no stream.
TEST_F(Graphs, WhatACaptureAllows) {
  void* p = nullptr;
  size_t free_bytes = 0, total = 0;
  set(a, 1.0f);
  begin(cudaStreamCaptureModeThreadLocal);
  collectives::scale(stream, b, a, 2.0f, kValues);
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
  cudaFuncAttributes attributes;
  EXPECT_EQ(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&collectives::scale)), cudaSuccess);
  std::thread([&] {
    EXPECT_EQ(cudaMalloc(&p, 4), cudaSuccess);
    EXPECT_EQ(cudaFree(p), cudaSuccess);
  }).join();
  collectives::scale(side, c, a, 4.0f, kValues);
  EXPECT_EQ(cudaStreamSynchronize(side), cudaSuccess);
  collectives::scale(nullptr, c, a, 3.0f, kValues);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  expect(c, 3.0f);
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaMalloc(&p, 4), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  cudaGraph_t second = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &second), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(second), cudaSuccess);
}

// At the end of a program the faults are printed and counted.
TEST_F(Graphs, PrintReportsCounts) {
  EXPECT_EQ(emulator::print_reports(), 0u);
  EXPECT_EQ(cudaFree(a + 1), cudaErrorInvalidValue);
  testing::internal::CaptureStderr();
  EXPECT_EQ(emulator::print_reports(), 1u);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("cudaFree of a pointer"), std::string::npos);
  EXPECT_EQ(emulator::print_reports(), 0u);
}

}  // namespace
