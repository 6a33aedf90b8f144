// The emulated NCCL: mistakes that the library answers by a code, by a hang, or by other bytes. Ranks are threads. Also, that its
// codes are those of NVIDIA's library, where that is installed.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cuda_runtime.h"
#include "emulator/emulator.h"
#include "kernels/nccl_api.h"

using namespace tll::nccl_api;
using Api = Functions<Types>;
extern "C" {
#define TLL_DECLARE(name) Api::name nccl##name;
TLL_NCCL_FUNCTIONS(TLL_DECLARE)
#undef TLL_DECLARE
}

namespace {

using Clock = std::chrono::steady_clock;

struct Rank {
  int rank = 0;
  Comm comm = nullptr;
  cudaStream_t stream = nullptr;
  char* data = nullptr;  // kBytes, written

  static constexpr size_t kBytes = 1024;
  Result settle() const {  // polls until the last call is done or enqueued
    for (;;) {
      Result state = ncclSuccess;
      if (const Result result = ncclCommGetAsyncError(comm, &state)) return result;
      if (state != ncclInProgress) return state;
      std::this_thread::yield();
    }
  }
  Result settle(Result result) const { return result == ncclInProgress || result == ncclSuccess ? settle() : result; }
  Result broadcast(int root = 0, size_t bytes = 64) const {
    return settle(ncclBroadcast(data, data, bytes, ncclUint8, root, comm, stream));
  }
  Result send(int peer) const { return settle(ncclSend(data, 64, ncclUint8, peer, comm, stream)); }
  Result receive(int peer) const { return settle(ncclRecv(data + 512, 64, ncclUint8, peer, comm, stream)); }
  // Waits for the stream, unless the communicator fails.
  cudaError_t wait() const {
    cudaError_t error;
    while ((error = cudaStreamQuery(stream)) == cudaErrorNotReady) std::this_thread::yield();
    return error;
  }
};

struct EmulatedNccl : testing::Test {
  const emulator::Options before = emulator::options();
  EmulatedNccl() {
    emulator::options().print = false;
    emulator::options().nccl_seconds = 1;
  }
  ~EmulatedNccl() override {
    emulator::take_reports();
    emulator::options() = before;
  }
  static std::string reports() {
    std::string all;
    for (const emulator::Report& r : emulator::take_reports()) all += r.message + "\n";
    return all;
  }
  static void expect_reported(const std::string& part) {
    const std::string all = reports();
    EXPECT_NE(all.find(part), std::string::npos) << "expected: " << part << "\nfound: " << all;
  }

