// What a file looks like by its first bytes, so that a reader that cannot use it can say what was given and what to do.
//
// Sources: the signatures in each format's specification; git-lfs, docs/spec.md; torch 2, serialization.py (a zip archive with
// NAME/data.pkl, or in old files a bare pickle); numpy, format.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tll {

enum class FileKind : uint8_t {
  unknown,
  empty,
  zeros,  // nothing but zero bytes
  lfs_pointer,
  link_text,   // the target of a symbolic link, saved as text
  web_answer,  // what a server said instead of giving the file
  html,
  xml,
  utf16,
  utf32,
  gzip,
  xz,
  zstd,
  bzip2,
  lz4,
  seven_zip,
  rar,
  tar,
  torch_zip,  // torch.save
  numpy_zip,  // .npz
  office,     // .docx, .xlsx
  zip,
  torch_old,  // torch.save before torch 1.6
  pickle,
  numpy,
  hdf5,
  safetensors,
  gguf,
  ggml,  // the formats before GGUF
  sentencepiece,
  parquet,
  arrow,
  avro,
  orc,
  sqlite,
  pdf,
  rtf,
  old_office,  // .doc, .xls
  image,
  executable,
};

inline constexpr size_t kFileKindBytes = 512;  // the kind depends on no more of the file than this

// UTF-16 and UTF-32 are also recognised without a byte-order mark. Text in UTF-8 and JSON are unknown.
FileKind file_kind(std::string_view first_bytes);
inline FileKind file_kind(std::span<const std::byte> bytes) {
  return file_kind(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::string_view kind_name(FileKind);    // with its article: "a git-lfs pointer, not the file itself"; unknown: ""
std::string_view kind_advice(FileKind);  // "run `git lfs pull`, or download the file again"; unknown: ""

// "this looks like NAME; expected EXPECTED; ADVICE"; unknown: ""
std::string wrong_kind(FileKind, std::string_view expected);

}  // namespace tll
