// safetensors: a strict reader and a writer whose files equal the reference library's byte for byte.
//
//   bytes 0–7         N, unsigned 64-bit little endian
//   bytes 8 … 8+N-1   UTF-8 JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}
//   then              the data, little endian, row-major; offsets count from here
//
// Source: huggingface/safetensors 0.8.0, README and tensor.rs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/base/file.h"

namespace tll {

// The complete list, in the order of the reference, roughly by width. Written files have their tensors in descending order.
// clang-format off
enum class FileDtype : uint8_t {
    BOOL, F4, F6_E2M3, F6_E3M2, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, I16, U16, F16,
    BF16, I32, U32, F32, C64, F64, I64, U64
};
// clang-format on
const char* file_dtype_name(FileDtype dtype);
int file_dtype_bits(FileDtype dtype);

struct TensorInfo {
  std::string name;
  FileDtype dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // bytes from the start of the data section
};

std::string shape_text(const std::vector<int64_t>& shape);  // "[2, 3]"

// Opens a file and checks everything except the values. Every tensor must lie inside the file, and together they must fill the
// data section without holes or overlaps, else Error (kExitBadFile). A tensor is read when it is touched. It need not be aligned:
// copy it, or check before casting the pointer.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in the order of their data
  const TensorInfo* find(std::string_view name) const;                 // null: not in the file
  std::span<const std::byte> bytes(const TensorInfo& tensor) const;
  // The same; Error (kExitBadFile) if the name is not in the file.
  std::span<const std::byte> bytes(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }
  // Removes the tensor from resident memory (MappedFile::forget).
  void forget(const TensorInfo& tensor) const { file_.forget(data_begin_ + tensor.begin, tensor.end - tensor.begin); }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  size_t data_begin_ = 0;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_;  // views of the names in tensors_
  std::map<std::string, std::string> metadata_;
};

// A tensor to write. Names must differ.
struct TensorSpec {
  std::string name;
  FileDtype dtype;
  std::vector<int64_t> shape;
};

// Writes a file piece by piece, without a copy of the data. The file appears under its name at commit().
class SafetensorsWriter {
 public:
  // transformers 4 requires {"format": "pt"} of a model.
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorSpec>& tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  // The order in which the data must be appended: widest type first, then by name.
  const std::vector<TensorInfo>& order() const { return order_; }
  void append(const void* data, size_t size);
  // In another order: bytes of a tensor, from its byte `first` on. A file is written either so or by append().
  void put(const std::string& tensor, uint64_t first, const void* data, size_t size);
  void commit();  // all bytes must have been written

 private:
  AtomicFile file_;
  std::vector<TensorInfo> order_;
  std::unordered_map<std::string_view, size_t> by_name_;  // views of the names in order_
  uint64_t data_begin_ = 0, expected_ = 0, written_ = 0;
};

struct TensorEntry {
  TensorSpec spec;
  std::span<const std::byte> data;
};
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorEntry>& entries,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace tll
