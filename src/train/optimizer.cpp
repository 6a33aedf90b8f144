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

Optimizer::Part Optimizer::part_of(const std::vector<NamedTensor>& tensors, int rank,
                                   const std::vector<OwnedPiece>& pieces) const {
  Part part;
  if (options_.kind == OptimizerKind::kAdamw) {
    for (const OwnedPiece& p : pieces) {
      part.segments.push_back({rank, p.first, p.own, p.count});
      part.units += p.count;
    }
    return part;
  }
  for (const bool codes : {true, false}) {
    int64_t whole = 0, blocks = 0;  // before the tensor, of all ranks and of this one
    for (const NamedTensor& t : tensors) {
      if ((t.size() >= AdamW8bit::kFewest) != codes) continue;
      for (const OwnedPiece& p : pieces) {
        const int64_t first = std::max(p.first, t.offset), end = std::min(p.first + p.count, t.offset + t.size());
        if (first >= end) continue;
        const int64_t held = p.own + first - p.first;
        part.spans.push_back({splits_values_ ? held : first, split_ ? held : first, end - first, part.units + blocks});
        const int64_t n = AdamW8bit::blocks_of(end - first);
        (codes ? part.segments : part.small_segments)
            .push_back({rank, whole + (first - t.offset) / AdamW8bit::kBlock, blocks, n});
        blocks += n;
      }
      whole += AdamW8bit::blocks_of(t.size());
    }
    (codes ? part.units : part.small_blocks) = blocks;
  }
  return part;
}

void Optimizer::place(Arena& arena, Arena* staging, const std::string& range, const std::vector<NamedTensor>& tensors,
                      const Shards& shards, bool splits_values) {
  if (tensors.empty()) return;
  split_ = shards.ranks().splits(), splits_values_ = splits_values;
  room_ = small_room_ = whole_ = small_whole_ = 0;
  segments_.clear(), small_segments_.clear();
  for (int rank = 0; rank < (split_ ? shards.size() : 1); rank++) {
    std::vector<OwnedPiece> pieces = {{0, tensors.back().offset + tensors.back().size(), 0}};
    if (split_) pieces = shards.pieces_of(rank);
    Part part = part_of(tensors, rank, pieces);
    room_ = std::max(room_, part.units), small_room_ = std::max(small_room_, part.small_blocks);
    whole_ += part.units, small_whole_ += part.small_blocks;
    segments_.insert(segments_.end(), part.segments.begin(), part.segments.end());
    small_segments_.insert(small_segments_.end(), part.small_segments.begin(), part.small_segments.end());
    if (rank != (split_ ? shards.ranks().rank : 0)) continue;
    units_ = part.units, small_blocks_ = part.small_blocks;
    spans_ = std::move(part.spans), pieces_ = std::move(pieces);
  }
  const auto in_order = [](const StateSegment& a, const StateSegment& b) { return a.first < b.first; };
  std::sort(segments_.begin(), segments_.end(), in_order), std::sort(small_segments_.begin(), small_segments_.end(), in_order);
  place_state(arena, staging, range);
}

void Optimizer::place_state(Arena& arena, Arena* staging, const std::string& range) {
  const auto floats = [&](float*& pointer, const std::string& name, const std::vector<int64_t>& shape, Category category) {
    arena.place(pointer, range + "." + name, shape, category);
  };
  arrays_.clear();
  switch (options_.kind) {
    case OptimizerKind::kAdamw:
      chunk_ = options_.chunk;
      arrays_ = {{"m", DType::f32, 1}, {"v", DType::f32, 1}};
      break;
    case OptimizerKind::kAdamw8bit:
      chunk_ = std::max<int64_t>(1, options_.chunk / AdamW8bit::kBlock);
      arrays_ = {{"m.codes", DType::u8, AdamW8bit::kBlock},
                 {"v.codes", DType::u8, AdamW8bit::kBlock},
                 {"m.absmax", DType::f32, 1},
                 {"v.absmax", DType::f32, 1}};
      device_spans_ = static_cast<TrainedSpan*>(arena.place_bytes(
          range + ".spans", {static_cast<int64_t>(spans_.size() * sizeof(TrainedSpan))}, DType::u8, Category::scratch));
      floats(maps_, "maps", {2, kMapValues}, Category::scratch);
      if (small_room_ > 0) {
        floats(small_m_, "small.m", {small_room_, AdamW8bit::kBlock}, Category::optimizer);
        floats(small_v_, "small.v", {small_room_, AdamW8bit::kBlock}, Category::optimizer);
      }
  }
  if (room_ == 0) return arrays_.clear();
  offloaded_ = options_.offload && staging;
  chunk_ = std::min(chunk_, room_);
  for (Array& a : arrays_) {
    const std::string name = range + "." + a.name;
    const auto shape = [&](int64_t units) { return a.width == 1 ? std::vector{units} : std::vector{units, a.width}; };
    a.data = (offloaded_ ? *staging : arena).place_bytes(name, shape(room_), a.dtype, Category::optimizer);
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
      for (const OwnedPiece& piece : pieces_) {
        const int64_t begin = std::max(first, piece.own), end = std::min(first + units, piece.own + piece.count);
        if (begin >= end) continue;
        const int64_t flat = piece.first + begin - piece.own;
        run(device, AdamW{.param = element(v.values, v.dtype, splits_values_ ? begin : flat),
                          .m = static_cast<float*>(state[0]) + (begin - first),
                          .v = static_cast<float*>(state[1]) + (begin - first),
                          .grad = element(const_cast<void*>(v.gradients), v.dtype, split_ ? begin : flat),
                          .dtype = v.dtype,
                          .factors = v.factors,
                          .n = end - begin,
                          .beta1 = options_.beta1,
                          .beta2 = options_.beta2,
                          .eps = options_.eps});
      }
      return;
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
  if (units_ > 0) load(0);
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
  const auto segments = [&](const std::vector<StateSegment>& of, int64_t width) {
    std::vector<StateSegment> elements;
    if (split_)
      for (const StateSegment& s : of) elements.push_back({s.rank, s.first * width, s.held * width, s.count * width});
    return elements;
  };
  for (const Array& a : arrays_)
    all.push_back({a.name, a.dtype, whole_ * a.width, a.data, offloaded_, room_ * a.width, segments(segments_, a.width)});
  if (small_whole_ > 0)
    for (const auto& [name, data] : {std::pair{"small.m", small_m_}, {"small.v", small_v_}})
      all.push_back({name, DType::f32, small_whole_ * AdamW8bit::kBlock, data, false, small_room_ * AdamW8bit::kBlock,
                     segments(small_segments_, AdamW8bit::kBlock)});
  return all;
}

}  // namespace tll
