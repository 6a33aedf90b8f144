// build/bench_ops: how fast each op of kernels/ is on a device, beside what the device could do.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>

#include "dev/bench/bench_case.h"
#include "src/base/parallel.h"
#include "src/report/known_gpus.h"
#include "tests/op_program.h"
#include "tests/op_tensor.h"

namespace tll::bench {
namespace {

constexpr const char* kHelp =
    R"(usage: bench_ops [--device NAME] [--dtype NAME] [--model NAME] [--op NAME] [--rows N] [--gpu NAME] [--quick] [--json]

Times every op at the shapes of Llama-3.2-1B, 3B and Llama-3.1-8B. The ceilings are measured first: the bandwidth of Copy over a
big buffer (bytes read and bytes written), and the rate of the largest matrix product, of each type. "of roof" is the least
time that the op's bytes and flops could take at these ceilings, divided by the time that it took. What is bound by memory
should reach 70 % of it; attention forward 250 TFLOP/s on an H100 or H200 at head size 128, S 4096 (causal: half the square).
"predicted" is what the model of kernels/gpu_time.h says of this GPU, where it is a known one.

  --device NAME  cuda, cuda-emulated (tiny shapes: a test of this program) or cpu (default: what is found, in this order)
  --dtype NAME   bf16, fp16 or fp32; may be repeated (default: bf16)
  --model NAME   135M (SmolLM2), 1B, 3B or 8B; may be repeated (default: all but the first)
  --op NAME      only this op; may be repeated (default: all)
  --rows N       tokens of a step (default: 4096; on a CPU 256)
  --gpu NAME     predict for this GPU, as plan --gpu calls it, instead of the one that is here
  --quick        shorter measurements, models 1B and 8B
  --json         one JSON object instead of the table
  --help         this text

A time is the median of 7 measurements after a warm-up; each waits once for many launches (on CUDA one graph), which go around
several sets of tensors, more than caches hold. Exit code: 0 done, 1 a fault, 2 usage. A missed target is no fault.
)";

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Options {
  std::string device, gpu;
  std::set<std::string> models, ops;
  std::vector<DType> dtypes;
  int rows = 0;
  bool quick = false, json = false;
};

std::vector<test::ProgramOption> program_options(Options& o) {
  const auto dtype = [&](const std::string& text) {
    test::expect_one_of({"bf16", "fp16", "fp32"}, text, "--dtype is bf16, fp16 or fp32");
    o.dtypes.push_back(text == "bf16" ? DType::bf16 : text == "fp16" ? DType::f16 : DType::f32);
  };
  const auto model = [&](const std::string& text) {
    test::expect_one_of({"135M", "1B", "3B", "8B"}, text, "--model is 135M, 1B, 3B or 8B");
    o.models.insert(text);
  };
  return {{"--device", [&](auto& text) { o.device = text; }},
          {"--dtype", dtype},
          {"--model", model},
          {"--op", [&](auto& text) { o.ops.insert(text); }},
          {"--rows", [&](auto& text) { o.rows = test::whole_number(text, 5, 2, "--rows is a whole number from 2 to 99999"); }},
          {"--gpu", [&](auto& text) { o.gpu = text; }},
          {"--quick", [&](auto&) { o.quick = true; }, true},
          {"--json", [&](auto&) { o.json = true; }, true}};
}

// ---- memory -------------------------------------------------------------------------------------------------------------------

bool on_cuda(const Device& device) { return device.kind == DeviceKind::cuda; }

// Elements of which a tensor is filled, over and over. Random numbers, never zeros, which run faster than data; their count is no
// multiple of anything.
std::string pool_of(const test::TensorSpec& spec, DType dtype) {
  constexpr size_t kMost = (size_t{1} << 20) + 77;
  static std::map<DType, std::string> random_pools;
  std::string values, &pool = spec.values.empty() ? random_pools[dtype] : values;
  if (!pool.empty()) return pool;
  size_t count = kMost;
  if (!spec.values.empty())
    count = std::min(static_cast<size_t>(spec.count()), (kMost / spec.values.size() + 1) * spec.values.size());
  pool.resize(count * dtype_bytes(dtype));
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < count; i++)
    test::store_value(reinterpret_cast<std::byte*>(&pool[i * dtype_bytes(dtype)]), dtype,
                      spec.values.empty() ? normal(random) : spec.values[i % spec.values.size()]);
  return pool;
}

