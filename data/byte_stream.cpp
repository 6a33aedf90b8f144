#include "data/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/base/process.h"

namespace tll {
namespace {

constexpr size_t kChunk = size_t(1) << 17;

class FileBytes : public ByteStream {
 public:
  FileBytes(const std::filesystem::path& path, std::string name)
      : name_(std::move(name)), number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (number_ < 0) bad_file("{}: cannot be opened: {}", name_, std::strerror(errno));
    ::posix_fadvise(number_, 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  ~FileBytes() override { ::close(number_); }
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  size_t read(char* to, size_t size) override {
    for (;;) {
      const ssize_t got = ::read(number_, to, size);
      if (got < 0 && errno == EINTR) {
        if (stop_requested()) throw Stopped("reading data");
        continue;
      }
      if (got < 0 && errno == EISDIR) bad_file("{}: expected a file, found a directory", name_);
      if (got < 0) fail(kExitFault, "{}: cannot be read at byte {}: {}", name_, consumed_, std::strerror(errno));
      consumed_ += got;
      return size_t(got);
    }
  }
  void skip(int64_t bytes) override {
    if (::lseek(number_, bytes, SEEK_CUR) < 0) fail(kExitFault, "{}: cannot be read: {}", name_, std::strerror(errno));
    consumed_ += bytes;
  }
  int64_t consumed() const override { return consumed_; }

 private:
  std::string name_;
  int number_;
  int64_t consumed_ = 0;
};

class MemoryBytes : public ByteStream {
 public:
  explicit MemoryBytes(std::string text) : text_(std::move(text)) {}
  size_t read(char* to, size_t size) override {
    const size_t got = text_.copy(to, size, at_);
    at_ += got;
    return got;
  }
  void skip(int64_t bytes) override { at_ = std::min(text_.size(), at_ + size_t(bytes)); }
  int64_t consumed() const override { return int64_t(at_); }

 private:
  std::string text_;
  size_t at_ = 0;
};

// What gzip and zstd share: the compressed bytes that were read and not yet used.
class Decompressed : public ByteStream {
 public:
  Decompressed(std::unique_ptr<ByteStream> file, std::string name) : file_(std::move(file)), name_(std::move(name)) {}
  int64_t consumed() const override { return file_->consumed(); }

 protected:
  // Reads more if all bytes are used; false at the end of the file.
  bool fill() {
    if (used_ < size_) return true;
    size_ = file_->read(input_.data(), input_.size());
    used_ = 0;
    return size_ > 0;
  }
  [[noreturn]] void damaged(const char* kind, std::string_view reason) const {
    bad_file("{}: the {} data is damaged near byte {} of the file: {}; compress or download the file again", name_, kind,
             file_->consumed() - int64_t(size_ - used_), reason);
  }
  [[noreturn]] void cut_off(const char* kind) const {
    bad_file("{}: the {} data is cut off: the file ends after {} bytes, inside a stream; compress or download it again", name_,
             kind, file_->consumed());
  }

  std::unique_ptr<ByteStream> file_;
  std::string name_;
  std::vector<char> input_ = std::vector<char>(kChunk);
  size_t used_ = 0, size_ = 0;
};

class GzipBytes : public Decompressed {
 public:
  GzipBytes(std::unique_ptr<ByteStream> file, std::string name) : Decompressed(std::move(file), std::move(name)) {
    constexpr int kGzipAlone = 16;
    TLL_CHECK(inflateInit2(&stream_, MAX_WBITS + kGzipAlone) == Z_OK, "zlib {}", zlibVersion());
  }
  ~GzipBytes() override { inflateEnd(&stream_); }
  GzipBytes(const GzipBytes&) = delete;
  GzipBytes& operator=(const GzipBytes&) = delete;

