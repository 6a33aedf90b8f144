#include "src/ranks/mpi.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <thread>
#include <vector>

#include "src/ranks/mpi_watch.h"
#include "src/ranks/open_mpi_library.h"

namespace tll {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
constexpr int kTag = 0;

// A waiting rank spins for kSpin and then sleeps between two looks: there may be more ranks than cores, and other threads. Open
// MPI moves large messages only while it is looked at, so the sleep is short at first.
constexpr auto kSpin = 50us;
constexpr auto kShortSleep = 20us, kLongSleep = 200us;
constexpr auto kLong = 50ms;      // of waiting, after which the sleep is long
constexpr auto kPrinted = 200ms;  // until what was printed has gone through mpirun
constexpr auto kOthersEnd = 10s;  // how long a rank that did not leave first waits for the end

class MpiCollectives final : public Collectives {
 public:
  MpiCollectives(OpenMpi mpi, const MpiSettings& settings, int rank, int size, bool threads)
      : Collectives(rank, size), mpi_(std::move(mpi)), most_(settings.most_bytes_a_message) {
    TLL_CHECK(most_ > 0 && most_ % 2 == 0 && most_ < int64_t{1} << 31, "most_bytes_a_message = {}", most_);
    requests_.resize(2 * static_cast<size_t>(size));
    communicator_ = duplicate();
    if (size == 1) return;
    if (!threads) {
      if (rank == 0)
        fmt::print(stderr,
                   "note: Open MPI {} allows only one thread here (no MPI_THREAD_MULTIPLE): a rank that no longer answers is not "
                   "noticed\n",
                   mpi_.version);
      return;
    }
    ompi_communicator_t* const watched = duplicate();
    watch_.emplace(mpi_, watched, rank, names(), settings.silence);
  }

  ~MpiCollectives() override {
    if (left_) {
      std::fflush(nullptr);
      std::this_thread::sleep_for(left_first_ ? std::chrono::milliseconds(kPrinted) : std::chrono::milliseconds(kOthersEnd));
      mpi_.Abort(mpi_.COMM_WORLD, code_);
      std::_Exit(code_);
    }
    if (std::uncaught_exceptions() > exceptions_) {
      if (watch_) watch_->stop();
      return;
    }
    try {
      barrier();  // until all are here, silence is noticed
    } catch (const Error&) {
      return;
    }
    watch_.reset();
    mpi_.Finalize();
  }

  void all_gather(const Device& device, void* data, Bounds bounds) override {
    check_device(device, bounds);
    gather(static_cast<char*>(data), bounds);
  }

  void exchange(const Device& device, void* to, const void* from, Bounds bounds) override {
    check_device(device, bounds);
    const auto begin = [&](int r) { return bounds[static_cast<size_t>(r)]; };
    const int64_t own = begin(rank() + 1) - begin(rank());
    char* const parts = static_cast<char*>(to);
    const char* const mine = static_cast<const char*>(from);
    if (own) std::memcpy(parts + rank() * own, mine + begin(rank()), static_cast<size_t>(own));
    transfer([&](int r) { return std::span(parts + r * own, static_cast<size_t>(own)); },
             [&](int r) { return std::span(mine + begin(r), static_cast<size_t>(begin(r + 1) - begin(r))); });
  }

  void broadcast(const Device& device, void* data, int64_t bytes, int root) override {
    check_device(device);
    send_to_all(static_cast<char*>(data), bytes, root);
  }

  void all_gather_host(void* data, int64_t bytes) override {
    char* const parts = static_cast<char*>(data);
    const auto part = [&](int r) { return std::span(parts + r * bytes, static_cast<size_t>(bytes)); };
    transfer(part, [&](int) { return part(rank()); });
    if (bytes == 0) barrier();
  }

  void broadcast_host(void* data, int64_t bytes, int root) override {
    send_to_all(static_cast<char*>(data), bytes, root);
    barrier();
  }

  void barrier() override {
    check(mpi_.Ibarrier(communicator_, requests_.data()), "MPI_Ibarrier");
    wait(1);
  }

  bool leave(int code, const std::string&) noexcept override {
    if (!left_) {
      left_first_ = !watch_ || watch_->first_to_leave(code);
      left_ = true;
      code_ = code;
    }
    return left_first_;
  }

  std::string name() const override { return "Open MPI " + mpi_.version; }

 private:
  void check_device(const Device& device) const {
    TLL_CHECK(device.kind == DeviceKind::cpu, "Open MPI moves memory of the host");
  }
  void check_device(const Device& device, Bounds bounds) const {
    check_device(device);
    TLL_CHECK(bounds.size() == static_cast<size_t>(size()) + 1, "{} bounds of {} ranks", bounds.size(), size());
  }
  void check(int error, const char* what) const {
    if (error != OpenMpi::kSuccess) fail(kExitFault, "Open MPI failed on rank {}: {} ({})", rank(), what, mpi_.text(error));
  }

