// One allocation for all tensors. The list of tensors is written once, as code that calls place(). This code runs twice. The
// first walk measures: it records each tensor, which gives the plan. The second walk, after allocate(), sets the pointers. It
// must repeat the first exactly, which is checked tensor by tensor, so the plan and the arena cannot disagree.
//
//   [ parameters | gradients | optimizer | activations | scratch ]        every tensor starts at a multiple of 64 bytes
//
// Tensors lie in the order of the place() calls (Session::place() in src/commands/session.cpp). Categories label them for the
// sums of the plan. A few activations (batch.*) lie within the scratch.
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

  // First walk: records the tensor, the pointer is null. Second walk: sets the pointer.
  template <class T>
  void place(T*& pointer, const std::string& name, const std::vector<int64_t>& shape, Category category) {
    pointer = static_cast<T*>(place_bytes(name, shape, dtype_of<T>, category));
  }
  // The same where the type is known at run time only. Error (kExitDoesNotFit) above 2^56 bytes.
  void* place_bytes(const std::string& name, const std::vector<int64_t>& shape, DType dtype, Category category);

  // Between the walks: allocates what the first one measured, on the device. `pinned`: in pinned memory of the host, for
  // asynchronous copies to and from a CUDA device. Error (kExitFault) if the allocation fails.
  void allocate(const Device& device = {}, bool pinned = false);
  // The same with addresses that have no memory behind them, for a dry run: nothing may touch them.
  void reserve();
  // After the second walk: checks that it placed what the first one measured.
  void seal();

  int64_t total() const { return cursor_; }
  bool placing() const { return base_ != nullptr; }
  void* memory() const { return base_; }
  const std::vector<TensorRecord>& tensors() const { return tensors_; }
  std::array<int64_t, kCategories> bytes_by_category() const;
  // {"bytes": {"parameters", …, "total"}, "tensors": [...]}: the output of `plan --json` without "fits".
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
