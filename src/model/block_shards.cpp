#include "src/model/block_shards.h"

#include <algorithm>

#include "src/model/device_memory.h"

namespace tll {
namespace {

constexpr int64_t kSlotAlignment = 256;  // bytes, of tensors in a slot and of parts

int64_t aligned(int64_t bytes) { return (bytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment; }

}  // namespace

BlockShards::~BlockShards() {
  for (void* event : {used_, gathered_[0], gathered_[1]})
    if (event) close_event(device_, event);
}

void BlockShards::place(Arena& arena, const RankOptions& ranks, int layers, std::vector<Weight>& weights,
                        const QuantizationTables& tables) {
  parts_.clear(), bounds_.clear();
  if (!ranks.splits_weights()) return;
  rank_ = ranks.rank;
  const auto in_slot = [&](int layer, std::byte* slot) {
    int64_t end = 0;
    for (Weight& w : weights)
      if (w.layer == layer && !w.trained)
        w.place(
            [&](const std::string&, const std::vector<int64_t>& shape, DType type) -> void* {
              std::byte* const at = slot ? slot + end : nullptr;
              end += aligned(element_count(shape) * static_cast<int64_t>(dtype_bytes(type)));
              return at;
            },
            tables);
    return end;
  };
  int64_t largest = 0, largest_part = 0;
  for (int l = 0; l < layers; l++) {
    const int64_t bytes = in_slot(l, nullptr);
    largest = std::max(largest, bytes);
    std::vector<int64_t>& bounds = bounds_.emplace_back();
    for (int r = 0; r <= ranks.size; r++) bounds.push_back(std::min(bytes, aligned(bytes * r / ranks.size)));
    for (size_t r = 1; r < bounds.size(); r++) largest_part = std::max(largest_part, bounds[r] - bounds[r - 1]);
  }
  if (largest == 0) return bounds_.clear();  // all are trained
  slot_bytes_ = largest;
  const auto bytes = [&](const std::string& name, int64_t n) {
    return static_cast<std::byte*>(arena.place_bytes(name, {n}, DType::u8, Category::parameters));
  };
  for (const size_t slot : {0u, 1u}) slots_[slot] = bytes(fmt::format("block.{}", slot), largest);
  for (int l = 0; l < layers; l++) parts_.push_back(bytes(fmt::format("layers.{}.part", l), largest_part));
  if (arena.placing())
    for (int l = 0; l < layers; l++) in_slot(l, slots_[slot_of(l)]);
}

void BlockShards::clear(const Device& device) const {
  for (std::byte* slot : slots_)
    if (used()) set_zero(device, slot, static_cast<size_t>(slot_bytes_));
}

void BlockShards::keep(const Device& device, int layer) {
  if (!used()) return;
  const std::vector<int64_t>& bounds = bounds_[static_cast<size_t>(layer)];
  const int64_t first = bounds[static_cast<size_t>(rank_)], end = bounds[static_cast<size_t>(rank_) + 1];
  copy_within(device, parts_[static_cast<size_t>(layer)], slots_[slot_of(layer)] + first, static_cast<size_t>(end - first));
}

void BlockShards::gather(const Device& device, int layer) {
  const std::vector<int64_t>& bounds = bounds_[static_cast<size_t>(layer)];
  std::byte* const slot = slots_[slot_of(layer)];
  const int64_t first = bounds[static_cast<size_t>(rank_)], end = bounds[static_cast<size_t>(rank_) + 1];
  copy_within(device, slot + first, parts_[static_cast<size_t>(layer)], static_cast<size_t>(end - first));
  if (device.dry) return pass_link_time(device, kWeightTraffic, static_cast<double>(bounds.back() - (end - first)));
  collectives_->all_gather(device, slot, bounds);
}

// Everything that was enqueued on the device's stream until now is done with the slot.
void BlockShards::start(const Device& device, int layer) {
  const size_t slot = slot_of(layer);
  in_slot_[slot] = layer, fresh_[slot] = true;
  if (on_host(device)) return gather(device, layer);
  if (!used_) {
    device_ = device;
    for (void** event : {&used_, &gathered_[0], &gathered_[1]}) *event = open_event(device);
  }
  const Device copies = on_copy_stream(device);
  record_event(device, used_);
  come_after(copies, used_);
  gather(copies, layer);
  record_event(copies, gathered_[slot]);
}

bool BlockShards::need(const Device& device, int layer, int next) {
  if (!used()) return false;
  const size_t slot = slot_of(layer);
  if (in_slot_[slot] != layer) start(device, layer);
  const bool fresh = fresh_[slot];
  fresh_[slot] = false;
  if (fresh && !on_host(device)) come_after(device, gathered_[slot]);
  if (next >= 0 && in_slot_[slot_of(next)] != next) start(device, next);
  return fresh;
}

}  // namespace tll
