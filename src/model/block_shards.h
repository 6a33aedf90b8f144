// The frozen weights of the blocks, divided among ranks (the frozen part of ZeRO-3, Rajbhandari et al. 2020).
//
// All weights of a block lie one after another in one range of bytes, of which each rank keeps a part. Before a block is used,
// the ranks bring it together in one of two slots: block l in slot l mod 2. On a GPU that runs on the copy stream, a block ahead:
//
//   copy stream    gather 0   gather 1              gather 2              gather 3
//   kernels                   block 0               block 1               block 2
//
// So a rank holds its part of every block, and two whole blocks.
#pragma once

#include <array>
#include <vector>

#include "src/model/shards.h"
#include "src/model/weight.h"
#include "src/ranks/collectives.h"

namespace tll {

class BlockShards {
 public:
  BlockShards() = default;
  ~BlockShards();
  BlockShards(const BlockShards&) = delete;
  BlockShards& operator=(const BlockShards&) = delete;

  // Places the weights of the blocks that are not trained in the slots, and this rank's parts. Nothing unless `ranks` splits
  // weights.
  void place(Arena& arena, const RankOptions& ranks, int layers, std::vector<Weight>& weights, const QuantizationTables& tables);
  bool used() const { return !parts_.empty(); }
  bool holds(const Weight& weight) const { return used() && !weight.trained && weight.layer >= 0; }
  void clear(const Device& device) const;  // after the second place(): gaps in the slots are read too
  void connect(Collectives* collectives) { collectives_ = collectives; }

  // After a block was loaded into its slot: keeps this rank's part. Enqueued.
  void keep(const Device& device, int layer);
  // A pass begins: what the slots hold is not used again.
  void begin_pass() { in_slot_ = {-1, -1}; }
  // Enqueued: what follows on the device's stream may read the block's weights, and may not read others in its slot. `next` is
  // gathered meanwhile; -1: none. Returns whether the block was gathered since the last call for it.
  bool need(const Device& device, int layer, int next);

 private:
  static size_t slot_of(int layer) { return static_cast<size_t>(layer) % 2; }
  void gather(const Device& device, int layer);
  void start(const Device& device, int layer);

  int rank_ = 0;
  Collectives* collectives_ = nullptr;
  std::array<std::byte*, 2> slots_ = {};
  int64_t slot_bytes_ = 0;
  std::vector<std::byte*> parts_;             // (layers)
  std::vector<std::vector<int64_t>> bounds_;  // (layers, ranks + 1)  bytes
  std::array<int, 2> in_slot_ = {-1, -1};
  std::array<bool, 2> fresh_ = {};  // gathered, and not asked for yet
  // On a GPU: events.
  Device device_;
  void* used_ = nullptr;
  std::array<void*, 2> gathered_ = {};
};

}  // namespace tll
