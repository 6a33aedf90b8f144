// What every command that runs a model shares: where the model comes from, how it is held, its arena.
#pragma once

#include <memory>
#include <optional>

#include "src/files/adapter.h"
#include "src/model/device_memory.h"
#include "src/model/generator.h"
#include "src/model/llama.h"
#include "src/model/weight_stream.h"
#include "src/options/options.h"
#include "src/train/trainer.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// The model that the options name; the demo model if they name none.
struct ModelSource {
  std::filesystem::path directory;  // empty: there is only a config.json
  std::filesystem::path config_file;
  bool random = false;  // random weights: nothing is loaded
  LlamaConfig config;
  std::unique_ptr<Tokenizer> tokenizer;  // null: the directory has none, or it is not needed
  std::vector<int32_t> eos;              // ids that end a generated text
};
enum class TokenizerNeed { none, wanted, required };  // wanted: data may come as token ids, then a directory without one will do
ModelSource open_model(const Options& options, TokenizerNeed need);
std::filesystem::path demo_directory();

// The demo model's own defaults, for options that the user did not give.
void apply_demo_defaults(Options& options);

// Writes the outcome of every `auto` into the options: dtype, weights, threads, device. One line to standard error if what was
// asked for is not to be had (CUDA).
void resolve_options(Options& options);

// The adapter that the options name (--adapter, --init-adapter) or describe (--rank, --targets, …).
struct AdapterSource {
  std::optional<Adapter> loaded;
  std::vector<LoraTarget> targets;
};
AdapterSource open_adapter(const Options& options, const LlamaConfig& config, const std::filesystem::path& directory);

// How the data is read.
PrepareOptions prepare_options(const Options& options, const LlamaConfig& config);

// What the arena must hold beside the model.
struct SessionNeeds {
  bool training = false;   // gradients and optimizer
  bool gradients = false;  // gradients without optimizer: dump
  int sequences = 0;       // generated at once; 0: none
  int64_t tokens = 0;      // N: rows of the largest batch
  int64_t positions = 0;   // of the longest document or generated text
};

// Of `train` (and so of `plan`) and of commands that only look.
SessionNeeds training_needs(const Options& options);

template <class Float>
class Session {
 public:
  Session(const Options& options, const LlamaConfig& config, std::vector<LoraTarget> lora, const SessionNeeds& needs);

  // Measures at construction; allocates, loads weights and adapters here. Error (kExitDoesNotFit) if the plan is larger than
  // what --memory, or the machine, has.
  void start(const ModelSource& source, const AdapterSource& adapter);
  bool fits() const { return arena.total() <= memory_limit(); }
  void require_fit() const;  // Error (kExitDoesNotFit) that says what to do
  int64_t memory_limit() const;
  std::string memory_owner() const;  // whose limit that is, for people
  Json plan_json() const;            // {"bytes", "fits", "tensors"}

  const Options& options;
  OpenDevice device;
  Arena arena;         // on the device
  Arena staging;       // of the host beside a CUDA device, pinned: batches, weights on their way; empty on the CPU
  CudaProperties gpu;  // with a CUDA device, once it was opened
  Llama<Float> model;
  Trainer<Float> trainer;
  std::optional<Generator<Float>> generator;
  WeightStream weight_stream;
  int64_t resident_before = 0;  // of the process, before the arena was allocated
  Profile profile;              // filled with --profile
  double peak_flops = 0;        // of the product of this type, measured at start; 0: not measured
  double peak_bytes = 0;        // a second, of copying; with --profile
  int64_t gpu_free_before = 0;  // bytes, before the arena was allocated

 private:
  // A plan for a GPU needs none.
  bool has_gpu() const { return device.kind == DeviceKind::cuda && cuda_device_count() > 0; }
  void place();
  SessionNeeds needs_;
};

// f(float{}), f(bf16{}) or f(half{}): the type that --dtype names.
template <class F>
auto with_type(const Options& options, const F& f) {
  if (options.dtype == DtypeOption::kBf16) return f(bf16{});
  if (options.dtype == DtypeOption::kFp16) return f(half{});
  return f(float{});
}

TrainerOptions trainer_options(const Options& options, int64_t total_steps);

}  // namespace tll