// One tensor on the device, filled.
class DeviceTensor {
 public:
  DeviceTensor(const Device& device, const test::TensorSpec& spec, DType dtype) : device_(device) {
    const size_t bytes = static_cast<size_t>(spec.count()) * dtype_bytes(dtype);
    memory_ = static_cast<std::byte*>(on_cuda(device) ? cuda_allocate(device, std::max<size_t>(bytes, 1))
                                                      : std::aligned_alloc(64, (bytes + 64) / 64 * 64));
    if (!memory_) fail(kExitFault, "no memory for {} of {} bytes", spec.name, bytes);
    if (on_cuda(device)) cuda_name_tensor(device, memory_, bytes, spec.name);
    const std::string pool = pool_of(spec, dtype);
    for (size_t done = 0; done < bytes; done += pool.size()) {
      const size_t part = std::min(pool.size(), bytes - done);
      if (on_cuda(device))
        copy_to_cuda(device, memory_ + done, pool.data(), part);
      else
        std::memcpy(memory_ + done, pool.data(), part);
    }
    if (on_cuda(device)) cuda_synchronize(device);
  }
  ~DeviceTensor() {
    if (on_cuda(device_)) {
      cuda_forget_tensors(device_, memory_);
      cuda_free(device_, memory_);
    } else {
      std::free(memory_);
    }
  }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;
  std::byte* data() const { return memory_; }

 private:
  const Device& device_;
  std::byte* memory_;
};

// ---- time ---------------------------------------------------------------------------------------------------------------------

// What the model of a GPU says of the same op. It runs nothing.
double predicted_seconds(const Gpu& gpu, const BenchCase& c) {
  DryRun dry{.speed = {}, .gpu = &gpu};
  Device device{.kind = DeviceKind::cuda};
  device.dry = &dry, device.stream = &dry.seconds, device.copy_stream = &dry.copied;
  Recorder recorder(c.dtype, device);
  constexpr size_t kMost = 32;
  alignas(256) static std::byte somewhere[kMost][256];  // an address for each tensor; none is read
  TLL_CHECK(c.tensors.size() <= kMost, "{} tensors", c.tensors.size());
  for (size_t i = 0; i < c.tensors.size(); i++) recorder.place(c.tensors[i], somewhere[i]);
  c.pass(recorder);
  recorder.launches.front().run(device);
  return dry.seconds;
}

struct Effort {
  double seconds;     // of one of the measurements
  size_t set_bytes;   // sets of tensors together are larger than this, so that caches hold none of them
  int most_launches;  // in a measurement
};

double median_seconds(const Device& device, const BenchCase& c, const Effort& effort) {
  size_t bytes = 1;
  for (const test::TensorSpec& spec : c.tensors)
    if (spec.role != test::Role::scratch) bytes += static_cast<size_t>(spec.count()) * dtype_bytes(dtype_for(spec.kind, c.dtype));
  const size_t sets = std::clamp<size_t>(effort.set_bytes / bytes + 1, 1, 64);
  std::vector<std::unique_ptr<DeviceTensor>> tensors;
  Recorder recorder(c.dtype, device);
  for (size_t set = 0; set < sets; set++) {
    for (const test::TensorSpec& spec : c.tensors) {
      tensors.push_back(std::make_unique<DeviceTensor>(device, spec, dtype_for(spec.kind, c.dtype)));
      recorder.place(spec, tensors.back()->data());
    }
    c.pass(recorder);
  }
  const std::vector<test::Launch>& launches = recorder.launches;
  size_t next = 0;
  const auto enqueue = [&](int count) {
    for (int i = 0; i < count; i++) launches[next++ % launches.size()].run(device);
  };
  // What is timed; on CUDA a graph, so that the time between launches is the GPU's and not the host's.
  void* graph = nullptr;
  const auto time = [&](int count) {
    const auto start = Clock::now();
    graph ? cuda_launch_graph(device, graph) : enqueue(count);
    if (on_cuda(device)) cuda_synchronize(device);
    return seconds_since(start);
  };
  time(static_cast<int>(sets));  // loads the kernel, wakes the clocks
  const double once = time(static_cast<int>(sets)) / static_cast<double>(sets);
  const int count = std::clamp(static_cast<int>(effort.seconds / std::max(once, 1e-7)), 1, effort.most_launches);
  if (on_cuda(device)) {
    graph = cuda_capture(device, [&] { enqueue(count); });
    time(count);
  }
  std::vector<double> seconds;
  for (int repeat = 0; repeat < 7; repeat++) seconds.push_back(time(count) / count);
  if (graph) cuda_close_graph(device, graph);
  std::nth_element(seconds.begin(), seconds.begin() + 3, seconds.end());
  return seconds[3];
}

