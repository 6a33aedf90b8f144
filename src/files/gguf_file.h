// A strict reader of one GGUF file, version 2 or 3, little endian:
//
//   "GGUF", u32 version, u64 tensors, u64 pairs
//   pairs     string key, u32 type, value        a string is a u64 length and bytes; an array u32 type, u64 count, elements
//   tensors   string name, u32 dimensions, u64 sizes (that of a row first), u32 type, u64 offset
//   data      at the next multiple of general.alignment (32 if it is absent); offsets count from here, and are multiples of it
//
// Source: ggml's docs/gguf.md and gguf.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/file.h"
#include "src/files/gguf_types.h"

namespace tll {

inline constexpr uint32_t kGgufAlignment = 32;  // of tensors, where general.alignment is absent
inline constexpr uint64_t kGgufMostName = 63;   // bytes of a tensor's name, in ggml

// With the numbers of the file.
enum class GgufValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

struct GgufTensor {
  std::string_view name;  // of the mapped file, as are all views below
  GgufType type;
  std::vector<int64_t> shape;  // as Hugging Face has it: (rows, cols) of a matrix; empty: a number
  uint64_t begin, size;        // bytes of the file
};

// Opens a file and checks everything except the values of tensors: each length, count, type and offset against the file's size
// before it is used, names to be UTF-8 (texts are checked as they are read), keys and names to be different, tensors to lie one
// behind the other. Memory is a small multiple of what the file has. Error (kExitBadFile).
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;  // null: not in the file
  std::span<const std::byte> bytes(const GgufTensor& tensor) const;
  // Removes the tensor from resident memory (MappedFile::forget).
  void forget(const GgufTensor& tensor) const { file_.forget(tensor.begin, tensor.size); }

  // The value of a key; nothing if the file has none. Error (kExitBadFile) for a value of another kind.
  bool has(std::string_view key) const { return values_.contains(key); }
  std::optional<std::string_view> text(std::string_view key) const;
  std::optional<bool> flag(std::string_view key) const;
  std::optional<int64_t> integer(std::string_view key) const;       // of any integer type; one above 2^63-1 is refused
  std::optional<double> number(std::string_view key) const;         // of any type of numbers; finite
  std::vector<std::string_view> texts(std::string_view key) const;  // an array of strings; absent: empty
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<float> floats(std::string_view key) const;  // of f32 or f64, finite
  std::vector<std::string_view> keys() const;
  // Short, for a message: "5", "\"text\"", "an array of 12".
  std::string shown(std::string_view key) const;
  // "FILE: key KEY: expected WHAT, found …".
  [[noreturn]] void wrong(std::string_view key, std::string_view expected) const;

 private:
  struct Value {
    GgufValueType type, element;      // element: of an array
    uint64_t count;                   // elements of an array
    std::span<const std::byte> data;  // of a string its characters; of an array of strings their lengths, too
  };
  class Reader;
  void read_pairs(Reader&, uint64_t count);
  void read_tensors(Reader&, uint64_t count);
  const Value* value(std::string_view key) const;
  const Value* array(std::string_view key, std::string_view expected, bool (*fits)(GgufValueType)) const;

  std::filesystem::path path_;
  MappedFile file_;
  std::map<std::string_view, Value> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, size_t> by_name_;
};

}  // namespace tll
