// A model in GGUF: one file, or the shards NAME-00001-of-0000N.gguf. It is read as the Hugging Face directory that it was, or
// could have been, converted from: what the metadata say becomes the texts of that directory's files, which the readers of those
// read.
//
// Source: llama.cpp's src/llama-arch.cpp, llama-model.cpp (which keys a model has, and their defaults), llama-vocab.cpp
// (tokenizers) and its converter (what the values were before).
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "kernels/numeric.h"
#include "src/files/config.h"
#include "src/files/gguf_file.h"

namespace tll {

// Whether this is a file that begins as GGUF does.
bool is_gguf(const std::filesystem::path& path);

class GgufModel {
 public:
  // `path` is the file, or any of its shards; all are opened. Error (kExitBadFile) for a file that is no model (an adapter, a
  // vocabulary alone, an importance matrix, a projector), shards that are missing or of other models, and a tensor in two shards.
  explicit GgufModel(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }  // as it was given
  const GgufFile& metadata() const { return files_.front(); }  // of the first shard
  const std::vector<GgufFile>& files() const { return files_; }
  struct Place {
    const GgufFile* file = nullptr;
    const GgufTensor* tensor = nullptr;
  };
  Place find(std::string_view name) const;  // by GGUF's name; null pointers: there is none

 private:
  std::filesystem::path path_;
  std::vector<GgufFile> files_;
  std::map<std::string_view, Place> places_;
};

// Whether the file has a tokenizer, of whatever kind.
bool gguf_has_tokenizer(const GgufModel& model);

// config.json and generation_config.json. `notes`, if wanted, gets a line for each key that is not used. Error (kExitBadFile) for
// an architecture, or a key that changes the mathematics, that is not read.
std::map<std::string, std::string> gguf_config_files(const GgufModel& model, std::vector<std::string>* notes = nullptr);
// tokenizer.json or tokenizer.model, and tokenizer_config.json, with the chat template. Where the file does not say how texts are
// cut (tokenizer.ggml.pre), those beside it are taken, if there are any. Error (kExitBadFile) for a tokenizer that is not read.
std::map<std::string, std::string> gguf_tokenizer_files(const GgufModel& model, std::vector<std::string>* notes = nullptr);
// Both: every file of the directory but the weights, by name. Without those of the tokenizer if the file has none.
std::map<std::string, std::string> hugging_face_files(const GgufModel& model);

// The weights of a GGUF model under Hugging Face's names.
class GgufWeights {
 public:
  // Error (kExitBadFile) for a tensor that the model needs and that is missing or of another shape, and for one that it has not.
  GgufWeights(const std::filesystem::path& path, const LlamaConfig& config);

  bool has(const std::string& name) const { return places_.contains(name); }
  // The type of `name`, as near as a dense type comes: f16, bf16, or f32, also of blocks.
  DType dtype(const std::string& name) const;
  const std::vector<int64_t>& shape(const std::string& name) const { return place(name).at.tensor->shape; }
  // Elements first … first+n-1 in type `to`, with the rows of q and k in Hugging Face's order, each rounded once from the fp32
  // value.
  void load(const std::string& name, void* out, DType to, int64_t first, int64_t n) const;
  const std::filesystem::path& path() const { return model_.path(); }

 private:
  struct Place {
    GgufModel::Place at;
    int64_t rows, cols;
    bool paired;  // gguf_rows_are_paired
  };
  const Place& place(const std::string& name) const;

  GgufModel model_;
  int64_t head_dim_;
  std::map<std::string, Place> places_;
};

}  // namespace tll
