#include "src/model/initialize.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/elementwise.h"
#include "src/base/check.h"
#include "src/base/parallel.h"
#include "src/base/phase.h"

namespace tll {
namespace {

constexpr int64_t kFingerprintBytes = 4096;  // of each tensor

// Uniform in [0, 1), a function of (key, i).
double uniform(uint64_t key, uint64_t i) { return static_cast<double>(mix64(key + i * 0x9e3779b97f4a7c15ull) >> 11) * 0x1p-53; }
uint64_t key_of(const std::string& name, uint64_t seed) { return mix64(XXH3_64bits(name.data(), name.size()) ^ mix64(seed + 1)); }

// Box-Muller (1958): two uniform numbers make one normal one.
double normal(uint64_t key, uint64_t i) {
  const double u = 1 - uniform(key, 2 * i), v = uniform(key, 2 * i + 1);
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
}

int64_t stored_bytes(const Weight& weight, const WeightPart& part) {
  int64_t bytes = 0;
  for (const StoredBytes& range : weight.stored_bytes(part)) bytes += range.size();
  return bytes;
}

// Loads each part from source_of(weight, part), as a phase with bytes as its units.
template <class Load>
void load_parts(const char* activity, const Device& device, WeightStream& stream, const std::vector<Weight>& weights,
                const WeightPlaces& places, const Load& source_of) {
  int64_t total = 0;
  for (const Weight& weight : weights)
    for (const WeightPart& part : weight.parts) total += stored_bytes(weight, part);
  Phase phase(activity, total);
  for (size_t i = 0; i < weights.size(); i++) {
    const Weight& weight = weights[i];
    for (const WeightPart& part : weight.parts) {
      const TensorSource source = source_of(weight, part);
      if (weight.trained && places.split)
        places.split(part, source);
      else
        weight.load(device, stream, part, source);
      phase.advance(stored_bytes(weight, part));
    }
    BlockShards* const shards = places.shards;
    const bool last_of_block = weight.layer >= 0 && (i + 1 == weights.size() || weights[i + 1].layer != weight.layer);
    if (!shards || !shards->used() || !last_of_block) continue;
    stream.finish(device);
    shards->keep(device, weight.layer);
  }
  stream.finish(device);
}

}  // namespace

void load_weights(const Device& device, WeightStream& stream, const ModelFiles& files, const std::vector<Weight>& weights,
                  const WeightPlaces& places) {
  load_parts("reading weights", device, stream, weights, places, [&](const Weight&, const WeightPart& part) {
    return TensorSource{.dtype = files.dtype(part.name),
                        .read = [&](void* to, DType as, int64_t first, int64_t n) { files.load(part.name, to, as, first, n); },
                        .quantized = files.quantized(part.name)};
  });
}

template <class Float>
std::function<void(const WeightPart&, const TensorSource&)> split_loader(const Device& device, WeightStream& stream,
                                                                         const TrainedRange<Float>& trained) {
  return [&](const WeightPart& part, const TensorSource& source) {
    const int64_t begin = find_tensor(trained.tensors, part.name).offset;
    stream.send_through(
        device, part.count(), sizeof(float),
        [&](void* piece, int64_t first, int64_t n) { source.read(piece, DType::f32, first, n); },
        [&](const void* piece, int64_t first, int64_t n) {
          if constexpr (!std::is_same_v<Float, acc_t<Float>>)
            run(device,
                CastFromMaster<Float>{
                    .out = static_cast<Float*>(trained.compute) + begin + first, .in = static_cast<const float*>(piece), .n = n});
          const int64_t flat = begin + first;
          for (const OwnedPiece& own : trained.shards.own()) {
            const int64_t from = std::max(own.first, flat), end = std::min(own.first + own.count, flat + n);
            if (from < end)
              copy_within(device, static_cast<float*>(trained.values) + own.own + (from - own.first),
                          static_cast<const float*>(piece) + (from - flat), static_cast<size_t>(end - from) * sizeof(float));
          }
        });
  };
}

namespace {

// Of an array that has the whole flat range, or with `split` each rank's own pieces.
void read_flat(const Device& device, const Shards& shards, bool split, const void* data, DType dtype, Collectives* collectives,
               int64_t first, int64_t n, float* out) {
  const int64_t width = static_cast<int64_t>(dtype_bytes(dtype));
  const auto held = [&](int64_t at, int64_t count) {
    return HostFloats(device, static_cast<const std::byte*>(data) + at * width, dtype, count);
  };
  if (!split) {
    if (out) std::copy_n(held(first, n).data(), n, out);
    return;
  }
  constexpr int64_t kPiece = 4 << 20;
  std::vector<float> piece;
  for (int rank = 0; rank < collectives->size(); rank++)
    for (const OwnedPiece& own : shards.pieces_of(rank)) {
      const int64_t end = std::min(own.first + own.count, first + n);
      for (int64_t at = std::max(own.first, first), count = 0; at < end; at += count) {
        count = std::min(kPiece, end - at);
        piece.resize(static_cast<size_t>(count));
        if (rank == collectives->rank()) std::copy_n(held(own.own + at - own.first, count).data(), count, piece.data());
        collectives->broadcast_host(piece.data(), count * static_cast<int64_t>(sizeof(float)), rank);
        if (out) std::copy_n(piece.data(), count, out + (at - first));
      }
    }
}

}  // namespace

template <class Float>
void read_values(const Device& device, const TrainedRange<Float>& trained, Collectives* collectives, int64_t first, int64_t n,
                 float* out) {
  read_flat(device, trained.shards, trained.splits_values, trained.values, trained.dtype, collectives, first, n, out);
}

template <class Float>
void read_gradients(const Device& device, const TrainedRange<Float>& trained, Collectives* collectives, int64_t first, int64_t n,
                    float* out) {
  read_flat(device, trained.shards, trained.shards.ranks().splits(), trained.gradients, trained.dtype, collectives, first, n,
            out);
}

uint64_t weights_fingerprint(const Device& device, const std::vector<Weight>& weights, BlockShards& shards) {
  uint64_t hash = 0;
  shards.begin_pass();
  for (const Weight& weight : weights) {
    if (weight.trained) continue;
    if (shards.holds(weight)) shards.need(device, weight.layer, -1);
    for (const WeightPart& part : weight.parts)
      for (const StoredBytes& range : weight.stored_bytes(part)) {
        const std::vector<std::byte> beginning = range.read(weight.on_host ? Device{} : device, kFingerprintBytes);
        hash = XXH3_64bits_withSeed(beginning.data(), beginning.size(), hash);
      }
  }
  return hash;
}

template <class Float>
uint64_t values_fingerprint(const Device& device, const TrainedRange<Float>& trained, Collectives* collectives) {
  uint64_t hash = 0;
  for (const NamedTensor& t : trained.tensors) {
    std::vector<float> beginning(static_cast<size_t>(std::min<int64_t>(t.size(), kFingerprintBytes / sizeof(float))));
    read_values(device, trained, collectives, t.offset, static_cast<int64_t>(beginning.size()), beginning.data());
    hash = XXH3_64bits_withSeed(beginning.data(), beginning.size() * sizeof(float), hash);
  }
  return hash;
}

#define TLL_INITIALIZE(Float)                                                                                      \
  template std::function<void(const WeightPart&, const TensorSource&)> split_loader(const Device&, WeightStream&,  \
                                                                                    const TrainedRange<Float>&);   \
  template void read_values(const Device&, const TrainedRange<Float>&, Collectives*, int64_t, int64_t, float*);    \
  template void read_gradients(const Device&, const TrainedRange<Float>&, Collectives*, int64_t, int64_t, float*); \
  template uint64_t values_fingerprint(const Device&, const TrainedRange<Float>&, Collectives*);
TLL_INITIALIZE(float)
TLL_INITIALIZE(bf16)
TLL_INITIALIZE(half)
#undef TLL_INITIALIZE

namespace {
void* element(void* values, DType dtype, int64_t i) {
  return static_cast<std::byte*>(values) + i * static_cast<int64_t>(dtype_bytes(dtype));
}
}  // namespace

void load_adapter(const Device& device, const Adapter& adapter, const std::vector<NamedTensor>& tensors, void* values,
                  DType dtype) {
  for (const AdapterModule& m : adapter.modules) {
    for (const bool is_b : {false, true}) {
      const std::string name = peft_name(m.module, is_b);
      const std::vector<float>& from = is_b ? m.b : m.a;
      const NamedTensor& t = find_tensor(tensors, name);
      TLL_CHECK(t.size() == static_cast<int64_t>(from.size()), "{} of {} values", name, from.size());
      upload_floats(device, element(values, dtype, t.offset), dtype, from.data(), from.size());
    }
  }
  constexpr int64_t kPiece = 1 << 22;  // elements
  std::vector<float> piece;
  for (const BaseTensor& whole : adapter.base_tensors) {
    const std::string name = peft_name(whole.name);
    const auto t = std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& n) { return n.name == name; });
    if (t == tensors.end()) continue;
    const std::span<const std::byte> bytes = adapter.file->bytes(*whole.info);
    const int64_t width = file_dtype_bits(whole.info->dtype) / 8;
    for (int64_t first = 0; first < t->size(); first += kPiece) {
      piece.resize(static_cast<size_t>(std::min(kPiece, t->size() - first)));
      convert_tensor(
          {whole.info->dtype, {}, bytes.subspan(static_cast<size_t>(first * width), piece.size() * static_cast<size_t>(width))},
          piece.data(), DType::f32, name);
      upload_floats(device, element(values, dtype, t->offset + first), dtype, piece.data(), piece.size());
    }
    adapter.file->forget(*whole.info);
  }
}

