// One allocation for everything. The list of tensors is written once, as code that calls place(), and walked twice: with no
// memory behind it, to measure (the plan), then over the memory, to set the pointers. The second walk must repeat the first
// exactly, which is checked tensor by tensor, so the plan and the arena cannot disagree.
//
//   [ parameters | gradients | optimizer | activations | scratch ]        every tensor starts at a multiple of 64 bytes
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda_device.h"
#include "src/base/json.h"

namespace tll {

enum class Category : uint8_t { parameters, gradients, optimizer, activations, scratch };
inline constexpr int kCategories = 5;
const char* category_name(Category);

struct TensorRecord {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype;
  Category category;
  int64_t bytes, offset;
};

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Measuring: records the tensor, leaves the pointer null. Placing: sets the pointer.
  template <class T>
  void place(T*& pointer, const std::string& name, const std::vector<int64_t>& shape, Category category) {
    pointer = static_cast<T*>(place_bytes(name, shape, dtype_of<T>, category));
  }
  // For weights, whose type is known at run time only.
  void* place_bytes(const std::string& name, const std::vector<int64_t>& shape, DType dtype, Category category);

  // Between the walks: takes the memory that the first one measured, in one allocation on the device, or, with `pinned`, on the
  // host beside a CUDA device, for copies that run on their own. Fault (exit code 1) if the system refuses.
  void allocate(const Device& device = {}, bool pinned = false);
  // After the second walk: checks that it placed what the first one measured.
  void seal();

  int64_t total() const { return cursor_; }
  bool placing() const { return base_ != nullptr; }
  void* memory() const { return base_; }
  const std::vector<TensorRecord>& tensors() const { return tensors_; }
  std::array<int64_t, kCategories> bytes_by_category() const;
  // {"bytes": {"parameters", …, "total"}, "tensors": [...]}: the plan of `plan --json`, but for "fits".
  Json json() const;

 private:
  void advance(const std::string& name, const std::vector<int64_t>& shape, DType dtype, Category category, int64_t bytes);

  Device device_;
  bool pinned_ = false;
  std::byte* base_ = nullptr;
  int64_t cursor_ = 0, capacity_ = 0;
  size_t next_ = 0;  // the record that the second walk must repeat next
  std::vector<TensorRecord> tensors_;
};

}  // namespace tll
