// One allocation for all tensors. The list of tensors is written once, as code that calls place(). This code runs twice. The
// first walk measures: it records each tensor, which gives the plan. The second walk, after allocate(), sets the pointers. It
// must repeat the first exactly, which is checked tensor by tensor, so the plan and the arena cannot disagree.
//
// A tensor is placed with its life: the phases of a run in which it holds something. Tensors whose lives do not meet may share
// bytes. All offsets are solved once, before anything is allocated: a tensor that outlives another lies below it. No offset can
// be better where lives nest or are apart, as they are here: then the total is the most bytes that live in one phase.
//
//   load ▏ evaluation ▏ step ▏ forward ▏ head ▏ backward ▏ update ▏ checkpoint
//   [weights, optimizer …                                                       ]
//                      [gradients                                ]
//                              [residual stream              ]
//                              [a block] [logits] [a block   ]
//
// Categories label tensors for the sums of the plan.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda_device.h"
#include "src/base/json.h"

namespace tll {

enum class Category : uint8_t { parameters, gradients, optimizer, activations, scratch };
inline constexpr int kCategories = 5;
const char* category_name(Category);

// The phases of a run, in the order in which lives are counted. A step runs `batch` to `backward_qkv` once a micro-batch,
// and in them the phases of a block once a block. Evaluation and generation come between steps; each begins with `evaluation`,
// and a pass of it runs the next three. `mlp` is a block's second half, `head` the last norm, the logits and the loss, with the
// gradient of the head's input.
enum class StepPhase : uint8_t {
  load,
  evaluation,
  eval_attention,
  eval_mlp,
  eval_head,
  step,
  batch,
  forward_attention,
  forward_mlp,
  head,
  recompute_attention,
  backward_mlp,
  backward_attention,
  backward_qkv,
  update,
  checkpoint
};
inline constexpr int kStepPhases = 16;
const char* phase_name(StepPhase);

struct Life {
  StepPhase first = StepPhase::load, last = StepPhase::checkpoint;
  constexpr bool holds(StepPhase p) const { return first <= p && p <= last; }
  constexpr bool meets(const Life& other) const { return first <= other.last && other.first <= last; }
  bool operator==(const Life&) const = default;
};
inline constexpr Life kAlways{};
inline constexpr Life during(StepPhase phase) { return {phase, phase}; }

struct TensorRecord {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype;
  Category category;
  int64_t bytes, offset;
  Life life;
};

// Of a gap that keeps tensors at multiples of 64 bytes.
bool is_alignment(const TensorRecord& tensor);

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // First walk: records the tensor, the pointer is null. Second walk: sets the pointer.
  template <class T>
  void place(T*& pointer, const std::string& name, const std::vector<int64_t>& shape, Category category, Life life = kAlways) {
    pointer = static_cast<T*>(place_bytes(name, shape, dtype_of<T>, category, life));
  }
  // The same where the type is known at run time only. Error (kExitDoesNotFit) above 2^56 bytes.
  void* place_bytes(const std::string& name, const std::vector<int64_t>& shape, DType dtype, Category category,
                    Life life = kAlways);

  // Between the walks: allocates what the first one measured, on the device. `pinned`: in pinned memory of the host, for
  // asynchronous copies to and from a CUDA device. Error (kExitFault) if the allocation fails.
  void allocate(const Device& device = {}, bool pinned = false);
  // The same with addresses that have no memory behind them, for a dry run: nothing may touch them.
  void reserve();
  // After the second walk: checks that it placed what the first one measured.
  void seal();

  // A run enters a phase: tensors whose life has ended must not be used from here on, and those whose life begins hold nothing
  // yet. Only tests notice: the emulator checks every access, and with `poison` a CPU's tensors begin as NaN. Enqueued. To enter
  // an earlier phase closes a loop: lives within the loop begin again.
  void enter(const Device& device, StepPhase phase);
  // The run is in this phase, which work that was enqueued elsewhere (a CUDA graph) has entered.
  void passed(StepPhase phase) { phase_ = phase; }
  bool poison = false;

  int64_t total() const { return layout().total; }
  bool placing() const { return base_ != nullptr; }
  void* memory() const { return base_; }
  // Bytes of the allocation that are in physical memory: on a CPU pages that were touched, else all.
  int64_t resident() const;
  // In the order of the place() calls. Gaps that keep tensors at multiples of 64 bytes are tensors too.
  const std::vector<TensorRecord>& tensors() const;
  // The bytes that live in a phase; the phase in which they are most, and their categories then. What total() is above that
  // (fragmentation) counts as scratch.
  int64_t bytes_in(StepPhase phase) const { return layout().live[static_cast<size_t>(phase)]; }
  StepPhase peak() const { return layout().peak; }
  std::array<int64_t, kCategories> bytes_by_category() const;
  // {"bytes": {"parameters", …, "total"}, "peak_phase", "phase_names", "tensors": [...]}: the output of `plan --json` without
  // "fits".
  Json json() const;

 private:
  struct Layout {
    int64_t total = 0;
    std::array<int64_t, kStepPhases> live{};
    StepPhase peak = StepPhase::load;
  };
  const Layout& layout() const;
  void solve() const;
  void repeat(const std::string& name, const std::vector<int64_t>& shape, int64_t bytes, Life life);

  Device device_;
  bool pinned_ = false;
  std::byte* base_ = nullptr;
  size_t next_ = 0;  // the record that the second walk must repeat next
  StepPhase phase_ = StepPhase::load;
  // Offsets and the layout are solved when they are first asked for.
  mutable bool solved_ = false;
  mutable Layout layout_;
  mutable std::vector<TensorRecord> tensors_;
};

}  // namespace tll