// ---- results ------------------------------------------------------------------------------------------------------------------

struct Ceilings {
  double copy = 0;                 // bytes a second
  std::map<DType, double> matmul;  // flops a second
};
struct Result {
  BenchCase op;
  double seconds;
  double predicted = 0;  // 0: the GPU is not known
  double roof_share(const Ceilings& c) const {
    return std::max(op.cost.bytes / c.copy, op.cost.flops / c.matmul.at(op.dtype)) / seconds;
  }
  bool memory_bound(const Ceilings& c) const { return op.cost.bytes / c.copy >= op.cost.flops / c.matmul.at(op.dtype); }
  double tflops() const { return op.cost.flops / seconds / 1e12; }
};

std::string verdict(const Result& r, const Ceilings& c, const Device& device) {
  constexpr double kMemoryTarget = 0.7;
  if (!on_cuda(device) || cuda_emulated()) return "-";
  const auto judge = [](bool reached, const std::string& target) { return (reached ? "ok, " : "BELOW ") + target; };
  if (r.op.least_tflops > 0 && device.arch == 900)
    return judge(r.tflops() >= r.op.least_tflops, fmt::format("{} TFLOP/s", r.op.least_tflops));
  if (r.memory_bound(c)) return judge(r.roof_share(c) >= kMemoryTarget, fmt::format("{} of copy", kMemoryTarget));
  return "-";
}

void print(const Result& r, const Ceilings& c, const Device& device) {
  fmt::print("{:<19} {:<46} {:<5} {:>10.1f} {:>10} {:>9.1f} {:>9.3f} {:>7.2f}  {}\n", r.op.op, r.op.shape, dtype_name(r.op.dtype),
             r.seconds * 1e6, r.predicted > 0 ? fmt::format("{:.1f}", r.predicted * 1e6) : "-", r.op.cost.bytes / r.seconds / 1e9,
             r.tflops(), r.roof_share(c), verdict(r, c, device));
  std::fflush(stdout);
}
nlohmann::ordered_json to_json(const Result& r, const Ceilings& c, const Device& device) {
  nlohmann::ordered_json json = {{"op", r.op.op},
                                 {"shape", r.op.shape},
                                 {"dtype", dtype_name(r.op.dtype)},
                                 {"microseconds", r.seconds * 1e6},
                                 {"bytes", r.op.cost.bytes},
                                 {"flops", r.op.cost.flops},
                                 {"gb_per_second", r.op.cost.bytes / r.seconds / 1e9},
                                 {"tflops", r.tflops()},
                                 {"bound", r.memory_bound(c) ? "memory" : "arithmetic"},
                                 {"share_of_roof", r.roof_share(c)},
                                 {"verdict", verdict(r, c, device)}};
  if (r.predicted > 0) json["predicted_microseconds"] = r.predicted * 1e6;
  return json;
}

Device chosen_device(const std::string& name) {
  if (!name.empty() && name != "cpu" && name != "cuda" && name != "cuda-emulated")
    fail(kExitUsage, "--device is cuda, cuda-emulated or cpu, not '{}'", name);
  const bool cuda = cuda_backend() && cuda_device_count() > 0;
  if (cuda && (name.empty() || name == cuda_backend())) return open_cuda_device();
  if (!name.empty() && name != "cpu")
    fail(kExitFault, "device {} was not found: {}", name,
         !cuda_backend() ? "this program was built without CUDA"
         : cuda          ? "this program's is " + std::string(cuda_backend())
                         : "no GPU, or no driver");
  set_cpu_threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  return {.threads = cpu_threads()};
}

