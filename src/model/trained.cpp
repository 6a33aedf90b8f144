#include "src/model/trained.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/files/modules.h"

namespace tll {

int64_t NamedTensor::size() const { return element_count(shape); }

const NamedTensor& find_tensor(const std::vector<NamedTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& t) { return t.name == name; });
  TLL_CHECK(found != tensors.end(), "{} is not trained", name);
  return *found;
}

template <class Float>
void TrainedRange<Float>::add(const std::string& tensor, const std::vector<int64_t>& shape) {
  tensors.push_back({tensor, shape, count});
  count += tensors.back().size();
}

template <class Float>
void TrainedRange<Float>::place(Arena& arena, bool with_gradients) {
  if (count == 0) return;
  values = arena.place_bytes(name + ".values", {count}, dtype, Category::parameters);
  compute = values;
  if (computed && compute_dtype() != dtype)
    compute = arena.place_bytes(name + ".compute", {count}, compute_dtype(), Category::parameters);
  if (with_gradients)
    gradients = arena.place_bytes(name + ".gradients", {count}, dtype, Category::gradients, {StepPhase::step, StepPhase::update});
}

template <class Float>
void TrainedRange<Float>::clear_gradients(const Device& device) const {
  set_zero(device, gradients, static_cast<size_t>(count) * dtype_bytes(dtype));
}

template <class Float>
void TrainedRange<Float>::refresh_compute_copy([[maybe_unused]] const Device& device) const {
  if constexpr (!std::is_same_v<Float, Acc>)
    if (compute != values)
      run(device, CastFromMaster<Float>{.out = static_cast<Float*>(compute), .in = static_cast<const Acc*>(values), .n = count});
}

template struct TrainedRange<float>;
template struct TrainedRange<bf16>;
template struct TrainedRange<half>;
template struct TrainedRange<double>;
template struct TrainedRange<complex>;

}  // namespace tll
