// The optimizer's own memory: what it places is what a checkpoint holds, a run begins with zeros, and where it lies changes no
// bit.
#include "src/train/optimizer.h"

#include <gtest/gtest.h>

#include <random>

#include "src/model/device_memory.h"

namespace tll {
namespace {

constexpr int64_t kFew = AdamW8bit::kFewest;
// Around the size from which moments are kept in codes, none a multiple of a block but one.
const std::vector<int64_t> kSizes = {kFew + 1, 40, kFew, kFew - 1, 3 * kFew + 77};

std::vector<NamedTensor> tensors_of(const std::vector<int64_t>& sizes) {
  std::vector<NamedTensor> tensors;
  int64_t offset = 0;
  for (const int64_t size : sizes) {
    tensors.push_back({fmt::format("t{}", tensors.size()), {size}, offset});
    offset += size;
  }
  return tensors;
}

// An optimizer with its memory, values, gradients and the step's factors, on a device.
struct Trained {
  OpenDevice device;
  Arena arena, staging;
  Optimizer optimizer;
  std::vector<NamedTensor> tensors = tensors_of(kSizes);
  int64_t count = tensors.back().offset + tensors.back().size();
  float *values = nullptr, *gradients = nullptr, *factors = nullptr;

  Trained(const OptimizerOptions& options, DeviceKind kind) : optimizer(options) {
    if (kind == DeviceKind::cuda) device.open();
    const bool cuda = kind == DeviceKind::cuda;
    place();
    arena.allocate(device);
    if (cuda) staging.allocate(device, true);
    place();
    arena.seal();
    if (cuda) staging.seal();
    arena.enter(device, StepPhase::update);
    optimizer.clear(device);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> first(static_cast<size_t>(count));
    for (float& x : first) x = normal(random);
    upload(device, values, first.data(), first.size() * sizeof(float));
    synchronize(device);
  }
  void place() {
    arena.place(values, "values", {count}, Category::parameters);
    arena.place(gradients, "gradients", {count}, Category::gradients);
    arena.place(factors, "factors", {sizeof(AdamWFactors) / sizeof(float)}, Category::scratch);
    optimizer.place(arena, device.kind == DeviceKind::cuda ? &staging : nullptr, "lora", tensors);
  }
  void set_step(int t) {
    std::mt19937 random(static_cast<unsigned>(t));
    std::normal_distribution<float> normal(0, 0.1f);
    std::vector<float> grad(static_cast<size_t>(count));
    for (float& x : grad) x = normal(random);
    const AdamWFactors f = adamw_factors(t, 1e-2, 0.9, 0.999, 0.1, 0.5);
    upload(device, gradients, grad.data(), grad.size() * sizeof(float));
    upload(device, factors, &f, sizeof(f));
    synchronize(device);
  }
  void enqueue() { optimizer.enqueue(device, values, gradients, DType::f32, reinterpret_cast<const AdamWFactors*>(factors)); }
  // Values and state: all bytes.
  std::vector<std::string> contents() {
    std::vector<std::string> all;
    const auto add = [&](const Device& from, const void* data, size_t bytes) {
      const HostCopy copy(from, static_cast<const char*>(data), static_cast<int64_t>(bytes));
      all.emplace_back(copy.data(), bytes);
    };
    add(device, values, static_cast<size_t>(count) * sizeof(float));
    for (const StateTensor& t : optimizer.tensors()) add(t.offloaded ? Device{} : device, t.data, t.bytes());
    return all;
  }
};

TEST(Optimizer, ItsTensorsAreWhatItPlaced) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamw, OptimizerKind::kAdamw8bit}) {
    Trained t({.kind = kind}, DeviceKind::cpu);
    std::vector<std::pair<std::string, int64_t>> placed, held;
    for (const TensorRecord& r : t.arena.tensors())
      if (r.category == Category::optimizer) placed.emplace_back(r.name, r.bytes);
    for (const StateTensor& s : t.optimizer.tensors()) {
      held.emplace_back("lora." + s.name, s.bytes());
      std::memset(s.data, 7, s.bytes());
    }
    std::sort(placed.begin(), placed.end()), std::sort(held.begin(), held.end());
    EXPECT_EQ(held, placed);
    t.optimizer.clear(t.device);
    for (const StateTensor& s : t.optimizer.tensors())
      for (size_t i = 0; i < s.bytes(); i++) ASSERT_EQ(static_cast<char*>(s.data)[i], 0) << s.name;
  }
}

TEST(Optimizer, TensorsBelow4096ValuesKeepFloats) {
  const Trained t({.kind = OptimizerKind::kAdamw8bit}, DeviceKind::cpu);
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const StateTensor& s : t.optimizer.tensors()) counts.emplace_back(s.name, s.count);
  const int64_t codes = 17 + 16 + 49, floats = 1 + 16;  // blocks
  EXPECT_EQ(counts, (std::vector<std::pair<std::string, int64_t>>{{"m.codes", codes * 256},
                                                                  {"v.codes", codes * 256},
                                                                  {"m.absmax", codes},
                                                                  {"v.absmax", codes},
                                                                  {"small.m", floats * 256},
                                                                  {"small.v", floats * 256}}));
}

TEST(Optimizer, NothingTrainedTakesNoMemory) {
  Arena arena;
  for (const OptimizerKind kind : {OptimizerKind::kAdamw, OptimizerKind::kAdamw8bit}) {
    Optimizer optimizer({.kind = kind});
    optimizer.place(arena, nullptr, "lora", {});
    EXPECT_TRUE(arena.tensors().empty());
  }
}

// Chunks of 2,048 values, so that several pass through each buffer and the last is short.
TEST(Optimizer, OffloadedStateHasTheSameBits) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  for (const OptimizerKind kind : {OptimizerKind::kAdamw, OptimizerKind::kAdamw8bit}) {
    Trained resident({.kind = kind}, DeviceKind::cuda),
        offloaded({.kind = kind, .offload = true, .chunk = 2048}, DeviceKind::cuda);
    const int64_t bytes = offloaded.staging.total();
    EXPECT_GE(bytes, (kind == OptimizerKind::kAdamw ? 8 : 2) * (resident.count - 40 - kFew));
    EXPECT_LT(offloaded.arena.total(), resident.arena.total());
    for (int step = 1; step <= 3; step++)
      for (Trained* t : {&resident, &offloaded}) t->set_step(step), t->enqueue(), synchronize(t->device);
    EXPECT_EQ(resident.contents(), offloaded.contents());
    // As a graph: the copy stream belongs to the capture.
    void* graph = cuda_capture(offloaded.device, [&] { offloaded.enqueue(); });
    for (int step = 4; step <= 5; step++) {
      resident.set_step(step), resident.enqueue(), synchronize(resident.device);
      offloaded.set_step(step), cuda_launch_graph(offloaded.device, graph), synchronize(offloaded.device);
    }
    cuda_close_graph(offloaded.device, graph);
    EXPECT_EQ(resident.contents(), offloaded.contents());
  }
}

TEST(Optimizer, EightBitStateIsTheSameOnCpuAndCuda) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  Trained cpu({.kind = OptimizerKind::kAdamw8bit}, DeviceKind::cpu), cuda({.kind = OptimizerKind::kAdamw8bit}, DeviceKind::cuda);
  for (int step = 1; step <= 3; step++)
    for (Trained* t : {&cpu, &cuda}) t->set_step(step), t->enqueue();
  EXPECT_EQ(cpu.contents(), cuda.contents());
}

}  // namespace
}  // namespace tll
