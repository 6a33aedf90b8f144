// A program whose ranks check what Open MPI carries (src/ranks/mpi.h), for tests/mpi_test.cpp and dev/ranks/two_hosts.sh.
//
//   mpirun -np N build/mpi_check operations       500 collectives of random sizes, against what they should bring
//                                speed            the time of a few sizes
//                                leave RANK CODE  RANK, or all of them (all), end with CODE
//                                throw RANK       RANK ends with an Error that it does not tell
//                                die RANK         RANK is killed
//                                stop RANK        RANK is stopped; silence is noticed after 2 seconds
//                                idle             nothing for 5 seconds, which is no silence
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "src/base/process.h"
#include "src/ranks/mpi.h"

namespace tll {
namespace {

using Bytes = std::vector<unsigned char>;
using Seconds = std::chrono::duration<double>;

// What rank r holds at offset i before operation k.
unsigned char value(int64_t k, int r, int64_t i) {
  uint64_t h =
      static_cast<uint64_t>(k) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(r) * 0xC2B2AE3D27D4EB4Fu + static_cast<uint64_t>(i);
  h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9u;
  return static_cast<unsigned char>(h >> 40);
}

struct Checked {
  Collectives& ranks;
  int64_t k = 0, bytes = 0;

  void same(const Bytes& found, int64_t at, int from, int64_t from_begin, int64_t n, const char* what) {
    for (int64_t i = 0; i < n; i++)
      if (found[static_cast<size_t>(at + i)] != value(k, from, from_begin + i))
        fail(kExitFault, "operation {}: {} brought a wrong byte {} of {} of rank {}", k, what, i, n, from);
    bytes += n;
  }
  Bytes filled(int64_t n) const {
    Bytes all(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; i++) all[static_cast<size_t>(i)] = value(k, ranks.rank(), i);
    return all;
  }
  // Ascending bounds with empty parts among them; `most` bytes a part.
  std::vector<int64_t> bounds(std::mt19937_64& random, int64_t most) const {
    std::vector<int64_t> bounds = {static_cast<int64_t>(random() % 5) * 2};
    for (int r = 0; r < ranks.size(); r++) {
      const int64_t n = random() % 4 == 0 ? 0 : static_cast<int64_t>(random() % static_cast<uint64_t>(most + 1)) / 2 * 2;
      bounds.push_back(bounds.back() + n);
    }
    return bounds;
  }

