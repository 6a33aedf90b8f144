#include "src/train/optimizer.h"

#include <algorithm>

#include "kernels/quantized.h"
#include "src/model/device_memory.h"

namespace tll {
namespace {

constexpr int kMapValues = 256;

void* element(void* data, DType dtype, int64_t i) {
  return data ? static_cast<std::byte*>(data) + i * static_cast<int64_t>(dtype_bytes(dtype)) : nullptr;
}

}  // namespace

Optimizer::~Optimizer() {
  for (void* event : {loaded_[0], loaded_[1], updated_})
    if (event) close_event(device_, event);
}

void Optimizer::place(Arena& arena, Arena* staging, const std::string& range, const std::vector<NamedTensor>& tensors) {
  const auto floats = [&](float*& pointer, const std::string& name, const std::vector<int64_t>& shape, Category category) {
    arena.place(pointer, range + "." + name, shape, category);
  };
  if (tensors.empty()) return;
  arrays_.clear(), spans_.clear();
  switch (options_.kind) {
    case OptimizerKind::kAdamw:
      units_ = tensors.back().offset + tensors.back().size();
      chunk_ = options_.chunk;
      arrays_ = {{"m", DType::f32, 1}, {"v", DType::f32, 1}};
      break;
    case OptimizerKind::kAdamw8bit: {
      int64_t blocks = 0;
      for (const bool codes : {true, false}) {
        for (const NamedTensor& t : tensors)
          if ((t.size() >= AdamW8bit::kFewest) == codes) {
            spans_.push_back({t.offset, t.size(), blocks});
            blocks += AdamW8bit::blocks_of(t.size());
          }
        (codes ? units_ : small_blocks_) = codes ? blocks : blocks - units_;
      }
      chunk_ = std::max<int64_t>(1, options_.chunk / AdamW8bit::kBlock);
      arrays_ = {{"m.codes", DType::u8, AdamW8bit::kBlock},
                 {"v.codes", DType::u8, AdamW8bit::kBlock},
                 {"m.absmax", DType::f32, 1},
                 {"v.absmax", DType::f32, 1}};
      device_spans_ = static_cast<TrainedSpan*>(arena.place_bytes(
          range + ".spans", {static_cast<int64_t>(spans_.size() * sizeof(TrainedSpan))}, DType::u8, Category::scratch));
      floats(maps_, "maps", {2, kMapValues}, Category::scratch);
      if (small_blocks_ > 0) {
        floats(small_m_, "small.m", {small_blocks_, AdamW8bit::kBlock}, Category::optimizer);
        floats(small_v_, "small.v", {small_blocks_, AdamW8bit::kBlock}, Category::optimizer);
      }
    }
  }
  if (units_ == 0) return arrays_.clear();
  offloaded_ = options_.offload && staging;
  chunk_ = std::min(chunk_, units_);
  for (Array& a : arrays_) {
    const std::string name = range + "." + a.name;
    const auto shape = [&](int64_t units) { return a.width == 1 ? std::vector{units} : std::vector{units, a.width}; };
    a.data = (offloaded_ ? *staging : arena).place_bytes(name, shape(units_), a.dtype, Category::optimizer);
    if (offloaded_)
      for (size_t i : {0u, 1u})
        a.buffers[i] = arena.place_bytes(fmt::format("{}.chunk.{}", name, i), shape(chunk_), a.dtype, Category::optimizer,
                                         during(StepPhase::update));
  }
}

void Optimizer::clear(const Device& device) const {
  for (const StateTensor& t : tensors())
    t.offloaded ? void(std::memset(t.data, 0, t.bytes())) : set_zero(device, t.data, t.bytes());
  if (spans_.empty()) return;
  std::array<float, 2 * kMapValues> maps;
  dynamic_map(true, maps.data());
  dynamic_map(false, maps.data() + kMapValues);
  upload(device, maps_, maps.data(), sizeof(maps));
  upload(device, device_spans_, spans_.data(), spans_.size() * sizeof(TrainedSpan));
  synchronize(device);
}

void Optimizer::update(const Device& device, const Values& v, int64_t first, int64_t units, const State& state) const {
  switch (options_.kind) {
    case OptimizerKind::kAdamw:
      return run(device, AdamW{.param = element(v.values, v.dtype, first),
                               .m = static_cast<float*>(state[0]),
                               .v = static_cast<float*>(state[1]),
                               .grad = element(const_cast<void*>(v.gradients), v.dtype, first),
                               .dtype = v.dtype,
                               .factors = v.factors,
                               .n = units,
                               .beta1 = options_.beta1,
                               .beta2 = options_.beta2,
                               .eps = options_.eps});
    case OptimizerKind::kAdamw8bit:
      return run(device, AdamW8bit{.param = v.values,
                                   .grad = v.gradients,
                                   .dtype = v.dtype,
                                   .spans = device_spans_,
                                   .span_count = static_cast<int>(spans_.size()),
                                   .maps = maps_,
                                   .factors = v.factors,
                                   .code_blocks = units_,
                                   .first = first,
                                   .blocks = units,
                                   .m_codes = static_cast<uint8_t*>(state[0]),
                                   .v_codes = static_cast<uint8_t*>(state[1]),
                                   .m_absmax = static_cast<float*>(state[2]),
                                   .v_absmax = static_cast<float*>(state[3]),
                                   .m = small_m_,
                                   .v = small_v_,
                                   .beta1 = options_.beta1,
                                   .beta2 = options_.beta2,
                                   .eps = options_.eps,
                                   .guard = options_.guard});
  }
}

void Optimizer::enqueue(const Device& device, void* values, const void* gradients, DType dtype, const AdamWFactors* factors) {
  const Values v{values, gradients, dtype, factors};
  if (offloaded_) return update_offloaded(device, v);
  State state = {};
  for (size_t i = 0; i < arrays_.size(); i++) state[i] = arrays_[i].data;
  if (units_ + small_blocks_ > 0) update(device, v, 0, units_ + small_blocks_, state);
}

void Optimizer::copy_chunk(const Device& copies, int64_t first, int64_t units, size_t buffer, bool store) const {
  for (const Array& a : arrays_) {
    void* host = element(a.data, a.dtype, first * a.width);
    const size_t bytes = static_cast<size_t>(units * a.width) * dtype_bytes(a.dtype);
    store ? download(copies, host, a.buffers[buffer], bytes) : upload(copies, a.buffers[buffer], host, bytes);
  }
}

void Optimizer::update_offloaded(const Device& device, const Values& v) {
  if (!updated_) {
    device_ = device;
    for (void** event : {&loaded_[0], &loaded_[1], &updated_}) *event = open_event(device);
  }
  const Device copies = on_copy_stream(device);
  const auto order = [](const Device& before, const Device& after, void* event) {
    record_event(before, event);
    come_after(after, event);
  };
  const auto units_of = [&](int64_t first) { return std::min(chunk_, units_ - first); };
  const auto load = [&](int64_t first) {
    const size_t buffer = static_cast<size_t>(first / chunk_ % 2);
    copy_chunk(copies, first, units_of(first), buffer, false);
    record_event(copies, loaded_[buffer]);
  };
  order(device, copies, updated_);
  load(0);
  for (int64_t first = 0; first < units_; first += chunk_) {
    const size_t buffer = static_cast<size_t>(first / chunk_ % 2);
    if (first + chunk_ < units_) load(first + chunk_);  // after the store of the chunk that was there
    State state = {};
    for (size_t i = 0; i < arrays_.size(); i++) state[i] = arrays_[i].buffers[buffer];
    come_after(device, loaded_[buffer]);
    update(device, v, first, units_of(first), state);
    order(device, copies, updated_);
    copy_chunk(copies, first, units_of(first), buffer, true);
  }
  if (small_blocks_ > 0) update(device, v, units_, small_blocks_, {});
  order(copies, device, loaded_[0]);
}

std::vector<StateTensor> Optimizer::tensors() const {
  std::vector<StateTensor> all;
  for (const Array& a : arrays_) all.push_back({a.name, a.dtype, units_ * a.width, a.data, offloaded_});
  if (small_blocks_ > 0)
    for (const auto& [name, data] : {std::pair{"small.m", small_m_}, {"small.v", small_v_}})
      all.push_back({name, DType::f32, small_blocks_ * AdamW8bit::kBlock, data, false});
  return all;
}

}  // namespace tll
