// What is trained: one flat range of values, with gradients and optimizer state of the same length. So clearing the gradients,
// their norm and the update are one call each.
#pragma once

#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "src/model/arena.h"
#include "src/model/device_memory.h"

namespace tll {

// A tensor inside the flat range.
struct NamedTensor {
  std::string name;  // as in Hugging Face's files, or in PEFT's
  std::vector<int64_t> shape;
  int64_t offset;  // elements from the start of the range
  int64_t size() const;
};
// The tensor of this name, which must be there.
const NamedTensor& find_tensor(const std::vector<NamedTensor>& tensors, const std::string& name);

template <class Float>
struct TrainedRange {
  using Acc = acc_t<Float>;
  std::string name;  // in the plan: "lora" or "weights"
  std::vector<NamedTensor> tensors;
  int64_t count = 0;
  Acc* values = nullptr;     // (count)  master copy
  Float* compute = nullptr;  // (count)  the values in the compute type; `values` itself where the types are equal
  Acc* gradients = nullptr;  // (count)  null: there are none

  void add(const std::string& tensor, const std::vector<int64_t>& shape);
  void place(Arena& arena, bool with_gradients);
  // Enqueued: sets the gradients to zero.
  void clear_gradients(const Device& device) const;
  // Enqueued: rounds the values to the copy in the compute type. Needed once after the values changed.
  void refresh_compute_copy(const Device& device) const;
};

}  // namespace tll