  // Its errors are returned, and do not end the program.
  ompi_communicator_t* duplicate() const {
    ompi_communicator_t* made = nullptr;
    check(mpi_.Comm_dup(mpi_.COMM_WORLD, &made), "MPI_Comm_dup");
    check(mpi_.Comm_set_errhandler(made, mpi_.ERRORS_RETURN), "MPI_Comm_set_errhandler");
    return made;
  }

  // "rank 1 (host b, process 1234)" of each rank.
  std::vector<std::string> names() {
    using Name = std::array<char, 256>;
    std::vector<Name> texts(static_cast<size_t>(size()), Name{});
    char host[200] = "?";
    static_cast<void>(gethostname(host, sizeof(host) - 1));
    const std::string text = fmt::format("rank {} (host {}, process {})", rank(), host, getpid());
    std::copy_n(text.begin(), std::min(text.size(), Name{}.size() - 1), texts[static_cast<size_t>(rank())].begin());
    all_gather_host(texts.data(), sizeof(Name));
    std::vector<std::string> all;
    for (const Name& name : texts) all.emplace_back(name.data());
    return all;
  }

  void gather(char* data, Bounds bounds) {
    const auto part = [&](int r) {
      const int64_t begin = bounds[static_cast<size_t>(r)], end = bounds[static_cast<size_t>(r) + 1];
      return std::span(data + begin, static_cast<size_t>(end - begin));
    };
    transfer(part, [&](int) { return part(rank()); });
  }

  // Receives to(r) from, and sends from(r) to, every other rank r at once: the bytes that a ring moves, and its offsets have 64
  // bits. The first of a rank is its neighbour, so that the ranks do not all begin with the same one.
  template <class To, class From>
  void transfer(const To& to, const From& from) {
    int64_t largest = 0;
    for (int r = 0; r < size(); r++)
      if (r != rank()) largest = std::max({largest, std::ssize(to(r)), std::ssize(from(r))});
    for (int64_t begin = 0; begin < largest; begin += most_) {
      const auto bytes = [&](int64_t all) { return static_cast<int>(std::clamp<int64_t>(all - begin, 0, most_)); };
      int count = 0;
      for (int i = 1; i < size(); i++) {
        const int source = (rank() - i + size()) % size(), target = (rank() + i) % size();
        if (const int n = bytes(std::ssize(to(source))))
          check(mpi_.Irecv(to(source).data() + begin, n, mpi_.BYTE, source, kTag, communicator_,
                           &requests_[static_cast<size_t>(count++)]),
                "MPI_Irecv");
        if (const int n = bytes(std::ssize(from(target))))
          check(mpi_.Isend(from(target).data() + begin, n, mpi_.BYTE, target, kTag, communicator_,
                           &requests_[static_cast<size_t>(count++)]),
                "MPI_Isend");
      }
      wait(count);
    }
  }

  void send_to_all(char* data, int64_t bytes, int root) {
    for (int64_t begin = 0; begin < bytes; begin += most_) {
      const int n = static_cast<int>(std::min(bytes - begin, most_));
      check(mpi_.Ibcast(data + begin, n, mpi_.BYTE, root, communicator_, requests_.data()), "MPI_Ibcast");
      wait(1);
    }
  }

  // Until the first `count` requests are done.
  void wait(int count) {
    const Clock::time_point began = Clock::now();
    for (;;) {
      int done = 0;
      check(mpi_.Testall(count, requests_.data(), &done, OpenMpi::kNoStatus), "MPI_Testall");
      if (done) return;
      const Clock::duration waited = Clock::now() - began;
      if (waited > kSpin) std::this_thread::sleep_for(waited > kLong ? kLongSleep : kShortSleep);
    }
  }

  const OpenMpi mpi_;
  const int64_t most_;  // bytes a message
  const int exceptions_ = std::uncaught_exceptions();
  ompi_communicator_t* communicator_ = nullptr;
  std::vector<ompi_request_t*> requests_;
  std::optional<MpiWatch> watch_;
  bool left_ = false, left_first_ = false;
  int code_ = kExitFault;
};

}  // namespace

std::unique_ptr<Collectives> open_mpi(const MpiSettings& settings) {
  // Over TCP, one message at a time: put requests (2, 4) wait behind the data of the other direction, which then halves the
  // speed.
  setenv("OMPI_MCA_btl_tcp_flags", "1", 0);
  OpenMpi mpi = load_open_mpi();
  int threads = 0, rank = 0, size = 0;
  if (const int error = mpi.Init_thread(nullptr, nullptr, OpenMpi::kThreadMultiple, &threads); error != OpenMpi::kSuccess)
    fail(kExitFault, "Open MPI {} cannot start: {}", mpi.version, mpi.text(error));
  mpi.Comm_rank(mpi.COMM_WORLD, &rank);
  mpi.Comm_size(mpi.COMM_WORLD, &size);
  if (settings.ranks && size != settings.ranks)
    fail(kExitFault,
         "the launcher started {} ranks, but Open MPI {} sees {}: start them with the mpirun of this Open MPI, or under Slurm "
         "with "
         "srun --mpi=pmix",
         settings.ranks, mpi.version, size);
  return std::make_unique<MpiCollectives>(std::move(mpi), settings, rank, size, threads == OpenMpi::kThreadMultiple);
}

}  // namespace tll
