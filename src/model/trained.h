// What is trained: one flat range of values, with gradients and optimizer state of the same length. So clearing the gradients and
// the update are one call each.
//
// A step of several micro-batches, on this rank or on others, adds their gradients up in one order (src/model/shards.h). The
// backward pass then writes those of a micro-batch to buckets of their own. Those of blocks take turns in a few slots, since they
// are added to the sums as soon as a block is done.
#pragma once

#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/matrix.h"
#include "src/model/arena.h"
#include "src/model/device_memory.h"
#include "src/model/shards.h"

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
  void* gradients = nullptr;    // (count), or (owned) where they are split; null: there are none
  bool apart = false;           // the backward pass writes to `bucket_gradients`, and `gradients` are sums
  Shards shards;
  std::vector<void*> bucket_gradients;  // (of each bucket's count)  where `apart`

  // The values are split as the gradients are, and `compute` is whole: where all weights are trained in a narrower type.
  bool splits_values = false;
  // Where the value of own piece `piece` lies.
  void* own_values(const OwnedPiece& piece) const {
    return view<void>(values, dtype, splits_values ? piece.own : piece.first, 1, 1).data;
  }

  // Elements of `gradients`, and of states and values that are split as they are.
  int64_t held() const { return shards.ranks().splits() ? shards.most_owned() : count; }

  // Of the compute copy: Float where values are Acc, else the type of the values.
  DType compute_dtype() const { return dtype == dtype_of<Acc> ? dtype_of<Float> : dtype; }
  // Elements offset … as a matrix.
  ConstMatrix compute_matrix(int64_t offset, int64_t rows, int64_t cols) const {
    return view<const void>(compute, compute_dtype(), offset, rows, cols);
  }
  Matrix gradient_matrix(int64_t offset, int64_t rows, int64_t cols) const {
    return view<void>(gradient(offset), dtype, 0, rows, cols);
  }
  // Where the backward pass adds the gradient of element `offset`.
  void* gradient(int64_t offset) const;
  // All of them, where their type is Acc.
  Acc* acc_values() const { return as_acc(values); }
  Acc* acc_gradients() const { return as_acc(gradients); }
  Acc* acc_gradient(int64_t offset) const { return as_acc(gradient(offset)); }
  void* value(int64_t offset) const { return view<void>(values, dtype, offset, 1, 1).data; }
  ConstMatrix value_matrix(int64_t offset, int64_t rows, int64_t cols) const {
    return view<const void>(values, dtype, offset, rows, cols);
  }

  // A tensor of the block, or outside the blocks (-1).
  void add(const std::string& tensor, const std::vector<int64_t>& shape, int layer);
  // After the last tensor. The bounds of pieces lie between blocks of an 8-bit optimizer, and of SumOfSquares.
  void divide(const RankOptions& ranks);
  void place(Arena& arena, bool with_gradients, int slots);
  // Enqueued: sets the gradients, or the sums, to zero.
  void clear_gradients(const Device& device) const;
  // Enqueued: rounds the values, or those that are here, to the copy in the compute type. Needed once after the values changed.
  void refresh_compute_copy(const Device& device) const;

 private:
  void place_buckets(Arena& arena, int slots);

  std::vector<Bucket> buckets_;  // without bounds
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
