// Collectives by NCCL. On the emulator ranks are processes, or threads, that its own NCCL connects: what they bring, also from a
// captured graph, what mistakes it finds, and what happens when a rank fails, is killed or hangs. On a GPU, a world of one rank.
#include "src/ranks/nccl.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "src/model/device_memory.h"
#include "src/ranks/shared_memory.h"
#include "tests/collectives_model.h"
#include "tests/emulated_gpu.h"
#include "tests/rank_processes.h"

namespace tll::test {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Calls with memory of the host, as the model makes them, through tensors of the GPU.
class ThroughDevice : public Collectives {
 public:
  explicit ThroughDevice(NcclCollectives& nccl, int launches)
      : Collectives(nccl.rank(), nccl.size()), nccl_(nccl), launches_(launches) {}

  void all_gather(const Device& d, void* data, Bounds bounds) override {
    const Tensor all(d, bounds.back(), "all");
    all.upload(data, bounds[own()], bounds[own() + 1]);
    run(d, [&] { nccl_.all_gather(d, all.data, bounds); });
    all.download(data, bounds.front(), bounds.back());
  }
  void exchange(const Device& d, void* to, const void* from, Bounds bounds) override {
    const Tensor parts(d, bounds.back(), "parts"), got(d, (bounds[own() + 1] - bounds[own()]) * size(), "got");
    parts.upload(from, bounds.front(), bounds.back());
    run(d, [&] { nccl_.exchange(d, got.data, parts.data, bounds); });
    got.download(to, 0, got.bytes);
  }
  void broadcast(const Device& d, void* data, int64_t bytes, int root) override {
    const Tensor all(d, bytes, "all");
    if (rank() == root) all.upload(data, 0, bytes);
    run(d, [&] { nccl_.broadcast(d, all.data, bytes, root); });
    all.download(data, 0, bytes);
  }
  void all_gather_host(void* data, int64_t bytes) override { nccl_.all_gather_host(data, bytes); }
  void broadcast_host(void* data, int64_t bytes, int root) override { nccl_.broadcast_host(data, bytes, root); }
  void barrier() override { nccl_.barrier(); }
  bool leave(int code, const std::string& message) noexcept override { return nccl_.leave(code, message); }
  std::string name() const override { return nccl_.name(); }

 private:
  struct Tensor {  // with bytes behind it that are no part of it
    Tensor(const Device& d, int64_t n, const char* name)
        : device(d), bytes(n), data(static_cast<char*>(cuda_allocate(d, static_cast<size_t>(n) + 256))) {
      if (n > 0) cuda_name_tensor(d, data, static_cast<size_t>(n), name);
    }
    ~Tensor() { cuda_free(device, data); }
    void upload(const void* from, int64_t begin, int64_t end) const {
      if (end > begin)
        copy_to_cuda(device, data + begin, static_cast<const char*>(from) + begin, static_cast<size_t>(end - begin));
    }
    void download(void* to, int64_t begin, int64_t end) const {
      if (end > begin) copy_from_cuda(device, static_cast<char*>(to) + begin, data + begin, static_cast<size_t>(end - begin));
      synchronize(device);
    }
    const Device& device;
    int64_t bytes;
    char* data;
  };
  size_t own() const { return static_cast<size_t>(rank()); }
  void run(const Device& device, const std::function<void()>& call) {
    if (launches_ == 0) {
      call();
      return nccl_.wait(device);
    }
    synchronize(device);
    void* graph = cuda_capture(device, call);
    for (int i = 0; i < launches_; i++) cuda_launch_graph(device, graph);
    nccl_.wait(device);
    cuda_close_graph(device, graph);
  }
  NcclCollectives& nccl_;
  const int launches_;  // of a graph; 0: none is captured
};

// What a rank has; the device is closed last.
struct Rank {
  OpenDevice device;
  std::unique_ptr<SharedMemoryCollectives> host;
  std::unique_ptr<NcclCollectives> nccl;

