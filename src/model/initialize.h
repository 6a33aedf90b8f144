// Initial values in the device's memory: base weights from files or random, an adapter from a file or as LoRA initialises it.
#pragma once

#include "src/files/adapter.h"
#include "src/files/model_files.h"
#include "src/model/block_shards.h"
#include "src/model/trained.h"
#include "src/model/weight.h"

namespace tll {

// Loads each tensor of the checkpoint into its place, converted to the type that is stored there. `shards`: of the blocks'
// weights each rank loads all, and keeps its part.
void load_weights(const Device& device, WeightStream& stream, const ModelFiles& files, const std::vector<Weight>& weights,
                  BlockShards* shards = nullptr);

// XXH3-64 over the first 4 KiB of each tensor as it lies in memory, of a quantised one of its codes and of its scales: tells one
// set of weights from another of the same shapes. Of the weights that are trained, or of those that are not.
// Where they are divided among ranks, all ranks call this together.
uint64_t weights_fingerprint(const Device& device, const std::vector<Weight>& weights, bool trained, BlockShards& shards);

// Norms 1, biases 0, matrices N(0, 0.02²), as transformers initialises a Llama (initializer_range 0.02). The numbers depend on
// the seed and the tensor's name alone.
void initialize_weights(const Device& device, WeightStream& stream, const std::vector<Weight>& weights, uint64_t seed,
                        BlockShards* shards = nullptr);

// A ~ U(-1/√in, 1/√in), B = 0: Kaiming uniform with a = √5, as PEFT initialises a LoRA adapter.
// values: the flat range of the tensors, in `dtype`.
void initialize_adapter(const Device& device, const std::vector<NamedTensor>& tensors, void* values, DType dtype, uint64_t seed);

// Copies A and B of every adapted module from the adapter's file to `values`, and the tensors of the base model that are there
// and are trained.
void load_adapter(const Device& device, const Adapter& adapter, const std::vector<NamedTensor>& tensors, void* values,
                  DType dtype);

}  // namespace tll