  size_t read(char* to, size_t size) override {
    size = std::min(size, size_t(1) << 30);
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = uInt(size);
    while (stream_.avail_out == size) {
      if (between_ && !next_member()) return 0;
      if (!fill()) cut_off("gzip");
      stream_.next_in = reinterpret_cast<Bytef*>(input_.data() + used_);
      stream_.avail_in = uInt(size_ - used_);
      const int result = inflate(&stream_, Z_NO_FLUSH);
      used_ = size_ - stream_.avail_in;
      if (result == Z_STREAM_END)
        between_ = true;
      else if (result != Z_OK && result != Z_BUF_ERROR)
        damaged("gzip", stream_.msg ? stream_.msg : "no valid stream");
    }
    return size - stream_.avail_out;
  }

 private:
  // Behind a member stands another one, or zeros that fill up a block of a tape, or nothing.
  bool next_member() {
    while (fill() && !first_ && input_[used_] == 0) ++used_, zeros_ = true;
    if (!fill()) return false;
    if (zeros_ || (!first_ && uint8_t(input_[used_]) != 0x1F)) damaged("gzip", "other bytes stand behind the stream");
    first_ = between_ = false;
    inflateReset(&stream_);
    return true;
  }

  z_stream stream_ = {};
  bool between_ = true, first_ = true, zeros_ = false;
};

class ZstdBytes : public Decompressed {
 public:
  ZstdBytes(std::unique_ptr<ByteStream> file, std::string name)
      : Decompressed(std::move(file), std::move(name)), stream_(ZSTD_createDStream()) {
    TLL_CHECK(stream_, "zstd {}", ZSTD_versionString());
  }
  ~ZstdBytes() override { ZSTD_freeDStream(stream_); }
  ZstdBytes(const ZstdBytes&) = delete;
  ZstdBytes& operator=(const ZstdBytes&) = delete;

  size_t read(char* to, size_t size) override {
    ZSTD_outBuffer out{to, size, 0};
    while (out.pos == 0) {
      // A full buffer may have left decompressed bytes in the stream, so that it goes on without input.
      if (!fill() && !pending_) {
        if (inside_) cut_off("zstd");
        return 0;
      }
      ZSTD_inBuffer in{input_.data(), size_, used_};
      const size_t result = ZSTD_decompressStream(stream_, &out, &in);
      used_ = in.pos;
      if (ZSTD_isError(result)) {
        const bool window = ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge;
        damaged("zstd",
                window ? "its window is above 128 MiB (compress it without --long=28 or more)" : ZSTD_getErrorName(result));
      }
      inside_ = result != 0;
      pending_ = inside_ && out.pos == out.size;
    }
    return out.pos;
  }

 private:
  ZSTD_DStream* stream_;
  bool inside_ = false, pending_ = false;
};

}  // namespace

void ByteStream::skip(int64_t bytes) {
  std::vector<char> ignored(kChunk);
  while (bytes > 0) {
    const size_t got = read(ignored.data(), size_t(std::min<int64_t>(bytes, int64_t(ignored.size()))));
    if (got == 0) return;
    bytes -= int64_t(got);
  }
}

std::unique_ptr<ByteStream> open_bytes(const std::filesystem::path& path, const std::string& name, Compression* compression) {
  char magic[4] = {};
  const size_t size = FileBytes(path, name).read(magic, sizeof magic);
  const std::string_view head(magic, size);
  // Of a zstd file the first frame may be one that is to be skipped.
  const bool skippable = size == 4 && head.substr(1) == "\x2A\x4D\x18" && (uint8_t(magic[0]) & 0xF0) == 0x50;
  const Compression found = head.starts_with("\x1F\x8B\x08")                    ? Compression::kGzip
                            : head.starts_with("\x28\xB5\x2F\xFD") || skippable ? Compression::kZstd
                                                                                : Compression::kNone;
  if (compression) *compression = found;
  auto file = std::make_unique<FileBytes>(path, name);
  if (found == Compression::kGzip) return std::make_unique<GzipBytes>(std::move(file), name);
  if (found == Compression::kZstd) return std::make_unique<ZstdBytes>(std::move(file), name);
  return file;
}

std::unique_ptr<ByteStream> open_pipe(const std::filesystem::path& path, const std::string& name) {
  return std::make_unique<FileBytes>(path, name);
}

std::unique_ptr<ByteStream> bytes_of(std::string text) { return std::make_unique<MemoryBytes>(std::move(text)); }

}  // namespace tll
