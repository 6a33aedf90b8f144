#include "src/model/trained.h"

#include <algorithm>

#include "kernels/adamw8bit.h"
#include "kernels/reduce.h"
#include "src/base/check.h"
#include "src/files/modules.h"

namespace tll {

namespace {

constexpr int64_t kMostOfBucket = 16 << 20;  // elements: what is received at once stays small

}  // namespace

int64_t NamedTensor::size() const { return element_count(shape); }

const NamedTensor& find_tensor(const std::vector<NamedTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& t) { return t.name == name; });
  TLL_CHECK(found != tensors.end(), "{} is not trained", name);
  return *found;
}

template <class Float>
void TrainedRange<Float>::add(const std::string& tensor, const std::vector<int64_t>& shape, int layer) {
  tensors.push_back({tensor, shape, count});
  if (buckets_.empty() || buckets_.back().layer != layer) buckets_.push_back({layer, count, 0, {}});
  count += tensors.back().size();
  buckets_.back().count += tensors.back().size();
}

template <class Float>
void TrainedRange<Float>::divide(const RankOptions& ranks) {
  const auto may_cut = [&](int64_t element) {
    const auto after =
        std::upper_bound(tensors.begin(), tensors.end(), element, [](int64_t e, const NamedTensor& t) { return e < t.offset; });
    return (element - (after - 1)->offset) % AdamW8bit::kBlock == 0;
  };
  std::vector<Bucket> parts;
  for (const Bucket& b : buckets_)
    for (int64_t begin = 0; begin < b.count; begin += kMostOfBucket)
      parts.push_back({b.layer, b.first + begin, std::min(kMostOfBucket, b.count - begin), {}});
  shards = Shards(ranks, std::move(parts), SumOfSquares::kBlock, may_cut);
}

template <class Float>
void TrainedRange<Float>::place(Arena& arena, bool with_gradients, int slots) {
  if (count == 0) return;
  values = arena.place_bytes(name + ".values", {splits_values ? held() : count}, dtype, Category::parameters);
  compute = values;
  if (computed && compute_dtype() != dtype)
    compute = arena.place_bytes(name + ".compute", {count}, compute_dtype(), Category::parameters);
  if (!with_gradients) return;
  gradients = arena.place_bytes(name + ".gradients", {held()}, dtype, Category::gradients, {StepPhase::step, StepPhase::update});
  if (apart) place_buckets(arena, slots);
}

template <class Float>
void TrainedRange<Float>::place_buckets(Arena& arena, int slots) {
  const auto bucket = [&](const std::string& of, int64_t n) {
    return arena.place_bytes(name + ".bucket." + of, {n}, dtype, Category::gradients,
                             {StepPhase::batch, StepPhase::backward_qkv});
  };
  int64_t largest = 0;
  for (const Bucket& b : buckets_)
    if (b.layer >= 0) largest = std::max(largest, b.count);
  std::vector<void*> slot;
  for (int i = 0; i < slots && largest > 0; i++) slot.push_back(bucket(std::to_string(i), largest));
  bucket_gradients.clear();
  for (const Bucket& b : buckets_) {
    void* const memory =
        b.layer >= 0 ? slot[static_cast<size_t>(b.layer % slots)] : bucket(b.first == 0 ? "first" : "last", b.count);
    for (int64_t begin = 0; begin < b.count; begin += kMostOfBucket)
      bucket_gradients.push_back(view<void>(memory, dtype, begin, 1, 1).data);
  }
}

template <class Float>
void* TrainedRange<Float>::gradient(int64_t offset) const {
  if (!apart) return view<void>(gradients, dtype, offset, 1, 1).data;
  const size_t b = shards.bucket_of(offset);
  return view<void>(bucket_gradients[b], dtype, offset - shards.buckets()[b].first, 1, 1).data;
}

template <class Float>
void TrainedRange<Float>::clear_gradients(const Device& device) const {
  set_zero(device, gradients, static_cast<size_t>(held()) * dtype_bytes(dtype));
}

template <class Float>
void TrainedRange<Float>::refresh_compute_copy([[maybe_unused]] const Device& device) const {
  if constexpr (!std::is_same_v<Float, Acc>) {
    const auto cast = [&](int64_t first, const void* from, int64_t n) {
      run(device,
          CastFromMaster<Float>{.out = static_cast<Float*>(compute) + first, .in = static_cast<const Acc*>(from), .n = n});
    };
    if (splits_values) {
      for (const OwnedPiece& piece : shards.own()) cast(piece.first, own_values(piece), piece.count);
    } else if (compute != values) {
      cast(0, values, count);
    }
  }
}

template struct TrainedRange<float>;
template struct TrainedRange<bf16>;
template struct TrainedRange<half>;
template struct TrainedRange<double>;
template struct TrainedRange<complex>;

}  // namespace tll