  void operator()(std::mt19937_64& random) {  // the same numbers on all ranks
    const Device device;
    const int me = ranks.rank(), size = ranks.size();
    const int64_t most = random() % 10 == 0 ? 3'000'000 : random() % 2 ? 30'000 : 40;
    switch (random() % 6) {
      case 0: {
        const std::vector<int64_t> b = bounds(random, most);
        Bytes data = filled(b.back());
        const Bytes before = data;
        ranks.all_gather(device, data.data(), b);
        for (int r = 0; r < size; r++) {
          const auto begin = b[static_cast<size_t>(r)];
          same(data, begin, r, begin, b[static_cast<size_t>(r) + 1] - begin, "all_gather");
        }
        for (int64_t i = 0; i < b[0]; i++)
          if (data[static_cast<size_t>(i)] != before[static_cast<size_t>(i)])
            fail(kExitFault, "all_gather wrote before its parts");
        break;
      }
      case 1: {
        const std::vector<int64_t> b = bounds(random, most);
        const auto begin = b[static_cast<size_t>(me)];
        const int64_t own = b[static_cast<size_t>(me) + 1] - begin;
        const Bytes from = filled(b.back());
        Bytes to(static_cast<size_t>(own * size + 1), 77);
        ranks.exchange(device, to.data(), from.data(), b);
        for (int r = 0; r < size; r++) same(to, r * own, r, begin, own, "exchange");
        if (to.back() != 77) fail(kExitFault, "exchange wrote behind its parts");
        break;
      }
      case 2:
      case 3: {
        const int root = static_cast<int>(k % size);
        const int64_t n = static_cast<int64_t>(random() % static_cast<uint64_t>(most + 1));
        Bytes data = filled(n);
        if (random() % 2) {
          ranks.broadcast(device, data.data(), n, root);
        } else {
          ranks.broadcast_host(data.data(), n, root);
        }
        same(data, 0, root, 0, n, "broadcast");
        break;
      }
      case 4: {
        const int64_t n = static_cast<int64_t>(random() % static_cast<uint64_t>(most + 1));
        Bytes data = filled(n * size);
        ranks.all_gather_host(data.data(), n);
        for (int r = 0; r < size; r++) same(data, r * n, r, r * n, n, "all_gather_host");
        break;
      }
      default:
        ranks.barrier();
    }
    // Ranks that come late, and in another order each time.
    if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds((k * 7 + me * 13) % 5 * 400));
    k++;
  }
};

void operations(Collectives& ranks) {
  std::mt19937_64 random(20);
  Checked checked{ranks};
  const auto began = std::chrono::steady_clock::now();
  constexpr int kOperations = 500;
  for (int i = 0; i < kOperations; i++) checked(random);
  int64_t bytes = checked.bytes;
  std::vector<int64_t> all(static_cast<size_t>(ranks.size()));
  all[static_cast<size_t>(ranks.rank())] = bytes;
  ranks.all_gather_host(all.data(), sizeof(bytes));
  if (ranks.is_first())
    fmt::print("{} operations of {} ranks by {}: {} bytes as expected, in {:.2f} s\n", kOperations, ranks.size(), ranks.name(),
               std::accumulate(all.begin(), all.end(), int64_t{0}), Seconds(std::chrono::steady_clock::now() - began).count());
}

// Each operation on `bytes` in all.
void speed(Collectives& ranks) {
  const Device device;
  const auto size = static_cast<int64_t>(ranks.size());
  for (const int64_t bytes : {int64_t{1} << 10, int64_t{1} << 16, int64_t{1} << 20, int64_t{1} << 26}) {
    Bytes from(static_cast<size_t>(bytes), 1), to(static_cast<size_t>(bytes));
    std::vector<int64_t> bounds;
    for (int64_t r = 0; r <= size; r++) bounds.push_back(bytes * r / size / 2 * 2);
    const int repeats = bytes > 1 << 20 ? 5 : 100;
    const auto time = [&](const char* name, const auto& operation) {
      double best = 1e9;
      for (int i = 0; i < repeats; i++) {
        ranks.barrier();
        const auto began = std::chrono::steady_clock::now();
        operation();
        best = std::min(best, Seconds(std::chrono::steady_clock::now() - began).count());
      }
      if (ranks.is_first())
        fmt::print("{:>10} bytes {:<11} {:>10.1f} us {:>8.3f} GB/s\n", bytes, name, best * 1e6,
                   static_cast<double>(bytes) / best * 1e-9);
    };
    time("all_gather", [&] { ranks.all_gather(device, to.data(), bounds); });
    time("exchange", [&] { ranks.exchange(device, to.data(), from.data(), bounds); });
    time("broadcast", [&] { ranks.broadcast(device, from.data(), bytes, 0); });
  }
}

[[noreturn]] void wait_for_ever() {
  for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
}

int perform(const std::vector<std::string>& words) {
  const std::string task = words.empty() ? "operations" : words[0];
  MpiSettings settings;
  if (const char* ranks = std::getenv("OMPI_COMM_WORLD_SIZE")) settings.ranks = std::atoi(ranks);
  settings.most_bytes_a_message = task == "operations" ? 1 << 20 : 1 << 30;
  if (task == "stop" || task == "idle") settings.silence = std::chrono::seconds(2);
  const std::unique_ptr<Collectives> ranks = open_mpi(settings);
  const bool mine = words.size() > 1 && (words[1] == "all" || std::atoi(words[1].c_str()) == ranks->rank());
  if (task == "operations") {
    operations(*ranks);
  } else if (task == "speed") {
    speed(*ranks);
  } else if (task == "idle") {
    std::this_thread::sleep_for(std::chrono::seconds(5));
  } else if (task == "throw") {
    if (mine) fail(kExitBadFile, "rank {} has an error", ranks->rank());
    ranks->barrier();
  } else if (task == "leave" && words.size() > 2) {
    if (mine) {
      const int code = std::atoi(words[2].c_str());
      const std::string message = fmt::format("rank {}: an error", ranks->rank());
      if (ranks->leave(code, message)) report(static_cast<ExitCode>(code), message);
      return code;
    }
    ranks->barrier();
  } else if (task == "die" || task == "stop") {
    fmt::print("rank {} is process {}\n", ranks->rank(), getpid());
    std::fflush(stdout);
    ranks->barrier();
    if (mine) raise(task == "die" ? SIGKILL : SIGSTOP);
    ranks->barrier();
    wait_for_ever();
  } else {
    fail(kExitUsage, "no such task: {}", task);
  }
  return kExitDone;
}

}  // namespace
}  // namespace tll

int main(int argc, char** argv) {
  try {
    return tll::perform({argv + 1, argv + argc});
  } catch (const tll::Error& error) {
    return tll::report(error.exit_code, error.what());
  }
}
