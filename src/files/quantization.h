// Quantised weights of a checkpoint, as bitsandbytes and transformers write them.
//
// A linear layer P in 4 bits is the tensors
//
//   P.weight                                  packed codes, two in a byte, in bytes of any type (bnb_4bit_quant_storage)
//   P.weight.absmax                           (blocks)  F32, or U8 if it is double quantised
//   P.weight.quant_map                        (16)      F32, the book
//   P.weight.nested_absmax                    (⌈blocks/256⌉)  F32, if double quantised
//   P.weight.nested_quant_map                 (256)     F32, if double quantised
//   P.weight.quant_state.bitsandbytes__nf4    U8: JSON text with quant_type, blocksize, dtype, shape, and of a double quantised
//                                             weight nested_blocksize, nested_dtype, nested_offset;  also …__fp4
//
// and in 8 bits (LLM.int8(), Dettmers et al. 2022) P.weight (I8), P.SCB (rows, F32: the largest magnitude of each row) and
// P.weight_format (0); a block of it is a row, and its scale SCB/127. Other layers of the same file may be dense.
//
// Source: bitsandbytes 0.50, functional.py (QuantState) and nn/modules.py.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/quantized.h"
#include "src/base/json.h"
#include "src/files/safetensors.h"

namespace tll {

struct LlamaConfig;

// How a matrix is held: its codes and scales (kernels/quantized.h), or dense.
struct QuantizedFormat {
  WeightCode code = WeightCode::dense;
  int block = kQuantBlock;  // elements with one scale
  bool nested = false;      // the scales are double quantised
  int book = 0, map = 0;    // of nf4 and fp4, and of double quantisation: indices of the tables in Quantization

  bool is_dense() const { return code == WeightCode::dense; }
  bool is_4bit() const { return code == WeightCode::nf4 || code == WeightCode::fp4; }
  int64_t blocks(int64_t count) const { return (count + block - 1) / block; }
  static int64_t nested_blocks(int64_t blocks) { return (blocks + kNestedBlock - 1) / kNestedBlock; }
  int64_t code_bytes(int64_t count) const { return is_4bit() ? (count + 1) / 2 : count; }
  bool operator==(const QuantizedFormat&) const = default;
};

// What a model's quantised weights are. A file may bring tables of its own; each different one is kept once.
struct Quantization {
  std::map<std::string, QuantizedFormat> tensors;  // by name, "model.layers.0.mlp.up_proj.weight"; the others are dense
  std::vector<std::array<float, 16>> books;
  std::vector<std::array<float, 256>> maps;
  int add_book(const std::array<float, 16>&);  // its index
  int add_map(const std::array<float, 256>&);
  // Only the tables of this program's own quantising.
  static Quantization own();
};

// What "quantization_config" of config.json says about a model whose files are not there: every linear layer of the blocks that
// llm_int8_skip_modules does not name. Null where it is absent. Error (kExitBadFile) for another method than bitsandbytes.
std::shared_ptr<const Quantization> parse_quantization(const Json& config, const LlamaConfig& sizes, const std::string& where);

// The "quantization_config" that transformers writes for such a model. `compute`: "bfloat16", …
Json quantization_json(bool double_quant, const std::string& compute);
// The JSON text of a quant_state tensor, byte for byte as bitsandbytes writes it. nested_offset null: not double quantised.
std::string quant_state_text(const std::string& dtype, const std::vector<int64_t>& shape, const float* nested_offset);

// Where the tensors of a checkpoint are, by name.
struct TensorPlace {
  const SafetensorsFile* file;
  const TensorInfo* info;
};
using TensorPlaces = std::map<std::string, TensorPlace>;

// A quantised tensor in a file. The bytes are not aligned. What is read leaves resident memory piece by piece.
struct QuantizedTensor {
  std::string what;  // file and name, for messages
  QuantizedFormat format = {};
  int64_t rows = 0, cols = 0;
  // scales: (blocks), U8 if nested, else F32; of int8 SCB.
  std::span<const std::byte> codes = {}, scales = {}, nested_absmax = {};
  float nested_offset = 0;
  std::array<float, 16> book{};
  std::array<float, 256> map{};
  std::vector<TensorPlace> places = {};  // of its parts

  int64_t count() const { return rows * cols; }
  // Bytes first … first+n-1 of one of the spans.
  void copy(void* to, std::span<const std::byte> from, int64_t first, int64_t n) const;
  // Of blocks first … first+n-1. Error (kExitBadFile) for a scale that is not finite.
  void read_scales(float* to, int64_t first, int64_t n) const;
  // Elements first … first+n-1 as `type`: f32, bf16 or f16.
  void dequantize(void* to, DType type, int64_t first, int64_t n) const;

 private:
  void forget() const;
};

// The weight of this module, W (rows, cols); nothing if it is dense. Its tables are added to `tables`, and the tensors beside
// MODULE.weight leave `places`. Error (kExitBadFile) for whatever contradicts the layout above.
std::optional<QuantizedTensor> take_quantized(TensorPlaces& places, const std::string& module, int64_t rows, int64_t cols,
                                              Quantization& tables);

}  // namespace tll
