// Runs the blocks of a launch on several OS threads, and reports faults.
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <mutex>
#include <sstream>
#include <thread>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/symbols.h"

namespace emulator {
namespace {

std::mutex reports_mutex;
std::vector<Report> reports;
std::mutex counters_mutex;
Counters totals;

// And the line of the header if a function of a header makes the access.
std::string both_lines(const Place& p, const void* site) {
  if (!p.line) return line_text(p);
  const SourceLine inner = source_line(site);
  return inner.file == p.file ? line_text(p) : fmt::format("{} (by {}:{})", line_text(p), inner.file, inner.line);
}

void report_failure(const Launch& launch, const Worker& worker) {
  const Failure& f = *worker.failure;
  Report r;
  r.fault = f.fault;
  r.kernel = function_name(launch.kernel);
  r.tensor = f.tensor;
  r.block = worker.block_index;
  if (f.thread) r.thread = f.thread->index;
  r.place = place_of(f.site);
  r.other = place_of(f.other_site);
  r.message = fmt::format("{}: {}: {} block {} thread {} {}", fault_name(f.fault), both_lines(r.place, f.site), r.kernel,
                          index_text(r.block), index_text(r.thread), f.text);
  if (r.other.line) r.message += "; the other place: " + both_lines(r.other, f.other_site);
  add_report(r);
}

// A thread pool. A launch runs on the thread that waits for it and on those helpers that wake up in time.
class Pool {
 public:
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  void run(int helpers, const std::function<void()>& work) {
    {
      const std::lock_guard lock(mutex_);
      while (static_cast<int>(threads_.size()) < helpers) threads_.emplace_back([this] { loop(); });
      work_ = &work;
      wanted_ = helpers;
    }
    if (helpers > 0) wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    wanted_ = 0;
    done_.wait(lock, [this] { return busy_ == 0; });
    work_ = nullptr;
  }

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || wanted_ > 0; });
      if (stop_) return;
      wanted_--;
      busy_++;
      const std::function<void()>& work = *work_;
      lock.unlock();
      work();
      lock.lock();
      if (--busy_ == 0) done_.notify_all();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  const std::function<void()>* work_ = nullptr;
  int wanted_ = 0, busy_ = 0;
  bool stop_ = false;
};

// A kernel's name in a form that does not depend on the compiler.
std::string short_name(std::string name) {
  for (const std::string_view part : {"tll::", "(anonymous namespace)::", " "})
    for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, part.size());
  return name;
}
size_t read_registers(const std::string& file, Options& o) {
  std::ifstream lines(file);
  size_t found = 0;
  std::string ptxas;  // the kernel that the following lines of nvcc's report describe
  const std::string sm = fmt::format("sm_{}", o.arch / 10);
  for (std::string line; std::getline(lines, line);) {
    // ptxas info : Compiling entry function 'void kernel<float>(…)' for 'sm_80', and Used 40 registers, … below it
    if (const size_t at = line.find("entry function '"); at != std::string::npos) {
      const size_t begin = at + 16, end = line.find("' for '");
      ptxas.clear();
      if (end != std::string::npos && line.compare(end + 7, sm.size() + 1, sm + "'") == 0) {
        ptxas = line.substr(begin, end - begin);
        if (ptxas.starts_with("void ")) ptxas.erase(0, 5);
        ptxas = short_name(ptxas);
        int depth = 0;
        for (size_t i = 0; i < ptxas.size(); i++) {
          depth += ptxas[i] == '<' ? 1 : ptxas[i] == '>' ? -1 : 0;
          if (ptxas[i] == '(' && depth == 0) ptxas.resize(i);
        }
      }
      continue;
    }
    std::istringstream words(line);
    std::string first, word;
    int registers = 0;
    if (size_t used = line.find("Used "); used != std::string::npos && !ptxas.empty()) {
      o.registers[ptxas] = std::atoi(line.c_str() + used + 5);
      found++;
    } else if (words >> first >> registers >> word && first == sm && word == "registers") {  // sm_80 40 registers … stack  name
      const size_t stack = line.find(" stack  ");
      if (stack == std::string::npos) continue;
      std::string name = line.substr(stack + 8);
      name.erase(std::min(name.size(), name.find("   SPILLS")));
      o.registers[short_name(name)] = registers;
      found++;
    }
  }
  return found;
}

Options initial_options() {
  Options o;
  const char* text = std::getenv("TLL_EMULATOR");
  std::string registers;
  std::istringstream words(text ? text : "");
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals), value = equals == std::string::npos ? "" : word.substr(equals + 1);
    const uint64_t number = std::strtoull(value.c_str(), nullptr, 10);
    if (name == "arch") {
      o.arch = static_cast<int>(number);
    } else if (name == "seed") {
      o.seed = number;
    } else if (name == "workers" && number >= 1) {
      o.workers = static_cast<int>(number);
    } else if (name == "print") {
      o.print = number != 0;
    } else if (name == "mma" && (value == "exact" || value == "hardware")) {
      o.mma = value == "exact" ? MmaSum::exact : MmaSum::hardware;
    } else if (name == "mib" && number >= 1) {
      o.device_bytes = number << 20;
    } else if (name == "driver") {
      o.driver = static_cast<int>(number);
    } else if (name == "failing_launch") {
      o.failing_launch = static_cast<int>(number);
    } else if (name == "registers") {
      registers = value;
    } else {
      std::fprintf(stderr,
                   "emulator: TLL_EMULATOR: %s: expected arch, seed, workers, print, mma, mib, driver, failing_launch or "
                   "registers = a value\n",
                   word.c_str());
      std::exit(2);
    }
  }
  if (!registers.empty() && read_registers(registers, o) == 0) {
    std::fprintf(stderr, "emulator: TLL_EMULATOR: %s names no registers of kernels for sm_%d\n", registers.c_str(), o.arch / 10);
    std::exit(2);
  }
  return o;
}

}  // namespace

