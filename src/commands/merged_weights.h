// The weights of a model with an adapter merged into them, read piece by piece: what every exported format is made of.
//
//   W' = W + scale · B · A      in fp32, and then rounded once
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"
#include "src/commands/source.h"

namespace tll {

// A type in which a model's dense tensors are written, and its names.
struct ModelDtype {
  const char* name;  // of config.json
  DType type;
  FileDtype file;
};

class MergedWeights {
 public:
  // Both sources must outlive this object. Weights that the adapter brings as a whole take the place of the model's.
  MergedWeights(const ModelSource& source, const AdapterSource& adapter, int threads);

  const LlamaConfig& config() const { return source_.config; }
  // What config.json says the model's type is; else that of its embedding.
  const ModelDtype& dtype() const { return *dtype_; }

  // Rows first … first+n-1 of MODULE.weight, with the adapter. A quantised weight is dequantised. Error (kExitBadFile) if a value
  // is too large for fp16.
  void read_rows(const Module& module, int64_t first, int64_t n, DType to, void* out);
  // Elements first … first+n-1 of a tensor that has no adapter: a norm or a bias.
  void read(const std::string& tensor, int64_t first, int64_t n, DType to, void* out) const;
  // So many rows of the module make a piece that is worth reading at once; a multiple of `multiple`.
  static int64_t rows_of_piece(const Module& module, int64_t multiple = 1);
  // "DIR: tensor NAME.weight", for messages.
  std::string what(const Module& module) const;

  static constexpr int64_t kPiece = 1 << 22;  // elements

 private:
  const AdapterModule* adapted(const Module& module) const;

  const ModelSource& source_;
  const AdapterSource& adapter_;
  const ModelFiles files_;
  const ModelDtype* dtype_;
  Device device_;
  std::vector<float> sum_, scratch_;
};

}  // namespace tll
