// Writes GGUF files, version 3: a header, pairs of metadata, a table of tensors, and their data, each at a multiple of 32 bytes.
// Strings are a 64-bit length and bytes; sizes of a tensor come with that of a row first; all is little endian.
//
// Source: ggml's docs/gguf.md. Keys: gguf-py's constants.py.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/file.h"
#include "src/files/gguf_file.h"
#include "src/files/gguf_types.h"

namespace tll {

// Pairs of metadata as they lie in the file, in the order in which they are added. A key is added once.
class GgufMetadata {
 public:
  void add_text(std::string_view key, std::string_view value);
  void add_flag(std::string_view key, bool value);
  void add_uint(std::string_view key, int64_t value);  // u32
  void add_float(std::string_view key, double value);  // f32
  void add_texts(std::string_view key, const std::vector<std::string>& values);
  void add_ints(std::string_view key, std::span<const int32_t> values);  // i32
  void add_floats(std::string_view key, std::span<const float> values);

  uint64_t count() const { return keys_.size(); }
  const std::string& bytes() const { return bytes_; }

 private:
  void begin(std::string_view key, GgufValueType type);
  void begin_list(std::string_view key, GgufValueType type, uint64_t count);

  std::string bytes_;
  std::map<std::string, bool, std::less<>> keys_;
};

// A tensor to write. The shape as Hugging Face has it: (rows, cols) of a matrix. A row is a multiple of the type's block.
struct GgufTensorSpec {
  std::string name;
  GgufType type;
  std::vector<int64_t> shape;
};

// Writes a file piece by piece, without a copy of the data. The file appears under its name at commit().
class GgufWriter {
 public:
  GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata, const std::vector<GgufTensorSpec>& tensors);

  // Bytes of a tensor, from its byte `first` on; all of each are put once, in any order.
  void put(const std::string& tensor, int64_t first, std::span<const std::byte> data);
  void commit();

 private:
  struct Place {
    uint64_t begin, size;  // in the file
  };
  AtomicFile file_;
  std::map<std::string, Place> places_;
  uint64_t expected_ = 0, written_ = 0;
};

}  // namespace tll
