// The options, in the terms of the other rooms.
#pragma once

#include <functional>

#include "data/loader.h"
#include "src/commands/source.h"
#include "src/model/llama.h"
#include "src/options/options.h"
#include "src/train/trainer.h"

namespace tll {

// What the arena must hold beside the model.
struct SessionNeeds {
  bool training = false;   // gradients and optimizer
  bool gradients = false;  // gradients without optimizer: dump
  int sequences = 0;       // generated at once; 0: none
  int64_t tokens = 0;      // N: rows of the largest batch
  int64_t positions = 0;   // of the longest document or generated text
};
// What a command needs with these options.
using NeedsOf = std::function<SessionNeeds(const Options&)>;
// Those of `train`, and so of `plan`.
SessionNeeds training_needs(const Options& options);

// Weights that come quantised are held so, unless others were asked for: from then on --weights and --double-quant say how (fp4,
// which is no value of --weights, as nf4).
void take_quantization(Options& options, const LlamaConfig& config);
// On the CPU with activations in fp32, frozen weights that lie in 16 bits in the files are held so, unless others were asked for: a
// product widens them to the same values, and they take half the memory. `directory`: of the weights; without any, config.json says
// in what type they lie.
void take_16_bits(Options& options, const LlamaConfig& config, const std::filesystem::path& directory);

inline constexpr int64_t kMostTokens = (int64_t{1} << 31) - 2;  // of a batch: its offsets are 32-bit

// Error (kExitUsage) if a batch would have more tokens than its 32-bit offsets can hold.
ModelOptions model_options(const Options& options, const LlamaConfig& config, std::vector<LoraTarget> lora,
                           const SessionNeeds& needs);
PrepareOptions prepare_options(const Options& options, const ModelSource& source);
// Validation documents come in the order of the file, one batch a step.
LoaderOptions loader_options(const Options& options, Split split);
OptimizerOptions optimizer_options(const Options& options);
TrainerOptions trainer_options(const Options& options);  // the schedule follows when the number of steps is known
Schedule schedule(const Options& options, int64_t total_steps);

}  // namespace tll
