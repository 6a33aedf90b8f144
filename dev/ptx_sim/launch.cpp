// A launch: its blocks run on several threads.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <numeric>
#include <sstream>
#include <thread>

#include "dev/ptx_sim/block.h"
#include "dev/ptx_sim/reports.h"

namespace ptx {
namespace {

// Below so many threads of all blocks together a second worker costs more than it saves.
constexpr uint64_t kSmallLaunch = 256;

Options initial_options() {
  Options o;
  const char* text = std::getenv("TLL_PTX_SIM");
  std::istringstream words(text ? text : "");
  for (std::string word; words >> word;) {
    const size_t equals = std::min(word.find('='), word.size());
    const std::string name = word.substr(0, equals), value = word.substr(std::min(equals + 1, word.size()));
    const uint64_t number = std::strtoull(value.c_str(), nullptr, 10);
    if (name == "seed") {
      o.seed = number;
    } else if (name == "workers" && number >= 1) {
      o.workers = static_cast<int>(number);
    } else if (name == "report" && !value.empty()) {
      o.report = value;
    } else if (name == "target" && number) {
      o.target = value;
    } else {
      std::fprintf(stderr, "ptx_sim: TLL_PTX_SIM: %s: expected seed, workers, report or target = a value\n", word.c_str());
      std::exit(2);
    }
  }
  return o;
}

unsigned special_value(const SpecialRegister& r, unsigned thread, const Extent& grid, const Extent& block, const Extent& index) {
  const auto of = [&](const Extent& e) { return r.axis == 0 ? e.x : r.axis == 1 ? e.y : e.z; };
  switch (r.which) {
    case Special::tid:
      return of({thread % block.x, thread / block.x % block.y, thread / block.x / block.y});
    case Special::ntid:
      return of(block);
    case Special::ctaid:
      return of(index);
    case Special::nctaid:
      return of(grid);
    case Special::laneid:
      return thread % kWarp;
    default:
      return thread / kWarp;
  }
}

struct Launch {
  Kernel& kernel;
  Extent grid, block;
  size_t dynamic_shared;
  const std::vector<uint8_t>& arguments;
  std::vector<uint64_t> order;  // of blocks; empty: as they are numbered
  std::atomic<uint64_t> next{0};
  std::mutex mutex;  // of what follows
  std::exception_ptr failed;
  std::set<uint64_t> constant, written;  // ranges of memory
};

void start(Warp& w, unsigned id, const Launch& launch, const Extent& index) {
  const Kernel& k = launch.kernel;
  const unsigned threads = static_cast<unsigned>(launch.block.count());
  w.id = static_cast<int>(id);
  w.live = threads - id * kWarp >= kWarp ? kAllLanes : (Lanes{1} << (threads - id * kWarp)) - 1;
  w.at_barrier = w.blocked = 0, w.sync = 1, w.barrier = 0;
  w.pc.fill(0), w.group.fill(0);
  for (auto& copies : w.copies) copies.clear();
  for (auto& epochs : w.proxy_fences) epochs.clear();
  w.multiplies.clear(), w.watched.assign(k.watched_count, {});
  w.multiply_group = w.fences = 0, w.steps = 0;
  w.predicates = k.predicates;
  w.narrow.resize(k.narrow.size() * kWarp), w.wide.resize(k.wide.size() * kWarp);
  for (size_t r = 0; r < k.narrow.size(); r++)
    std::fill_n(w.narrow.begin() + static_cast<ptrdiff_t>(r * kWarp), kWarp, k.narrow[r]);
  for (size_t r = 0; r < k.wide.size(); r++) std::fill_n(w.wide.begin() + static_cast<ptrdiff_t>(r * kWarp), kWarp, k.wide[r]);
  for (const SpecialRegister& r : k.specials)
    for (unsigned lane = 0; lane < kWarp; lane++)
      w.narrow[size_t{r.index} * kWarp + lane] = special_value(r, id * kWarp + lane, launch.grid, launch.block, index);
}

void work(Launch& launch) {
  Kernel& k = launch.kernel;
  std::vector<uint64_t> executed(k.code.size());
  std::vector<Warp> warps((launch.block.count() + kWarp - 1) / kWarp);
  std::set<uint64_t> constant, written;
  try {
    for (uint64_t n; (n = launch.next++) < launch.grid.count();) {
      const uint64_t b = launch.order.empty() ? n : launch.order[n], row = b / launch.grid.x;
      const Extent index{static_cast<unsigned>(b % launch.grid.x), static_cast<unsigned>(row % launch.grid.y),
                         static_cast<unsigned>(row / launch.grid.y)};
      for (unsigned i = 0; i < warps.size(); i++) start(warps[i], i, launch, index);
      Block block{.kernel = k,
                  .index = index,
                  .arguments = launch.arguments,
                  .shared = SharedMemory(k.dynamic_at + launch.dynamic_shared, k.least_shared_access, !k.multiplies.empty()),
                  .executed = executed,
                  .random = options().seed ? (options().seed * 0x9e3779b97f4a7c15u ^ b * 0xbf58476d1ce4e5b9u) | 1 : 0};
      block.run(warps);
      constant.merge(block.constant), written.merge(block.written);
    }
  } catch (...) {
    const std::lock_guard lock(launch.mutex);
    if (!launch.failed) launch.failed = std::current_exception();
    launch.next = launch.grid.count();
  }
  const std::lock_guard lock(launch.mutex);
  for (size_t i = 0; i < executed.size(); i++) k.executed[i] += executed[i];
  launch.constant.merge(constant), launch.written.merge(written);
}

}  // namespace

Options& options() {
  static auto& instance = *new Options(initial_options());  // lives until the program has ended
  return instance;
}

void launch(Kernel& kernel, Extent grid, Extent block, size_t dynamic_shared, const std::vector<uint8_t>& arguments) {
  const uint64_t threads = block.count();
  if (threads == 0 || threads > kernel.max_threads)
    throw Fault(std::to_string(threads) + " threads in a block of " + kernel.name + ", which is for " +
                std::to_string(kernel.max_threads));
  if (grid.count() == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    throw Fault("the number of blocks of " + kernel.name);
  decode(kernel);
  Launch launch{.kernel = kernel,
                .grid = grid,
                .block = block,
                .dynamic_shared = dynamic_shared,
                .arguments = arguments,
                .order = {},
                .next = {},
                .mutex = {},
                .failed = {},
                .constant = {},
                .written = {}};
  kernel.launches++;
  if (options().seed) {
    launch.order.resize(grid.count());
    std::iota(launch.order.begin(), launch.order.end(), uint64_t{0});
    uint64_t random = options().seed + kernel.launches;
    for (size_t n = launch.order.size(); n > 1; n--) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      std::swap(launch.order[n - 1], launch.order[(random >> 33) % n]);
    }
  }
  const uint64_t before = std::accumulate(kernel.executed.begin(), kernel.executed.end(), uint64_t{0});
  const unsigned cores = options().workers ? static_cast<unsigned>(options().workers) : std::thread::hardware_concurrency();
  const uint64_t workers = grid.count() * threads <= kSmallLaunch ? 1 : std::min<uint64_t>(std::max(1u, cores), grid.count());
  std::vector<std::thread> others;
  for (uint64_t w = 1; w < workers; w++) others.emplace_back([&] { work(launch); });
  work(launch);
  for (std::thread& t : others) t.join();
  kernel.instructions += std::accumulate(kernel.executed.begin(), kernel.executed.end(), uint64_t{0}) - before;
  if (launch.failed) std::rethrow_exception(launch.failed);
  for (uint64_t range : launch.constant)
    if (launch.written.contains(range)) add_report("memory is read as constant and written in one launch: " + kernel.name);
}

}  // namespace ptx
