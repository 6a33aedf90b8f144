// What is trained: one flat range of values, with gradients and optimizer state of the same length. So clearing the gradients,
// their norm and the update are one call each.
#pragma once

#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/matrix.h"
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
  DType dtype = dtype_of<Acc>;  // of values and gradients; bf16: adapters that are kept in it alone
  void* values = nullptr;       // (count)  master copy
  void* compute = nullptr;      // (count)  the values in the compute type; `values` itself where there is no need of a copy
  bool computed = true;         // false: no copy, since none of it would be read
  void* gradients = nullptr;    // (count)  null: there are none

  // Of the compute copy: Float where values are Acc, else the type of the values.
  DType compute_dtype() const { return dtype == dtype_of<Acc> ? dtype_of<Float> : dtype; }
  // Elements offset … as a matrix.
  ConstMatrix compute_matrix(int64_t offset, int64_t rows, int64_t cols) const {
    return view<const void>(compute, compute_dtype(), offset, rows, cols);
  }
  Matrix gradient_matrix(int64_t offset, int64_t rows, int64_t cols) const {
    return view<void>(gradients, dtype, offset, rows, cols);
  }
  // All of them, where their type is Acc.
  Acc* acc_values() const { return as_acc(values); }
  Acc* acc_gradients() const { return as_acc(gradients); }
  void* value(int64_t offset) const { return view<void>(values, dtype, offset, 1, 1).data; }
  ConstMatrix value_matrix(int64_t offset, int64_t rows, int64_t cols) const {
    return view<const void>(values, dtype, offset, rows, cols);
  }

  void add(const std::string& tensor, const std::vector<int64_t>& shape);
  void place(Arena& arena, bool with_gradients);
  // Enqueued: sets the gradients to zero.
  void clear_gradients(const Device& device) const;
  // Enqueued: rounds the values to the copy in the compute type. Needed once after the values changed.
  void refresh_compute_copy(const Device& device) const;

 private:
  Acc* as_acc(void* memory) const {
    TLL_CHECK(dtype == dtype_of<Acc>, "{} in {}", name, dtype_name(dtype));
    return static_cast<Acc*>(memory);
  }
  template <class Void>
  static MatrixView<Void> view(void* memory, DType type, int64_t offset, int64_t rows, int64_t cols) {
    std::byte* at = memory ? static_cast<std::byte*>(memory) + offset * static_cast<int64_t>(dtype_bytes(type)) : nullptr;
    return {at, type, static_cast<int>(rows), static_cast<int>(cols), cols};
  }
};

}  // namespace tll
