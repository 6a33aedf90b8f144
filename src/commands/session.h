// What every command that runs a model holds: the device, the arena, the model and what works on it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/commands/from_options.h"
#include "src/commands/source.h"
#include "src/model/device_memory.h"
#include "src/model/generator.h"
#include "src/model/initialize.h"
#include "src/model/llama.h"
#include "src/model/weight_stream.h"
#include "src/options/options.h"
#include "src/report/profile.h"
#include "src/train/trainer.h"

namespace tll {

// Of a GPU's free memory a plan leaves so much: for kernels of cuBLASLt, which are loaded when they are first used, for the
// graphs of steps (StepGraphs::kMostBytes at most), and for what other programs take meanwhile.
inline constexpr int64_t kSetAside = 256 << 20;

// What --memory says, or else what the machine has available, a share of it for each rank; or the GPU if the run is on one that
// is here, but for kSetAside.
int64_t memory_limit(const Options& options);

// What does not depend on the type of activations.
struct SessionBase {
  explicit SessionBase(const Options& o) : options(o) {}

  // memory_limit(), as it was before this session took memory.
  int64_t limit() const { return limit_at_start >= 0 ? limit_at_start : memory_limit(options); }
  bool fits() const { return arena.total() <= limit(); }
  std::string memory_owner() const;  // whose limit that is, for people
  void connect_gpus();               // by NCCL, once the device is open
  Json plan_json() const;            // {"bytes", "fits", "limit", "host_bytes", "tensors", …}

  const Options& options;
  OpenDevice device;
  Collectives* collectives = nullptr;            // set before start(), which replaces it by that of GPUs: with other ranks
  std::unique_ptr<Collectives> gpu_collectives;  // closed after all that uses it, and before the device
  Arena arena;                                   // on the device
  Arena staging;                // of the host beside a CUDA device, pinned: batches, weights on their way; empty on the CPU
  CudaProperties gpu;           // with a CUDA device, once it was opened
  Profile profile;              // filled with --profile
  Ceilings ceilings;            // measured at start: of matmuls for training or --profile, of copying for --profile
  int64_t limit_at_start = -1;  // bytes; -1: not started
  int64_t resident_before = 0;  // bytes of the process, before the arena was allocated
  int64_t gpu_free_before = 0;  // bytes of a CUDA device, before the arena was allocated
};

template <class Float>
class Session : public SessionBase {
  const NeedsOf needs_of_;
  const SessionNeeds needs_;

 public:
  // Where the options do not fit, `needs_of` is asked about others.
  Session(const Options& options, const LlamaConfig& config, std::vector<LoraTarget> lora, NeedsOf needs_of);

  // The constructor plans the memory; this allocates it, and loads the weights and the adapter. Error (kExitDoesNotFit) if the
  // plan is larger than what --memory, or the machine, has.
  void start(const ModelSource& source, const AdapterSource& adapter);
  // The base model's weights, where each belongs, also on several ranks.
  void load_weights(const ModelFiles& files);
  void require_fit() const;  // that error, which says what would fit
  // What a training step on full rows takes on its device (on a GPU kernels/gpu_time.h, else nominal_speed), by a walk through
  // the code of a step that computes nothing. Its ops are added to `ops`. The session cannot be started afterwards.
  double step_seconds(std::vector<OpTime>* ops = nullptr);

  Llama<Float> model;
  Optimizer optimizer;
  Trainer<Float> trainer;
  std::optional<Generator<Float>> generator;
  WeightStream weight_stream;

 private:
  void place();
  WeightPlaces weight_places();
  void note_quantization(const ModelSource& source) const;
  void load_base(const ModelSource& source, const AdapterSource& adapter);
};

}  // namespace tll