  // `body` of each rank; in the end communicators are finalized and destroyed, or where `sound` is false aborted.
  static void on_ranks(int size, bool sound, const std::function<void(Rank&)>& body) {
    UniqueId id;
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    std::vector<Rank> ranks(static_cast<size_t>(size));
    std::vector<std::thread> threads;
    for (int r = 0; r < size; r++)
      threads.emplace_back([&, r] {
        Rank& own = ranks[static_cast<size_t>(r)];
        own.rank = r;
        Config config;
        ASSERT_EQ(ncclCommInitRankConfig(&own.comm, size, id, r, &config), ncclInProgress);
        ASSERT_EQ(own.settle(), ncclSuccess);
        ASSERT_EQ(cudaStreamCreateWithFlags(&own.stream, cudaStreamNonBlocking), cudaSuccess);
        ASSERT_EQ(cudaMalloc(&own.data, Rank::kBytes), cudaSuccess);
        ASSERT_EQ(cudaMemsetAsync(own.data, r + 1, Rank::kBytes, own.stream), cudaSuccess);
        own.wait();
        body(own);
        if (!own.comm) return;
        if (sound) {
          EXPECT_EQ(own.settle(ncclCommFinalize(own.comm)), ncclSuccess) << ncclGetLastError(own.comm);
          EXPECT_EQ(ncclCommDestroy(own.comm), ncclSuccess);
        } else {
          EXPECT_EQ(ncclCommAbort(own.comm), ncclSuccess);
        }
      });
    for (std::thread& thread : threads) thread.join();
    for (const Rank& r : ranks) {
      cudaStreamSynchronize(r.stream);
      EXPECT_EQ(cudaStreamDestroy(r.stream), cudaSuccess);
      EXPECT_EQ(cudaFree(r.data), cudaSuccess);
    }
    cudaGetLastError();
  }
};

TEST_F(EmulatedNccl, SoundCallsAreNotReported) {
  on_ranks(2, true, [](Rank& r) {
    EXPECT_EQ(r.broadcast(1), ncclSuccess);
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(ncclSend(r.data, 64, ncclUint8, 1 - r.rank, r.comm, r.stream), ncclSuccess);
    EXPECT_EQ(ncclRecv(r.data + 512, 64, ncclUint8, 1 - r.rank, r.comm, r.stream), ncclSuccess);
    EXPECT_EQ(r.settle(ncclGroupEnd()), ncclSuccess);
    // One after the other outside of a group, in an order that can end.
    EXPECT_EQ(r.rank == 0 ? r.send(1) : r.receive(0), ncclSuccess);
    EXPECT_EQ(r.rank == 0 ? r.receive(1) : r.send(0), ncclSuccess);
    EXPECT_EQ(r.broadcast(0, 0), ncclSuccess);  // of nothing
    EXPECT_EQ(r.wait(), cudaSuccess);
    char got[576];
    EXPECT_EQ(cudaMemcpyAsync(got, r.data, sizeof(got), cudaMemcpyDeviceToHost, r.stream), cudaSuccess);
    EXPECT_EQ(r.wait(), cudaSuccess);
    EXPECT_EQ(got[0], 2);
    EXPECT_EQ(got[64], r.rank + 1);
    EXPECT_EQ(got[512], 2);  // what the broadcast had brought
  });
  EXPECT_EQ(reports(), "");
}

TEST_F(EmulatedNccl, ArgumentsAreChecked) {
  on_ranks(1, true, [](Rank& r) {
    const auto refused = [&](Result result, Result expected, const char* report) {
      EXPECT_EQ(result, expected) << report;
      expect_reported(report);
    };
    refused(ncclBroadcast(r.data, r.data, 8, ncclUint8, 1, r.comm, r.stream), ncclInvalidArgument, "ncclBroadcast: rank 1 of 1");
    refused(ncclBroadcast(r.data, r.data, 8, ncclUint8, -1, r.comm, r.stream), ncclInvalidArgument,
            "ncclBroadcast: rank -1 of 1");
    refused(ncclBroadcast(nullptr, nullptr, 8, ncclUint8, 0, r.comm, r.stream), ncclInvalidArgument, "a buffer is null");
    char host[8];
    refused(ncclBroadcast(host, host, 8, ncclUint8, 0, r.comm, r.stream), ncclInvalidArgument, "no device memory");
    refused(ncclBroadcast(r.data, r.data, 8, ncclUint8, 0, nullptr, r.stream), ncclInvalidArgument, "of null");
    refused(ncclBroadcast(r.data, r.data, 8, static_cast<DataType>(7), 0, r.comm, r.stream), ncclInvalidArgument, "ncclUint8");
    refused(ncclSend(r.data, 8, ncclUint8, 0, r.comm, r.stream), ncclInvalidUsage, "sends to itself");
    refused(ncclGroupEnd(), ncclInvalidUsage, "no group was started");
    EXPECT_EQ(r.broadcast(), ncclSuccess);
    EXPECT_EQ(r.wait(), cudaSuccess);
    refused(ncclBroadcast(r.data, r.data, 8, ncclUint8, 0, r.comm, nullptr), ncclInvalidUsage, "another stream");
    Result by_another_thread = ncclSuccess;
    std::thread([&] { by_another_thread = ncclBroadcast(r.data, r.data, 8, ncclUint8, 0, r.comm, r.stream); }).join();
    refused(by_another_thread, ncclInvalidArgument, "by another thread");
    refused(ncclCommDestroy(r.comm), ncclInvalidUsage, "is not finalized");
    // What a group refuses, its end refuses as a whole.
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(ncclBroadcast(r.data, r.data, 8, ncclUint8, 0, r.comm, r.stream), ncclSuccess);
    refused(ncclBroadcast(r.data, r.data, 8, ncclUint8, 5, r.comm, r.stream), ncclInvalidArgument, "rank 5 of 1");
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    refused(ncclGroupStart(), ncclSuccess, "groups are nested");
    EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
    EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
  });
  EXPECT_EQ(reports(), "");
}

TEST_F(EmulatedNccl, CommunicatorsAreOpenedWithCare) {
  UniqueId id = {};
  Comm comm = nullptr;
  Config config;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
  expect_reported("an id that ncclGetUniqueId has not made");
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 2, &config), ncclInvalidArgument);
  expect_reported("a rank that is not below");
  config.blocking = 1;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
  expect_reported("cannot be aborted");
  config = {};
  config.magic = 0;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
  expect_reported("not as initialized");
  EXPECT_EQ(comm, nullptr);
  // Two ranks with one number: the second finds the first.
  config = {};
  Comm twin = nullptr;
  ASSERT_EQ(ncclCommInitRankConfig(&comm, 2, id, 0, &config), ncclInProgress);
  ASSERT_EQ(ncclCommInitRankConfig(&twin, 2, id, 0, &config), ncclInProgress);
  Result state = ncclSuccess;
  EXPECT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
  EXPECT_EQ(state, ncclInProgress);
  EXPECT_EQ(ncclCommGetAsyncError(twin, &state), ncclSuccess);
  EXPECT_EQ(state, ncclInternalError);
  expect_reported("two ranks have the number 0");
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  EXPECT_EQ(ncclCommAbort(twin), ncclSuccess);
}

