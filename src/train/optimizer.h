// The optimizer: its state beside the trained values, the update, and what a checkpoint holds of it.
//
// The state is a few arrays over units: single values of AdamW, blocks of 256 of AdamW8bit. Offloaded, the arrays lie in pinned
// memory of the host, and pass through two sets of small buffers on the device: while a kernel updates one chunk of units, the
// copy stream stores the chunk before and loads the one after. The bits are the same, since no unit sees another.
//
//   copy stream   load 0   load 1          store 0   load 2          store 1   load 3
//   kernels                update 0                  update 1                  update 2
//
// AdamW8bit's tensors below 4,096 values are kept in float, and stay on the device.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "kernels/adamw8bit.h"
#include "kernels/update.h"
#include "src/model/arena.h"
#include "src/model/trained.h"
#include "src/train/optimizer_options.h"

namespace tll {

// Elements of a state that is split among ranks: `count` from `first` on of the whole are those from `held` on of the rank's own.
struct StateSegment {
  int rank;
  int64_t first, held, count;
};

// A part of the optimizer's state.
struct StateTensor {
  std::string name;  // in optimizer.safetensors
  DType dtype;
  int64_t count;  // of the whole run
  void* data;
  bool offloaded = false;                   // data is memory of the host, not of the device
  int64_t held = count;                     // elements here
  std::vector<StateSegment> segments = {};  // in the order of the whole; empty: all of it is here
  size_t bytes() const { return static_cast<size_t>(held) * dtype_bytes(dtype); }
};

class Optimizer {
 public:
  explicit Optimizer(const OptimizerOptions& options) : options_(options) {}
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // State for the values of the tensors, which lie one after another. Its tensors are named after the values' range: "lora.m".
  // `staging`: pinned memory of the host beside a CUDA device; null on the CPU, where there is nothing to offload to. Where
  // states are split among ranks, those of this rank's pieces, and enqueue() is given their gradients alone.
  void place(Arena& arena, Arena* staging, const std::string& range, const std::vector<NamedTensor>& tensors,
             const Shards& shards = {}, bool splits_values = false);
  // Sets the state to zero, as at the start of a run.
  void clear(const Device& device) const;
  // Enqueued: updates the values by their gradients, both of type `dtype`, with the factors that UpdateDecision wrote.
  void enqueue(const Device& device, void* values, const void* gradients, DType dtype, const AdamWFactors* factors);

  const OptimizerOptions& options() const { return options_; }
  // What a checkpoint must hold, in the order of the trained values.
  std::vector<StateTensor> tensors() const;

 private:
  struct Array {
    std::string name;
    DType dtype;
    int64_t width;                      // elements of a unit
    void* data = nullptr;               // (units, width)
    std::array<void*, 2> buffers = {};  // (chunk, width)  where the state is offloaded
  };
  // What a rank updates: units of its own, and small blocks (AdamW8bit).
  struct Part {
    int64_t units = 0, small_blocks = 0;
    std::vector<TrainedSpan> spans;                      // of AdamW8bit
    std::vector<StateSegment> segments, small_segments;  // in units and in blocks
  };
  Part part_of(const std::vector<NamedTensor>& tensors, int rank, const std::vector<OwnedPiece>& pieces) const;
  void place_state(Arena& arena, Arena* staging, const std::string& range);
  using State = std::array<void*, 4>;  // each array from a chunk's first unit on
  struct Values {
    void* values;
    const void* gradients;
    DType dtype;
    const AdamWFactors* factors;
  };

  void update(const Device&, const Values&, int64_t first, int64_t units, const State&) const;
  void update_offloaded(const Device&, const Values&);
  void copy_chunk(const Device& copies, int64_t first, int64_t units, size_t buffer, bool store) const;

  OptimizerOptions options_;
  bool offloaded_ = false, split_ = false, splits_values_ = false;
  std::vector<OwnedPiece> pieces_;       // of the flat range
  int64_t units_ = 0, chunk_ = 0;        // here
  int64_t room_ = 0, small_room_ = 0;    // of units and small blocks: the most of any rank
  int64_t whole_ = 0, small_whole_ = 0;  // of the run
  std::vector<StateSegment> segments_, small_segments_;
  std::vector<Array> arrays_;
  // AdamW8bit: the table of its tensors, and the state of the small ones.
  std::vector<TrainedSpan> spans_;
  int64_t small_blocks_ = 0;
  TrainedSpan* device_spans_ = nullptr;
  float *maps_ = nullptr, *small_m_ = nullptr, *small_v_ = nullptr;
  // Offloaded: events.
  Device device_;
  std::array<void*, 2> loaded_ = {};
  void* updated_ = nullptr;
};

}  // namespace tll
