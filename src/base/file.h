// Files: read whole, mapped, or replaced atomically.
//
// Errors are tll::Error: kExitBadFile if the path is wrong (missing, a directory, not permitted), kExitFault if the machine
// fails (disk full, input/output error).
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tll {

// The whole content of a regular file or a pipe. The buffer grows while reading, so a wrong file size does no harm.
std::string read_file(const std::filesystem::path& path);

// A read-only mapping of a regular file. Pages are read when they are touched, so mapping a large file costs nothing.
// The file must not be shortened while it is mapped: touching what is gone ends the process. The writers here never shorten a
// file, they rename a new one over it.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);

  std::span<const std::byte> bytes() const { return {data_.get(), data_.get_deleter().size}; }

  // From now on these bytes may be written, in memory alone: the file does not change.
  std::span<std::byte> writable(size_t begin, size_t size);

  // Removes the whole pages inside [begin, begin + size) from resident memory, for a large file that is read once. The bytes
  // stay valid: the next access reads them again.
  void forget(size_t begin, size_t size) const;

 private:
  struct Unmap {
    size_t size;  // 0 where nothing is mapped
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Unmap> data_;
};

// Writes to a temporary file in the same directory. commit() flushes it to the disk, renames it over `path` and flushes the
// directory. So after a crash or a power cut `path` is either the old file or the new one. Without commit() nothing remains.
// If `path` is a pipe or a device (/dev/stdout), it is written directly, because there is no file to replace.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size) { write({static_cast<const char*>(data), size}); }
  void write(std::string_view text);
  // At this byte of the file; for a file, not a pipe. Bytes that are never written are 0.
  void write_at(size_t offset, const void* data, size_t size);
  void commit();

 private:
  std::filesystem::path path_;       // links followed
  std::filesystem::path temporary_;  // empty: path_ is written directly
  int descriptor_ = -1;
};

// Writes the whole text, also where signals interrupt it. False, with the reason in errno, if it cannot.
bool write_all(int descriptor, std::string_view text);
// Renames inside the directory are on the disk afterwards, where the file system can do that.
void flush_directory(const std::filesystem::path& directory);

// Renames a directory over another, or to a new name. Where the file system can exchange two names, and Linux' common ones can, a
// directory of the name `to` is there at every moment.
void replace_directory(const std::filesystem::path& from, const std::filesystem::path& to);

void write_file_atomic(const std::filesystem::path& path, std::string_view content);

}  // namespace tll
