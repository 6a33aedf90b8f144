// A weight: a joint matrix or vector of the engine. Its rows come from one or more tensors of the checkpoint, stacked. It knows
// its type and its memory, and gives a GEMM its operand.
//
// A frozen matrix may be quantised (kernels/quantized.h). Each tensor of the checkpoint is then quantised by itself, also where
// several are rows of one matrix, so codes and scales are those that bitsandbytes makes of it. In memory the codes of all parts
// are one tensor of the plan, "layers.3.qkv.codes", and so are their scales; each part's begin at a multiple of 64 bytes.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/matrix.h"
#include "kernels/row_stride.h"
#include "src/files/modules.h"
#include "src/files/quantization.h"
#include "src/model/weight_stream.h"

namespace tll {

// The rows that one tensor of the checkpoint fills.
struct WeightPart {
  std::string name;  // of the tensor
  std::vector<int64_t> shape;
  int64_t first;  // element of the weight
  int64_t count() const { return element_count(shape); }

  // Of a quantised weight; null is what the format does not have.
  QuantizedFormat format = {};
  std::byte* codes = nullptr;  // of a dense part its elements
  float* scales = nullptr;
  uint8_t* scale_codes = nullptr;
  float *nested_absmax = nullptr, *nested_offset = nullptr;
};

// The tables that all quantised weights of a model share, in the device's memory.
struct QuantizationTables {
  float *books = nullptr, *maps = nullptr;  // (·, 16), (·, 256)
};

// Bytes in rows, which may lie apart.
struct StoredBytes {
  const std::byte* data;
  int64_t row, rows = 1, stride = 0;  // bytes of a row, how many there are, bytes from one to the next
  int64_t size() const { return row * rows; }
  // The first n of them, in the host's memory. Waits.
  std::vector<std::byte> read(const Device&, int64_t n) const;
};

// A tensor of the checkpoint, or one that is drawn.
struct TensorSource {
  DType dtype;  // its own
  // Writes elements first … first+n-1 in type `as`. Any range may be read, in any order.
  std::function<void(void* to, DType as, int64_t first, int64_t n)> read;
  const QuantizedTensor* quantized = nullptr;  // null: it is dense
};

struct Weight {
  Joint joint;
  bool is_bias;
  int layer;         // -1: outside the blocks
  std::string name;  // in the plan: "layers.3.qkv", "layers.3.qkv_bias", "embed"
  std::vector<WeightPart> parts = {};
  int64_t rows = 0, cols = 0;  // cols 0: a vector

  DType dtype = DType::f32;  // of `data`, and of the dense parts of a quantised weight
  void* data = nullptr;      // null: quantised
  // Where loading writes: `data` itself, or the fp32 master weights of a weight that is trained.
  DType stored_dtype = DType::f32;
  void* stored = nullptr;
  QuantizationTables tables = {};
  bool on_host = false;                             // its memory is the host's, also beside a GPU
  bool trained = false;                             // a part of TrainedRange
  int joined_rank = 0;                              // R of an adapter that is joined (src/model/linear.h); 0: none
  DType joined_dtype = DType::f32;                  // of its matrices: that of the activations
  void *adapter_a = nullptr, *adapter_b = nullptr;  // them, where the weight is quantised

  bool is_vector() const { return cols == 0; }
  bool is_quantized() const;
  std::vector<int64_t> shape() const { return is_vector() ? std::vector{rows} : std::vector{rows, cols}; }
  int64_t count() const { return element_count(shape()); }
  // Elements from one row in memory to the next. A dense weight with a joined adapter is (rows + R, stride) in memory.
  int64_t stride() const { return joined_rank > 0 && !is_quantized() ? aligned_row(cols + joined_rank, dtype) : cols; }
  // W (rows, cols), for a GEMM.
  ConstMatrix matrix() const { return {data, dtype, static_cast<int>(rows), static_cast<int>(cols), stride()}; }
  // Of a joined adapter: A (R, cols) below W, and S (rows, R) behind its columns.
  Matrix joined_a() const;
  Matrix joined_b() const;
  QuantizedMatrix quantized_matrix() const;
  void* stored_part(const WeightPart& part) const {
    const int64_t element = is_vector() ? part.first : part.first / cols * stride();
    return static_cast<std::byte*>(stored) + element * static_cast<int64_t>(dtype_bytes(stored_dtype));
  }
  // What loading writes of the part: its elements, or its codes and what belongs to them.
  std::vector<StoredBytes> stored_bytes(const WeightPart& part) const;

  // As tensors of the plan, of which `place` gives the memory. The format of each part is known.
  using PlaceBytes = std::function<void*(const std::string& name, const std::vector<int64_t>& shape, DType dtype)>;
  void place(const PlaceBytes& place, const QuantizationTables&);
  void place(Arena&, const QuantizationTables&);
  // Fills the part; quantises it where the source does not come as it is held. It is complete after WeightStream::finish(). Error
  // (kExitBadFile) if an element of what is quantised is not finite.
  void load(const Device&, WeightStream&, const WeightPart&, const TensorSource&) const;

 private:
  QuantizedPart quantized_part(const WeightPart&) const;
  void quantize(const Device&, WeightStream&, const WeightPart&, const TensorSource&) const;
  void copy_quantized(const Device&, WeightStream&, const WeightPart&, const QuantizedTensor&) const;
};

// All weights of a model, in the order of the forward pass. They have no memory yet.
std::vector<Weight> list_weights(const LlamaConfig&);
// Blocks of the longest tensor that loading may have to quantise; 0: none is quantised.
int64_t longest_quantized(const std::vector<Weight>&);

}  // namespace tll
