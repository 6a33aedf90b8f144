// The weights of a Hugging Face model directory: model.safetensors, or shards named by model.safetensors.index.json.
//
// Source: transformers' loading of safetensors checkpoints (modeling_utils.py). Where transformers warns and goes on with random
// weights, this refuses.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/numeric.h"
#include "src/files/config.h"
#include "src/files/safetensors.h"

namespace tll {

struct TensorView {
  FileDtype dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // not aligned
};

// Converts to `to` (f32, bf16 or f16), rounding to nearest, ties to even. `out` holds the tensor's elements; `what` names it
// in the error for a finite value that f16 cannot hold.
void convert_tensor(const TensorView& tensor, void* out, DType to, const std::string& what);

// Opens the files and checks names, shapes and types against the configuration: afterwards each tensor of weight_specs(config)
// is there, in BF16, F16 or F32. Refused (Error, kExitBadFile): missing tensors or files, other shapes, quantised weights,
// a tied head that differs from the embedding (transformers 4 and 5 disagree about which one counts).
class ModelFiles {
 public:
  ModelFiles(const std::filesystem::path& directory, const LlamaConfig& config);

  TensorView tensor(const std::string& name) const;
  // Reads n elements of the tensor from `first` on into `out`, in pieces, giving back the file's pages as it goes: what is
  // resident is `out` alone.
  void load(const std::string& name, void* out, DType to, int64_t first, int64_t n) const;
  // One line for each thing in the files that is not used.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  struct Place {
    const SafetensorsFile* file;
    const TensorInfo* info;
  };
  void open_index(const std::filesystem::path& index);
  void check_tied_head(const LlamaConfig& config);
  void check(const LlamaConfig& config);
  const Place& place(const std::string& name) const;

  std::filesystem::path directory_;
  std::vector<SafetensorsFile> files_;
  std::unordered_map<std::string, Place> places_;
  std::vector<std::string> warnings_;
};

}  // namespace tll
