// A weight: a joint matrix or vector of the engine. Its rows come from one or more tensors of the checkpoint, stacked. It knows
// its type and its memory, and gives a GEMM its operand.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/matrix.h"
#include "src/files/modules.h"
#include "src/model/weight_stream.h"

namespace tll {

// The rows that one tensor of the checkpoint fills. What a quantiser keeps per tensor, such as a mean, belongs here.
struct WeightPart {
  std::string name;  // of the tensor
  std::vector<int64_t> shape;
  int64_t first;  // element of the weight
  int64_t count() const { return element_count(shape); }
};

// Writes elements first … first+n-1 of a tensor of the checkpoint, in type `as`. Any range may be read, also more than once: a
// quantiser reads a tensor twice, to measure it and to encode it.
using TensorReader = std::function<void(void* to, DType as, int64_t first, int64_t n)>;

struct Weight {
  Joint joint;
  bool is_bias;
  int layer;         // -1: outside the blocks
  std::string name;  // in the plan: "layers.3.qkv", "layers.3.qkv_bias", "embed"
  std::vector<WeightPart> parts = {};
  int64_t rows = 0, cols = 0;  // cols 0: a vector

  DType dtype = DType::f32;  // of `data`
  void* data = nullptr;
  // Where loading writes: `data` itself, or the fp32 master weights of a weight that is trained.
  DType stored_dtype = DType::f32;
  void* stored = nullptr;

  bool is_vector() const { return cols == 0; }
  std::vector<int64_t> shape() const { return is_vector() ? std::vector{rows} : std::vector{rows, cols}; }
  int64_t count() const { return element_count(shape()); }
  // W (rows, cols), for a GEMM.
  ConstMatrix matrix() const { return {data, dtype, static_cast<int>(rows), static_cast<int>(cols), cols}; }
  void* stored_part(const WeightPart& part) const {
    return static_cast<std::byte*>(stored) + part.first * static_cast<int64_t>(dtype_bytes(stored_dtype));
  }
  // Fills the part. It is complete after WeightStream::finish().
  void load(const Device&, WeightStream&, const WeightPart&, const TensorReader&) const;
};

// All weights of a model, in the order of the forward pass. They have no memory yet.
std::vector<Weight> list_weights(const LlamaConfig&);

}  // namespace tll