TEST_F(EmulatedNccl, NothingComesBeforeACallIsEnqueued) {
  on_ranks(1, false, [](Rank& r) {
    const auto broadcast = [&] { return ncclBroadcast(r.data, r.data, 8, ncclUint8, 0, r.comm, r.stream); };
    EXPECT_EQ(broadcast(), ncclInProgress);
    EXPECT_EQ(broadcast(), ncclInvalidArgument);
    expect_reported("the communicator's last call is in progress");
    EXPECT_EQ(cudaStreamQuery(r.stream), cudaSuccess);
    expect_reported("cudaStreamQuery before ncclCommGetAsyncError");
    EXPECT_EQ(r.settle(), ncclSuccess);
    EXPECT_EQ(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(broadcast(), ncclInProgress);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(r.stream, &graph), cudaSuccess);
    expect_reported("cudaStreamEndCapture before ncclCommGetAsyncError");
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(r.settle(), ncclSuccess);
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(broadcast(), ncclSuccess);
    static_cast<void>(cudaStreamSynchronize(r.stream));
    expect_reported("cudaStreamSynchronize between ncclGroupStart and ncclGroupEnd");
    EXPECT_EQ(ncclCommFinalize(r.comm), ncclInvalidUsage);
    expect_reported("a group was not ended");
  });
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);  // of this thread
}

TEST_F(EmulatedNccl, CommunicatorsAreClosedWithCare) {
  on_ranks(1, false, [](Rank& r) {
    EXPECT_EQ(r.broadcast(), ncclSuccess);
    EXPECT_EQ(ncclCommFinalize(r.comm), ncclInvalidUsage);
    expect_reported("have not been waited for");
    EXPECT_EQ(r.wait(), cudaSuccess);
    EXPECT_EQ(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(r.broadcast(), ncclSuccess);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(r.stream, &graph), cudaSuccess);
    EXPECT_EQ(r.settle(ncclCommFinalize(r.comm)), ncclSuccess);
    EXPECT_EQ(ncclBroadcast(r.data, r.data, 8, ncclUint8, 0, r.comm, r.stream), ncclInvalidArgument);
    expect_reported("the communicator is finalized");
    EXPECT_EQ(ncclCommDestroy(r.comm), ncclSuccess);
    expect_reported("a graph has calls of the communicator");
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    for (Result result : {ncclCommFinalize(r.comm), ncclCommDestroy(r.comm), ncclCommAbort(r.comm)})
      EXPECT_EQ(result, ncclInvalidArgument);
    expect_reported("a communicator that was aborted or destroyed");
    r.comm = nullptr;
  });
}