  Rank(int rank, const std::shared_ptr<SharedBlock>& block, double limit = 30) {
    device.open();
    host = std::make_unique<SharedMemoryCollectives>(block, rank);
    NcclSetup setup{.host = host.get(), .limit = limit};
    setup.look = [this] { host->require_all_run(); };
    nccl = std::make_unique<NcclCollectives>(device, rank, block->size(), std::move(setup));
  }
};

struct Nccl : EmulatedGpu<testing::Test> {
  using Texts = std::vector<std::string>;
};
void expect_found(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "expected: " << part << "\nfound: " << text;
}

// ---- what they bring
// -----------------------------------------------------------------------------------------------------------
TEST_F(Nccl, ProcessesBringWhatTheModelSays) {
  for (int size : {2, 4})
    for (int launches : {0, 3}) {
      const Texts wrong = run_processes(size, [&](int rank, const auto& block) {
        Rank r(rank, block);
        ThroughDevice through(*r.nccl, launches);
        return wrong_collectives(through, r.device, 60, 20000, 5);
      });
      EXPECT_EQ(wrong, Texts(static_cast<size_t>(size))) << size << " " << launches;
    }
}
TEST_F(Nccl, BringsLargeParts) {
  const Texts wrong = run_processes(2, [](int rank, const auto& block) {
    Rank r(rank, block);
    ThroughDevice through(*r.nccl, 0);
    return wrong_collectives(through, r.device, 8, 3 << 20, 3);
  });
  EXPECT_EQ(wrong, Texts(2));
}
TEST_F(Nccl, WithoutAnotherCarrierHostMemoryGoesThroughTheGpu) {
  const std::string place = fmt::format("127.0.0.1:{}", getpid());
  const Texts wrong = run_processes(3, [&](int rank, const auto&) {
    OpenDevice device;
    device.open();
    NcclCollectives nccl(device, rank, 3, {.meeting_place = place, .limit = 30});
    ThroughDevice through(nccl, 0);
    std::string text = wrong_collectives(through, device, 60, 3 << 19, 11);
    return text.empty() && nccl.name() != "NCCL 2.28.9" ? nccl.name() : text;
  });
  EXPECT_EQ(wrong, Texts(3));
}
// They share the emulated device, where cudaFree waits for all of them: so nothing is freed while another rank may wait for this
// one.
TEST_F(Nccl, RanksMayBeThreads) {
  constexpr int kRanks = 3, kPart = 300;
  const auto block = SharedBlock::anonymous(kRanks, 4096);
  Texts wrong(kRanks, "no result");
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; rank++)
    threads.emplace_back([&, rank] {
      Rank r(rank, block);
      const int64_t bounds[] = {0, kPart, 2 * kPart, 3 * kPart};
      auto* data = static_cast<char*>(cuda_allocate(r.device, 3 * kPart));
      std::string got(3 * kPart, ' '), expected;
      for (int round = 0; round < 20; round++) {
        cuda_fill(r.device, data + kPart * rank, round + rank, kPart);
        r.nccl->all_gather(r.device, data, bounds);
        copy_from_cuda(r.device, got.data(), data, got.size());
        r.nccl->wait(r.device);
        expected.clear();
        for (int other = 0; other < kRanks; other++) expected.append(kPart, static_cast<char>(round + other));
        if (got != expected) break;
      }
      wrong[static_cast<size_t>(rank)] = got == expected ? "" : "other bytes";
      r.nccl->barrier();
      cuda_free(r.device, data);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, Texts(kRanks));
}

// A rank that waits for something else does not hold up the collectives that it has enqueued.
TEST_F(Nccl, ARankThatDoesNotWaitIsNotWaitedFor) {
  const Texts wrong = run_processes(2, [](int rank, const auto& block) -> std::string {
    Rank r(rank, block);
    auto* data = static_cast<char*>(cuda_allocate(r.device, 512));
    const int64_t bounds[] = {0, 256, 512};
    cuda_fill(r.device, data + 256 * rank, rank + 1, 256);
    r.nccl->all_gather(r.device, data, bounds);
    if (rank == 0) r.nccl->wait(r.device);
    r.nccl->barrier();  // in which rank 1 has not waited for the GPU
    r.nccl->wait(r.device);
    cuda_free(r.device, data);
    return "";
  });
  EXPECT_EQ(wrong, Texts(2));
}

// ---- mistakes
// ------------------------------------------------------------------------------------------------------------------ Both ranks
// make their own calls, and all of them must say what is wrong.
struct Mistake {
  const char* name;
  std::function<void(Rank&, int rank, char* data)> calls;
  std::string found;
};
TEST_F(Nccl, MistakesAreFoundByAllRanks) {
  const auto bounds = [](int64_t a, int64_t b) { return std::vector<int64_t>{0, a, b}; };
  const std::vector<Mistake> mistakes = {
      {"other bounds",
       [&](Rank& r, int rank, char* d) { r.nccl->all_gather(r.device, d, rank == 0 ? bounds(64, 128) : bounds(66, 128)); },
       "this rank"},
      {"other sizes",
       [&](Rank& r, int rank, char* d) {
         r.nccl->exchange(r.device, d + 1024, d, rank == 0 ? bounds(64, 128) : bounds(64, 130));
       },
       "ncclSend of 64 bytes"},
      {"another order",
       [&](Rank& r, int rank, char* d) {
         for (int i = 0; i < 2; i++)
           if (i == rank)
             r.nccl->broadcast(r.device, d, 64, 0);
           else
             r.nccl->all_gather(r.device, d, bounds(64, 128));
       },
       "ncclBroadcast of 64 bytes from rank 0"},
      {"another order, with an exchange",
       [&](Rank& r, int rank, char* d) {
         for (int i = 0; i < 2; i++)
           if (i == rank)
             r.nccl->broadcast(r.device, d, 64, 0);
           else
             r.nccl->exchange(r.device, d + 1024, d, bounds(64, 128));
       },
       "ncclBroadcast of 64 bytes from rank 0"},
      {"a graph on one rank alone",
       [&](Rank& r, int rank, char* d) {
         if (rank == 0) return r.nccl->all_gather(r.device, d, bounds(64, 128));
         void* graph = cuda_capture(r.device, [&] { r.nccl->all_gather(r.device, d, bounds(64, 128)); });
         cuda_launch_graph(r.device, graph);
         try {
           r.nccl->wait(r.device);
         } catch (const Error&) {
           cuda_close_graph(r.device, graph);
           throw;
         }
       },
       "in a graph"},
      {"another root", [&](Rank& r, int rank, char* d) { r.nccl->broadcast(r.device, d, 64, rank); }, "from rank 1"},
      {"memory that nobody has written", [&](Rank& r, int, char* d) { r.nccl->broadcast(r.device, d + 512, 64, 0); },
       "which nobody has written"},
      {"a tensor's end", [&](Rank& r, int, char* d) { r.nccl->broadcast(r.device, d + 224, 64, 0); },
       "which is outside every tensor"},
  };
  for (const Mistake& mistake : mistakes) {
    SCOPED_TRACE(mistake.name);
    const auto start = Clock::now();
    const Texts texts = run_processes(2, [&](int rank, const auto& block) -> std::string {
      Rank r(rank, block);
      auto* data = static_cast<char*>(cuda_allocate(r.device, 2048));
      cuda_name_tensor(r.device, data, 256, "sent");
      cuda_name_tensor(r.device, data + 512, 128, "unwritten");
      cuda_name_tensor(r.device, data + 1024, 512, "got");
      cuda_fill(r.device, data, rank, 256);
      std::string error = "no Error";
      try {
        mistake.calls(r, rank, data);
        r.nccl->wait(r.device);
      } catch (const Error& e) {
        error = e.what();
      }
      r.host->barrier();  // neither ends before the other has seen the fault
      return error + "\n" + cuda_faults(r.device);
    });
    for (const std::string& text : texts) {
      expect_found(text, mistake.found);
      EXPECT_EQ(text.find("no Error"), std::string::npos) << text;
    }
    EXPECT_LT(seconds_since(start), 20);
  }
}

TEST_F(Nccl, RacesWithAnotherStreamAreFaults) {
  for (bool ordered : {true, false}) {
    const Texts texts = run_processes(2, [&](int rank, const auto& block) -> std::string {
      Rank r(rank, block);
      auto* data = static_cast<char*>(cuda_allocate(r.device, 256));
      const Device copies = on_copy_stream(r.device);
      void* written = cuda_open_event(r.device);
      cuda_fill(copies, data, rank, 256);
      cuda_record_event(copies, written);
      cuda_come_after(r.device, written);
      cuda_close_event(r.device, written);
      if (!ordered) cuda_fill(copies, data, rank, 256);
      r.nccl->broadcast(r.device, data, 256, 0);
      std::string text;
      try {
        r.nccl->wait(r.device);
        cuda_synchronize(copies);
      } catch (const Error& error) {
        text = error.what();
      }
      return text + cuda_faults(r.device);
    });
    for (const std::string& text : texts) {
      if (!ordered)
        expect_found(text, "nothing orders the two");
      else
        EXPECT_EQ(text, "");
    }
  }
}

// ---- ranks that fail
// ----------------------------------------------------------------------------------------------------------- Rank 1 of 3 does
// not come to the second collective.
std::vector<std::string> without_rank_1(const std::function<void(Rank&)>& end, double limit, bool captured = false) {
  return run_processes(3, [&](int rank, const auto& block) -> std::string {
    Rank r(rank, block, limit);
    auto* data = static_cast<char*>(cuda_allocate(r.device, 768));
    const int64_t bounds[] = {0, 256, 512, 768};
    cuda_fill(r.device, data, 1, 768);
    r.nccl->all_gather(r.device, data, bounds);
    r.nccl->wait(r.device);
    r.nccl->barrier();
    if (rank == 1) end(r);
    const auto start = Clock::now();
    std::string text = "no Error";
    try {
      void* graph = captured ? cuda_capture(r.device, [&] { r.nccl->all_gather(r.device, data, bounds); }) : nullptr;
      captured ? cuda_launch_graph(r.device, graph) : r.nccl->all_gather(r.device, data, bounds);
      r.nccl->wait(r.device);
    } catch (const Error& error) {
      text = error.what();
      r.nccl->leave(error.exit_code, text);
    }
    std::string again = "no Error";
    try {
      r.nccl->broadcast(r.device, data, 256, 0);
    } catch (const Error& error) {
      again = error.what();
    }
    return fmt::format("{:.1f} s: {}; then: {}; faults: {}", seconds_since(start), text, again, cuda_faults(r.device));
  });
}
double seconds_of(const std::string& text) { return std::stod(text); }

TEST_F(Nccl, ARankThatIsKilledIsNamed) {
  for (bool captured : {false, true}) {
    const Texts texts = without_rank_1([](Rank&) { raise(SIGKILL); }, 30, captured);
    EXPECT_EQ(texts[1], "killed");
    for (size_t r : {0u, 2u}) {
      expect_found(texts[r], "rank 1 (process ");
      expect_found(texts[r], "then: NCCL was given up before");
      expect_found(texts[r], "faults: ");
      EXPECT_TRUE(texts[r].ends_with("faults: ")) << texts[r];  // an abort is no fault of the program
      EXPECT_LT(seconds_of(texts[r]), 10) << texts[r];
    }
  }
}
TEST_F(Nccl, WithoutAnotherCarrierNcclSaysThatARankIsGone) {
  const std::string place = fmt::format("127.0.0.1:{}", getpid());
  const Texts texts = run_processes(2, [&](int rank, const auto&) -> std::string {
    OpenDevice device;
    device.open();
    NcclCollectives nccl(device, rank, 2, {.meeting_place = place, .limit = 30});
    nccl.barrier();
    if (rank == 1) raise(SIGKILL);
    nccl.barrier();
    return "no Error";
  });
  EXPECT_EQ(texts[1], "killed");
  EXPECT_EQ(texts[0], "Error: NCCL failed: ncclRemoteError; rank 1 has closed its connection");
}
TEST_F(Nccl, ARankThatLeavesIsNamedWithWhatItSaid) {
  const Texts texts = without_rank_1(
      [](Rank& r) {
        EXPECT_TRUE(r.nccl->leave(kExitCannotTrain, "the loss is not finite"));
        _exit(0);
      },
      30);
  for (size_t r : {0u, 2u}) expect_found(texts[r], "rank 1: the loss is not finite; then");
}
TEST_F(Nccl, ARankThatHangsIsGivenUpAfterTheLimit) {
  const Texts texts = without_rank_1(
      [](Rank&) {
        std::this_thread::sleep_for(std::chrono::seconds(6));
        _exit(0);
      },
      1.5);
  for (size_t r : {0u, 2u}) {
    expect_found(texts[r], "waited 2 seconds for the other ranks: one has ended or hangs");
    EXPECT_GE(seconds_of(texts[r]), 1.5) << texts[r];
    EXPECT_LT(seconds_of(texts[r]), 5.5) << texts[r];
  }
}
TEST_F(Nccl, ARankThatNeverComesIsGivenUpAfterTheLimit) {
  const Texts texts = run_processes(2, [](int rank, const auto&) -> std::string {
    if (rank == 1) return "";
    OpenDevice device;
    device.open();
    NcclCollectives(device, 0, 2, {.meeting_place = fmt::format("127.0.0.1:{}", getpid()), .limit = 1});
    return "no Error";
  });
  expect_found(texts[0], "Error: rank 0 has waited 1 seconds");
}

// ---- a GPU
// ---------------------------------------------------------------------------------------------------------------------
TEST(NcclOnGpu, AWorldOfOneRank) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda_missing();
  std::string why_not;
  if (!nccl_found(why_not)) GTEST_SKIP() << "no NCCL: " << why_not;
  for (int launches : {0, 3}) {
    OpenDevice device;
    device.open();
    NcclCollectives nccl(device, 0, 1, {.meeting_place = fmt::format("127.0.0.1:{}", 20000 + getpid() % 20000), .limit = 60});
    EXPECT_EQ(nccl.name().rfind("NCCL 2.", 0), 0u) << nccl.name();
    ThroughDevice through(nccl, launches);
    EXPECT_EQ(wrong_collectives(through, device, 60, 20000, 9), "");
  }
}

}  // namespace
}  // namespace tll::test
