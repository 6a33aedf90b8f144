// Runs the ladders: checks every rung on small odd shapes against double precision, and times it on a GPU at real sizes.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "dev/ladder/cases.h"
#include "dev/ladder/target.h"

namespace tll::ladder {
namespace {

constexpr const char* kHelp = R"(usage: ladder [--tables]

Runs every rung of dev/ladder on small shapes and compares with a computation in double. Exit code: 0 all passed; 1 one did not;
2 usage.

  --tables   then prints the tables of dev/ladder/README.md, with times if this runs on a GPU
)";

// ---- results ------------------------------------------------------------------------------------------------------------------

// Runs a rung. Returns what is wrong with it, or nothing.
template <class Problem>
std::string problem_of(const Rung<Problem>& rung, const Case<Problem>& c) {
  cuda_must(cudaMemset(c.memory[0]->data, 0xff, c.memory[0]->bytes), "clearing the result");  // NaN wherever nothing is written
  cuda_must(cudaDeviceSynchronize(), "clearing the result");
  target::bytes_asked_for();
  rung.run(c.problem, nullptr);
  const cudaError_t error = cudaDeviceSynchronize();
  if (const std::vector<std::string> faults = target::faults(); !faults.empty()) return faults[0];
  cuda_must(error, rung.name);
  if (const int64_t bytes = target::bytes_asked_for(); bytes >= 0 && static_cast<double>(bytes) != rung.bytes(c.problem))
    return fmt::format("asked for {} bytes, not {}", bytes, rung.bytes(c.problem));
  const std::vector<double> found = result(c);
  for (size_t i = 0; i < found.size(); i++)
    if (!(std::abs(found[i] - c.expected[i]) <= c.tolerance[i]))
      return fmt::format("element {} is {}, not {} ± {:.1e}", i, found[i], c.expected[i], c.tolerance[i]);
  return "";
}

struct Count {
  int passed = 0, failed = 0;
};

template <class Problem>
void check(const char* op, const std::vector<Case<Problem>>& cases, Count& count) {
  uint64_t seed = 1;
  size_t variant = 0;
  for (const Case<Problem>& c : cases) {
    variant++;  // so that a rung meets all variants
    for (const Rung<Problem>& rung : rungs<Problem>()) {
      const int arch = target::choose(static_cast<int>(variant++ % target::kVariants), seed++, rung.arch);
      if (arch < rung.arch) continue;  // a GPU without its instructions
      const std::string problem = problem_of(rung, c);
      problem.empty() ? count.passed++ : count.failed++;
      if (!problem.empty()) fmt::print(stderr, "FAILED {}/{} {}: {}\n", op, rung.name, c.shape, problem);
    }
  }
}

// Ones, primes, multiples of the vector size but not of the tiles, and more than one tile.
Count check_all() {
  Count count;
  std::vector<Case<Rmsnorm>> rmsnorm;
  for (const auto& [N, C] :
       {std::pair{1, 1}, {3, 7}, {37, 13}, {2, 64}, {7, 127}, {129, 40}, {5, 1003}, {3, 2056}, {2, 4099}, {3, 4104}})
    rmsnorm.push_back(rmsnorm_case(N, C, true));
  check("rmsnorm", rmsnorm, count);
  std::vector<Case<Matmul>> matmul;
  for (const auto& [M, N, K] :
       {std::tuple{1, 1, 1}, {2, 3, 5}, {7, 13, 31}, {33, 17, 29}, {40, 72, 64}, {129, 131, 37}, {130, 20, 72}})
    matmul.push_back(matmul_case(M, N, K, true));
  check("matmul", matmul, count);
  std::vector<Case<Attention>> attention;
  for (const auto& [H, N, D] : {std::tuple{1, 1, 64}, {2, 7, 64}, {3, 31, 64}, {1, 65, 128}, {1, 131, 64}})
    attention.push_back(attention_case(H, N, D, true));
  check("attention", attention, count);
  return count;
}

// ---- times --------------------------------------------------------------------------------------------------------------------

class Clock {
 public:
  Clock() {
    cuda_must(cudaEventCreate(&start_), "creating an event");
    cuda_must(cudaEventCreate(&end_), "creating an event");
  }
  // The median of up to 11 runs, or of as many as fit in two seconds. Before each run the caches are flushed.
  template <class Run>
  double seconds(const Run& run) {
    std::vector<double> times;
    double total = 0;
    run();
    while (times.size() < 11 && (times.empty() || total < 2)) {
      cuda_must(cudaMemsetAsync(other_.data, 0, other_.bytes, nullptr), "emptying the caches");
      cuda_must(cudaEventRecord(start_, nullptr), "timing");
      run();
      cuda_must(cudaEventRecord(end_, nullptr), "timing");
      cuda_must(cudaEventSynchronize(end_), "timing");
      float milliseconds = 0;
      cuda_must(cudaEventElapsedTime(&milliseconds, start_, end_), "timing");
      times.push_back(1e-3 * static_cast<double>(milliseconds));
      total += times.back();
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
  double copy_bandwidth() {
    const size_t bytes = size_t{512} << 20;
    const Memory from(bytes, "from"), to(bytes, "to");
    cuda_must(cudaMemset(from.data, 0, bytes), "measuring a copy");
    return 2.0 * static_cast<double>(bytes) / seconds([&] {
             cuda_must(cudaMemcpyAsync(to.data, from.data, bytes, cudaMemcpyDeviceToDevice, nullptr), "measuring a copy");
           });
  }

 private:
  cudaEvent_t start_ = nullptr, end_ = nullptr;
  Memory other_{size_t{256} << 20, "other"};
};

// One ladder's table. work: the bytes or flops that the op needs, the same for all rungs. roof: the GPU's rate of them; 0: that
// of the fastest rung.
template <class Problem>
void table(const char* title, const char* unit, double unit_size, double work, double roof, const char* of_what, int arch,
           Clock* clock, const Case<Problem>* c, const Problem& problem) {
  fmt::print("\n**{}**\n\n| rung | idea | asks for | ms | {} | of {} |\n| --- | --- | ---: | ---: | ---: | ---: |\n", title, unit,
             of_what);
  std::vector<double> seconds;
  for (const Rung<Problem>& rung : rungs<Problem>())
    seconds.push_back(clock && arch >= rung.arch ? clock->seconds([&] { rung.run(c->problem, nullptr); }) : 0);
  for (const double s : seconds)
    if (clock && std::strcmp(of_what, "the fastest") == 0 && s > 0) roof = std::max(roof, work / s);
  for (size_t i = 0; i < seconds.size(); i++) {
    const Rung<Problem>& rung = rungs<Problem>()[i];
    const double bytes = rung.bytes(problem), rate = work / seconds[i];
    fmt::print("| [{0}]({1}/{0}.cuh) | {2} | {3:.4g} GB | ", rung.name,
               std::string(title).substr(0, std::string(title).find(' ')), rung.idea, bytes * 1e-9);
    if (!clock)
      fmt::print("not run on a GPU | | |\n");
    else if (seconds[i] == 0)
      fmt::print("needs sm_80 | | |\n");
    else
      fmt::print("{:.3f} | {:.4g} | {:.0f} % |\n", seconds[i] * 1e3, rate / unit_size, 100 * rate / roof);
  }
}

void print_tables() {
  std::unique_ptr<Clock> clock;
  int arch = 0;
  double bandwidth = 0;
  if (target::measures_time()) {
    clock = std::make_unique<Clock>();
    cudaDeviceProp gpu;
    cuda_must(cudaGetDeviceProperties(&gpu, 0), "asking for the GPU's name");
    arch = target::choose(0, 0, 0);
    bandwidth = clock->copy_bandwidth();
    const std::time_t now = std::time(nullptr);
    fmt::print("{}, {:%Y-%m-%d}. A copy within its memory moves {:.0f} GB/s.\n", gpu.name, *std::gmtime(&now), bandwidth * 1e-9);
  } else {
    fmt::print("Not run on a GPU.\n");
  }
  const auto one = [&](const auto& make, auto problem, const char* title, const char* unit, double unit_size, double work,
                       double roof, const char* of_what) {
    using Problem = decltype(problem);
    std::unique_ptr<Case<Problem>> c;
    if (clock) c = std::make_unique<Case<Problem>>(make());
    table<Problem>(title, unit, unit_size, work, roof, of_what, arch, clock.get(), c.get(), problem);
  };
  const double n = 4096;
  one([] { return rmsnorm_case(4096, 4096, false); }, Rmsnorm{.N = 4096, .C = 4096}, "rmsnorm N 4096, C 4096", "GB/s", 1e9,
      4 * n * n + 2 * n, bandwidth, "a copy");
  one([] { return matmul_case(4096, 4096, 4096, false); }, Matmul{.M = 4096, .N = 4096, .K = 4096}, "matmul 4096 × 4096 × 4096",
      "TFLOP/s", 1e12, 2 * n * n * n, 0, "the fastest");
  one([] { return attention_case(32, 4096, 128, false); }, Attention{.H = 32, .N = 4096, .D = 128},
      "attention H 32, N 4096, D 128, causal", "TFLOP/s", 1e12, 2 * n * n * 128 * 32, 0, "the fastest");
}

int run(const std::vector<std::string>& args) {
  const bool tables = args.size() == 1 && args[0] == "--tables";
  if (!args.empty() && !tables) {
    const bool help = args[0] == "--help";
    fmt::print(help ? stdout : stderr, "{}", kHelp);
    return help ? 0 : 2;
  }
  const Count count = check_all();
  fmt::print(tables ? stderr : stdout, "ladder: {} passed, {} failed\n", count.passed, count.failed);
  if (count.failed) return 1;
  if (tables) print_tables();
  return 0;
}

}  // namespace
}  // namespace tll::ladder

int main(int argc, char** argv) { return tll::ladder::run({argv + 1, argv + argc}); }