// ---- calls that do not match
// --------------------------------------------------------------------------------------------------- Every rank reports, the
// stream fails, and nobody waits longer than a second or two.
struct Mismatch {
  std::function<void(const Rank&)> calls;
  const char *first, *second;  // what the two ranks report
};
TEST_F(EmulatedNccl, CallsThatDoNotMatchAreReportedByBothRanks) {
  const Mismatch mismatches[] = {
      // Each sends first, and a send ends when it is received.
      {[](const Rank& r) { r.send(1 - r.rank), r.receive(1 - r.rank); }, "rank 0 of 2: ", "rank 1 of 2: "},
      {[](const Rank& r) { r.receive(1 - r.rank), r.send(1 - r.rank); }, "rank 0 of 2: ", "rank 1 of 2: "},
      {[](const Rank& r) { r.send(1 - r.rank); }, "never receives it", "has found a fault"},
      {[](const Rank& r) { r.rank == 0 ? r.receive(1) : Result{}; }, "and rank 1 never sends it", "rank 0 has found a fault"},
      {[](const Rank& r) { r.rank == 0 ? r.broadcast() : Result{}; }, "and rank 1 never calls it", "rank 0 has found a fault"},
      {[](const Rank& r) { r.rank == 0 ? r.broadcast() : r.send(0); }, "rank 0 of 2: ", "rank 1 of 2: "},
      {[](const Rank& r) { r.broadcast(r.rank); }, "rank 0 of 2: ", "rank 1 of 2: "},
      {[](const Rank& r) { r.broadcast(0, r.rank == 0 ? 64 : 65); }, "rank 0 of 2: ", "rank 1 of 2: "},
  };
  for (size_t i = 0; i < std::size(mismatches); i++) {
    SCOPED_TRACE(i);
    const auto start = Clock::now();
    on_ranks(2, false, [&](Rank& r) {
      mismatches[i].calls(r);
      r.wait();
      for (Result state = ncclSuccess; state == ncclSuccess;) ncclCommGetAsyncError(r.comm, &state);
    });
    const std::string all = reports();
    EXPECT_NE(all.find(mismatches[i].first), std::string::npos) << all;
    EXPECT_NE(all.find(mismatches[i].second), std::string::npos) << all;
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 5) << all;
  }
}

// A rank that is gone: NCCL says so, the stream waits until the communicator is aborted, and what comes after it is free.
TEST_F(EmulatedNccl, AnAbortFreesTheStream) {
  emulator::options().nccl_seconds = 60;
  std::atomic<bool> enqueued = false;
  on_ranks(2, false, [&](Rank& r) {
    while (r.rank == 1 && !enqueued) std::this_thread::yield();
    if (r.rank == 1) return;
    EXPECT_EQ(r.broadcast(1), ncclSuccess);
    enqueued = true;
    for (Result state = ncclSuccess; state == ncclSuccess;) {
      EXPECT_EQ(cudaStreamQuery(r.stream), cudaErrorNotReady);
      EXPECT_EQ(ncclCommGetAsyncError(r.comm, &state), ncclSuccess);
      EXPECT_TRUE(state == ncclSuccess || state == ncclRemoteError) << state;
    }
    EXPECT_EQ(std::string(ncclGetLastError(r.comm)), "rank 1 has closed its connection");
    EXPECT_EQ(cudaStreamQuery(r.stream), cudaErrorNotReady);
    EXPECT_EQ(ncclCommAbort(r.comm), ncclSuccess);
    r.comm = nullptr;
    EXPECT_EQ(r.wait(), cudaSuccess);
    EXPECT_FALSE(emulator::is_written(r.data, 1));  // what was to come has not
  });
  EXPECT_EQ(reports(), "");
}

// ---- NVIDIA's library
// ----------------------------------------------------------------------------------------------------------
TEST(Nccl, CodesAreThoseOfTheLibrary) {
  void* file = nullptr;
  for (const char* name : {"libnccl.so.2", "/usr/local/cuda/lib/libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2"})
    if (!file) file = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (!file) GTEST_SKIP() << "libnccl.so.2 was not found";
  const auto function = [&]<class F>(F*, const char* name) { return reinterpret_cast<F*>(dlsym(file, name)); };
#define LIBRARY(name) function(static_cast<Api::name*>(nullptr), "nccl" #name)
#define PRESENT(name) EXPECT_NE(LIBRARY(name), nullptr) << #name;
  TLL_NCCL_FUNCTIONS(PRESENT)
  int version = 0;
  EXPECT_EQ(LIBRARY(GetVersion)(&version), ncclSuccess);
  EXPECT_GE(version, 21400);
  EXPECT_EQ(LIBRARY(GroupEnd)(), ncclInvalidUsage);
  EXPECT_EQ(LIBRARY(GroupStart)(), ncclSuccess);
  EXPECT_EQ(LIBRARY(GroupEnd)(), ncclSuccess);
  Result state = ncclSuccess;
  EXPECT_EQ(LIBRARY(CommGetAsyncError)(nullptr, &state), ncclInvalidArgument);
  EXPECT_EQ(LIBRARY(Broadcast)(nullptr, nullptr, 1, ncclUint8, 0, nullptr, nullptr), ncclInvalidArgument);
  EXPECT_EQ(LIBRARY(CommDestroy)(nullptr), ncclSuccess);
}

}  // namespace
