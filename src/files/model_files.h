// The weights of a Hugging Face model directory: model.safetensors, or shards named by model.safetensors.index.json; or of a GGUF
// file (src/files/gguf_model.h).
//
// Source: transformers' loading of safetensors checkpoints (modeling_utils.py). If a tensor is missing, transformers warns and
// uses random weights; here that is an error.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/numeric.h"
#include "src/files/config.h"
#include "src/files/quantization.h"

namespace tll {

struct TensorView {
  FileDtype dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // not aligned
};

class GgufWeights;

// Whether the directory has files that ModelFiles opens, or the path is a GGUF file.
bool has_weights(const std::filesystem::path& path);

// Converts the tensor to type `to` (f32, bf16 or f16), rounding to nearest, ties to even. `out` has room for all elements. Error
// (kExitBadFile), which begins with `what`, if a finite value is too large for f16.
void convert_tensor(const TensorView& tensor, void* out, DType to, const std::string& what);

// Opens the files and checks names, shapes and types against the configuration. Afterwards each tensor of weight_specs(config) is
// there, in BF16, F16 or F32, or quantised by bitsandbytes. The files of a body without a head (LlamaModel), whose names lack
// "model.", are read as well. Error (kExitBadFile) for missing tensors or files, other shapes, weights quantised by other tools,
// and a tied head that differs from the embedding (transformers 4 and 5 disagree on which one counts).
class ModelFiles {
 public:
  // `path`: the directory, or the GGUF file.
  ModelFiles(const std::filesystem::path& path, const LlamaConfig& config);
  ModelFiles(ModelFiles&&) noexcept;
  ~ModelFiles();

  // The tensor of this name as it lies in its file; the codes of a quantised one. Not of a GGUF file.
  TensorView tensor(const std::string& name) const;
  // The type in which load() gives the tensor without loss: f32, bf16 or f16.
  DType dtype(const std::string& name) const;
  // Null if the tensor is dense.
  const QuantizedTensor* quantized(const std::string& name) const;
  // How the quantised tensors of the model lie in the files.
  const Quantization& quantization() const { return quantization_; }
  // From now on the matrix has more rows, up to so many, each of which is the mean of those in the file: that of transformers'
  // resize_token_embeddings, which adds a random part to it.
  void add_mean_rows(const std::string& name, int64_t rows);
  // From now on the tensor is this one of another file, which must outlive this object. It has the same shape. False if its
  // values are those that were there.
  bool replace(const std::string& name, const SafetensorsFile& file, const TensorInfo& tensor);
  // Converts elements first … first+n-1 of the tensor into `out`, piece by piece; dequantises what is quantised. The file's pages
  // are released after each piece, so only `out` stays resident.
  void load(const std::string& name, void* out, DType to, int64_t first, int64_t n) const;
  // One line for each tensor of the files that is not used; after a few, their number.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  using Place = TensorPlace;
  void open_index(const std::filesystem::path& index);
  void add_prefix();
  static bool same_values(const Place& a, const Place& b);
  void check_tied_head(const LlamaConfig& config);
  void take_quantized_weights(const LlamaConfig& config);
  void check(const LlamaConfig& config);
  const Place& place(const std::string& name) const;
  bool same_values(const std::string& name, const Place& other) const;
  std::vector<int64_t> shape(const std::string& name) const;

  std::filesystem::path directory_;
  std::vector<SafetensorsFile> files_;
  TensorPlaces places_;
  std::unique_ptr<GgufWeights> gguf_;  // null: a directory; else places_ has only what replaces its tensors
  struct MeanRows {
    int64_t rows;  // of the whole matrix
    std::vector<float> mean;
  };
  std::map<std::string, MeanRows> mean_rows_;
  std::map<std::string, QuantizedTensor> quantized_;
  Quantization quantization_;
  std::vector<std::string> warnings_;
};

}  // namespace tll
