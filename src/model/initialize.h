// Initial values in the device's memory: base weights from files or random, an adapter from a file or as LoRA initialises it.
#pragma once

#include "src/files/adapter.h"
#include "src/files/model_files.h"
#include "src/model/block_shards.h"
#include "src/model/trained.h"
#include "src/model/weight.h"

namespace tll {

// Where weights go that are divided among ranks. Each rank loads all of them, and keeps its own.
struct WeightPlaces {
  BlockShards* shards = nullptr;  // of the blocks' frozen weights
  // Of trained ones whose values are split: split_loader(). None: they are whole.
  std::function<void(const WeightPart& part, const TensorSource& source)> split = {};
};
template <class Float>
std::function<void(const WeightPart&, const TensorSource&)> split_loader(const Device& device, WeightStream& stream,
                                                                         const TrainedRange<Float>& trained);

// Loads each tensor of the checkpoint into its place, converted to the type that is stored there.
void load_weights(const Device& device, WeightStream& stream, const ModelFiles& files, const std::vector<Weight>& weights,
                  const WeightPlaces& places = {});

// Values, or gradients of a step, first … first+n-1 of the flat range. Where they are split among ranks, all ranks call this
// together, and `out` is null on those that do not want them.
template <class Float>
void read_values(const Device& device, const TrainedRange<Float>& trained, Collectives* collectives, int64_t first, int64_t n,
                 float* out);
template <class Float>
void read_gradients(const Device& device, const TrainedRange<Float>& trained, Collectives* collectives, int64_t first, int64_t n,
                    float* out);

// XXH3-64 over the first 4 KiB of each tensor as it lies in memory, of a quantised one of its codes and of its scales: tells one
// set of weights from another of the same shapes. Of the frozen weights; and of the trained values of a whole model. Where they
// are divided among ranks, all ranks call this together.
uint64_t weights_fingerprint(const Device& device, const std::vector<Weight>& weights, BlockShards& shards);
template <class Float>
uint64_t values_fingerprint(const Device& device, const TrainedRange<Float>& trained, Collectives* collectives);

// Norms 1, biases 0, matrices N(0, 0.02²), as transformers initialises a Llama (initializer_range 0.02). The numbers depend on
// the seed and the tensor's name alone.
void initialize_weights(const Device& device, WeightStream& stream, const std::vector<Weight>& weights, uint64_t seed,
                        const WeightPlaces& places = {});

// A ~ U(-1/√in, 1/√in), B = 0: Kaiming uniform with a = √5, as PEFT initialises a LoRA adapter.
// values: the flat range of the tensors, in `dtype`.
void initialize_adapter(const Device& device, const std::vector<NamedTensor>& tensors, void* values, DType dtype, uint64_t seed);

// Copies A and B of every adapted module from the adapter's file to `values`, and the tensors of the base model that are there
// and are trained.
void load_adapter(const Device& device, const Adapter& adapter, const std::vector<NamedTensor>& tensors, void* values,
                  DType dtype);

}  // namespace tll
