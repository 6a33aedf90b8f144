// The bytes of a data file, one after another: as they are, or out of gzip or zstd. What is compressed tells its first bytes, not
// its name.
//
// Sources: RFC 1952 (gzip; members stand one after another), RFC 8878 (zstd; so do frames, and some are to be skipped).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace tll {

class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // Up to `size` bytes, at least one; 0 at the end. Error (kExitBadFile) for compressed bytes that are damaged or cut off,
  // (kExitFault) if the file cannot be read.
  virtual size_t read(char* to, size_t size) = 0;
  // Leaves out bytes; fewer if the stream ends.
  virtual void skip(int64_t bytes);
  // Bytes of the file, as it lies on the disk, that have been read: for a progress bar.
  virtual int64_t consumed() const = 0;
};

enum class Compression { kNone, kGzip, kZstd };

// `name` stands for the file in messages. `compression`, if given, is set.
std::unique_ptr<ByteStream> open_bytes(const std::filesystem::path& path, const std::string& name,
                                       Compression* compression = nullptr);
// What comes out of a pipe, which can be opened once: as it is.
std::unique_ptr<ByteStream> open_pipe(const std::filesystem::path& path, const std::string& name);
// Bytes that are in memory.
std::unique_ptr<ByteStream> bytes_of(std::string text);

}  // namespace tll