std::string index_text(uint3 i) { return fmt::format("({},{},{})", i.x, i.y, i.z); }
std::string line_text(const Place& p) { return p.line ? fmt::format("{}:{}", p.file, p.line) : "?"; }
Place place_of(const void* site) {
  if (!site) return {};
  const SourceLine line = kernel_line(site);
  return {line.file, line.line};
}

size_t read_registers(const std::string& file) { return read_registers(file, options()); }
int registers_of(const void* kernel) {
  if (options().registers.empty()) return 0;
  const auto& known = options().registers;
  const auto it = known.find(short_name(launch_name(kernel)));
  return it == known.end() ? 0 : it->second;
}

Options& options() {
  static Options instance = initial_options();
  return instance;
}

const char* fault_name(Fault fault) {
  constexpr const char* names[] = {"data race",
                                   "out of bounds",
                                   "uninitialised read",
                                   "misaligned access",
                                   "asynchronous copy in flight",
                                   "wgmma in flight",
                                   "barrier",
                                   "warp collective",
                                   "launch",
                                   "undefined arithmetic",
                                   "trap",
                                   "runtime call"};
  return names[static_cast<int>(fault)];
}

void add_report(Report report) {
  const std::lock_guard lock(reports_mutex);
  if (options().print) std::fprintf(stderr, "emulator: %s\n", report.message.c_str());
  reports.push_back(std::move(report));
}
std::vector<Report> take_reports() {
  const std::lock_guard lock(reports_mutex);
  return std::exchange(reports, {});
}
size_t print_reports() {
  const std::vector<Report> all = take_reports();
  for (const Report& report : all)
    if (!options().print) std::fprintf(stderr, "emulator: %s\n", report.message.c_str());
  return all.size();
}

void count(uint64_t blocks, uint64_t switches, uint64_t accesses) {
  const std::lock_guard lock(counters_mutex);
  totals.blocks += blocks;
  totals.switches += switches;
  totals.accesses += accesses;
}
Counters counters() {
  const std::lock_guard lock(counters_mutex);
  return totals;
}

// Shared memory that a block may use, in bytes. An architecture that is not listed has the smallest limit of its kind.
int shared_limit(int arch) {
  const int kib = arch < 800 ? 64 : arch == 800 ? 163 : arch < 900 ? 99 : arch < 1200 ? 227 : 99;
  return kib * 1024;
}

void run_launch(Launch& launch) {
  static Pool pool;
  static uint32_t next_stamp = 1;
  const uint64_t blocks = static_cast<uint64_t>(launch.grid.x) * launch.grid.y * launch.grid.z;
  if (blocks > UINT32_MAX - next_stamp) {
    std::fprintf(stderr, "emulator: more than 2^32 blocks in one process\n");
    std::abort();
  }
  launch.first_stamp = next_stamp;
  next_stamp += static_cast<uint32_t>(blocks);
  launch.ordered_below = launch.first_stamp;
  for (const Ran& ran : launch.unordered)
    if (ran.kernel) launch.ordered_below = std::min(launch.ordered_below, ran.first_stamp);
  launch.order.resize(blocks);
  uint64_t state = launch.seed | 1;
  for (uint32_t i = 0; i < blocks; i++) {  // a random permutation: inside-out Fisher-Yates shuffle
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const uint32_t j = static_cast<uint32_t>((state >> 33) % (i + 1));
    launch.order[i] = launch.order[j];
    launch.order[j] = i;
  }
  const int helpers = std::min<int>(options().workers - 1, static_cast<int>(std::min<uint64_t>(blocks - 1, 64)));
  launch.concurrent = helpers > 0;
  forget_releases();
  const std::function<void()> work = [&launch] {
    uint64_t ran = 0;
    Worker* worker = nullptr;
    for (;;) {
      const uint32_t number = launch.next.fetch_add(1, std::memory_order_relaxed);
      if (number >= launch.order.size() || launch.failed.load(std::memory_order_relaxed)) break;
      if (!worker) {
        worker = &this_worker();
        worker->accesses = worker->switches = 0;
      }
      worker->run_block(launch, number);
      ran++;
      if (worker->failure && !launch.failed.exchange(true)) report_failure(launch, *worker);
    }
    if (worker) count(ran, worker->switches, worker->accesses);
  };
  pool.run(helpers, work);
  const std::lock_guard lock(counters_mutex);
  totals.launches++;
}

}  // namespace emulator