int bench(Options options) {
  if (options.dtypes.empty()) options.dtypes = {DType::bf16};
  Device device = chosen_device(options.device);
  const bool gpu = on_cuda(device), emulated = gpu && cuda_emulated();
  const char* name = gpu ? cuda_backend() : "cpu";
  Sizes sizes{
      .models = {}, .N = 4096, .seq_len = 4096, .trained = 40 << 20, .copied = 1 << 28, .cuda = gpu, .threads = device.threads};
  if (!gpu)
    sizes = {
        .models = {}, .N = 256, .seq_len = 256, .trained = 4 << 20, .copied = 1 << 25, .cuda = gpu, .threads = device.threads};
  if (emulated)
    sizes = {.models = {kTinyModel}, .N = 40, .seq_len = 32, .trained = 999, .copied = 4096, .cuda = true, .threads = 1};
  if (options.rows && !emulated) sizes.N = options.rows, sizes.seq_len = std::min(sizes.seq_len, options.rows);
  for (const ModelShape& m : kModels) {
    const bool usual = m.C != 576 && !(options.quick && m.C == 3072);
    const bool wanted = options.models.empty() ? usual : options.models.contains(m.name);
    if (wanted && !emulated) sizes.models.push_back(m);
  }
  const Effort effort = emulated ? Effort{1e-9, 0, 1}
                        : gpu    ? Effort{options.quick ? 0.004 : 0.02, size_t{256} << 20, 500}
                                 : Effort{options.quick ? 0.01 : 0.1, size_t{64} << 20, 1000};

  Ceilings ceilings;
  const BenchCase copy = copy_ceiling(sizes);
  ceilings.copy = copy.cost.bytes / median_seconds(device, copy, effort);
  std::vector<BenchCase> cases;
  std::set<std::string> seen;  // what is float whatever the type is timed once
  for (DType dtype : options.dtypes) {
    if (!gpu && dtype == DType::f16) fail(kExitUsage, "--dtype fp16 runs on CUDA only");
    const BenchCase largest = matmul_ceiling(sizes, dtype);
    ceilings.matmul[dtype] = largest.cost.flops / median_seconds(device, largest, effort);
    for (BenchCase& c : all_cases(sizes, dtype))
      if ((options.ops.empty() || options.ops.contains(c.op)) && seen.insert(c.op + c.shape + dtype_name(c.dtype)).second)
        cases.push_back(std::move(c));
  }
  if (cases.empty()) fail(kExitUsage, "no op has a name given with --op");
  // What is bound by memory needs no rate of matmuls; this keeps the roof of float ops defined where only bf16 was measured.
  for (const BenchCase& c : cases) ceilings.matmul.try_emplace(c.dtype, ceilings.matmul.begin()->second);

  const KnownGpu* known = !options.gpu.empty() ? known_gpu(options.gpu) : gpu ? gpu_of_driver_name(cuda_name()) : nullptr;
  if (!options.gpu.empty() && !known) fail(kExitUsage, "no GPU is known as '{}'", options.gpu);
  const Gpu model = known ? nominal_gpu(known->name) : Gpu{};
  nlohmann::ordered_json json{
      {"device", name}, {"arch", device.arch}, {"rows", sizes.N}, {"copy_gb_per_second", ceilings.copy / 1e9}};
  for (DType dtype : options.dtypes) json["matmul_tflops"][dtype_name(dtype)] = ceilings.matmul[dtype] / 1e12;
  if (!options.json) {
    fmt::print("{}: copy {:.0f} GB/s", name, ceilings.copy / 1e9);
    for (DType dtype : options.dtypes)
      fmt::print(", product {} {:.2f} TFLOP/s", dtype_name(dtype), ceilings.matmul[dtype] / 1e12);
    fmt::print("\n{:<19} {:<46} {:<5} {:>10} {:>10} {:>9} {:>9} {:>7}  {}\n", "op", "shape", "dtype", "us", "predicted", "GB/s",
               "TFLOP/s", "of roof", "target");
  }
  for (const BenchCase& c : cases) {
    const Result result{c, median_seconds(device, c, effort), known ? predicted_seconds(model, c) : 0};
    if (options.json)
      json["ops"].push_back(to_json(result, ceilings, device));
    else
      print(result, ceilings, device);
  }
  if (options.json) std::cout << json.dump(1) << "\n";
  if (!gpu) return kExitDone;
  const std::string faults = cuda_faults(device);
  close_cuda_device(device);
  if (!faults.empty()) fail(kExitFault, "the emulator found faults:\n{}", faults);
  return kExitDone;
}

}  // namespace
}  // namespace tll::bench

int main(int argc, char** argv) {
  using namespace tll::bench;
  Options options;
  return tll::test::run_program(argc, argv, kHelp, "; --help lists those there are", program_options(options),
                                [&] { return bench(options); });
}