void initialize_weights(const Device& device, WeightStream& stream, const std::vector<Weight>& weights, uint64_t seed,
                        const WeightPlaces& places) {
  load_parts("drawing random weights", device, stream, weights, places, [&](const Weight& weight, const WeightPart& part) {
    const uint64_t key = key_of(part.name, seed);
    return TensorSource{.dtype = DType::f32, .read = [&weight, key](void* to, DType as, int64_t first, int64_t n) {
                          parallel_for(n, 64, [&](int64_t i) {
                            const double value = weight.is_vector() ? (weight.is_bias ? 0 : 1)
                                                                    : 0.02 * normal(key, static_cast<uint64_t>(first + i));
                            with_storage_type(as, [&](auto type) {
                              static_cast<decltype(type)*>(to)[i] = from_acc<decltype(type)>(static_cast<float>(value));
                            });
                          });
                        }};
  });
}

void initialize_adapter(const Device& device, const std::vector<NamedTensor>& tensors, void* values, DType dtype, uint64_t seed) {
  std::vector<float> first;
  for (const NamedTensor& t : tensors) {
    const bool b = t.name.ends_with("lora_B.weight");
    if (!b && !t.name.ends_with("lora_A.weight")) continue;  // a weight of the base model, which is there
    const double bound = 1 / std::sqrt(static_cast<double>(t.shape[1]));
    const uint64_t key = key_of(t.name, seed);
    first.assign(static_cast<size_t>(t.size()), 0.0f);
    for (size_t i = 0; !b && i < first.size(); i++) first[i] = static_cast<float>((2 * uniform(key, i) - 1) * bound);
    upload_floats(device, element(values, dtype, t.offset), dtype, first.data(), first.size());
  }
}

}  // namespace tll
