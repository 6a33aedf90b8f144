#include "data/part_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "src/base/check.h"
#include "src/base/file.h"

namespace tll {
namespace {

// Divisible by the sizes of what parts hold, so that read_all() cuts between elements.
constexpr uint64_t kBlock = uint64_t{48} << 14;

}  // namespace

PartFile::PartFile(int descriptor, std::string name, std::string advice)
    : descriptor_(descriptor), name_(std::move(name)), advice_(std::move(advice)) {
  struct stat status;
  if (descriptor_ < 0) bad_file("{}: cannot be created: {}", name_, std::strerror(errno));
  if (::fstat(descriptor_, &status) == 0) size_ = uint64_t(status.st_size);
}

PartFile PartFile::named(const std::filesystem::path& path) {
  return {::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666), path.string(),
          "what is written is kept: make room and run the same command again, or remove it"};
}

PartFile PartFile::unnamed() {
  const char* named = std::getenv("TMPDIR");
  const std::string directory = named && *named ? named : "/var/tmp";
  int descriptor = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor < 0) {  // a file system without unnamed files
    std::string path = directory + "/tll-XXXXXX";
    descriptor = ::mkostemp(path.data(), O_CLOEXEC);
    if (descriptor >= 0) ::unlink(path.c_str());
  }
  return {descriptor, directory + ": a temporary file",
          "name a directory with room by TMPDIR, or make a squad.bin with `prepare` and train on that"};
}

PartFile PartFile::in_memory() {
  return {::memfd_create("squad.bin", MFD_CLOEXEC), "a file in memory", "make a squad.bin with `prepare` and train on that"};
}

PartFile::PartFile(PartFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      name_(std::move(other.name_)),
      advice_(std::move(other.advice_)),
      buffer_(std::move(other.buffer_)),
      size_(other.size_) {}

PartFile::~PartFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void PartFile::fail_to(const char* verb) const {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  fail(kExitFault, "{}: cannot be {}: {}{}{}", name_, verb, std::strerror(errno), full ? "; " : "", full ? advice_ : "");
}

void PartFile::append(const void* data, uint64_t bytes) {
  if (buffer_.size() + bytes > kBlock) flush();
  if (bytes >= kBlock) {
    write_at(size_, {static_cast<const char*>(data), bytes});
  } else {
    buffer_.append(static_cast<const char*>(data), bytes);
  }
}

void PartFile::write_at(uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(descriptor_, bytes.data(), bytes.size(), off_t(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail_to("written");
    bytes.remove_prefix(size_t(put));
    offset += uint64_t(put);
    size_ = std::max(size_, offset);
  }
}

void PartFile::flush() {
  write_at(size_, buffer_);
  buffer_.clear();
}

void PartFile::sync() {
  flush();
  if (::fdatasync(descriptor_) != 0) fail_to("flushed to the disk");
}

void PartFile::truncate(uint64_t size) {
  flush();
  if (::ftruncate(descriptor_, off_t(size)) != 0) fail_to("shortened");
  size_ = size;
}

void PartFile::read(uint64_t offset, void* data, uint64_t bytes) {
  flush();
  for (char* to = static_cast<char*>(data); bytes > 0;) {
    const ssize_t got = ::pread(descriptor_, to, bytes, off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_to("read");
    if (got == 0) fail(kExitFault, "{}: it has become shorter while it was used", name_);
    to += got, offset += uint64_t(got), bytes -= uint64_t(got);
  }
}

void PartFile::read_all(uint64_t begin, const std::function<void(std::string_view)>& take) {
  const uint64_t end = size();
  const auto block = std::make_unique<uint64_t[]>(kBlock / sizeof(uint64_t));
  for (uint64_t at = begin; at < end;) {
    const uint64_t bytes = std::min(kBlock, end - at);
    read(at, block.get(), bytes);
    take({reinterpret_cast<const char*>(block.get()), bytes});
    at += bytes;
  }
}

std::filesystem::path PartFile::path() const { return fmt::format("/proc/{}/fd/{}", ::getpid(), descriptor_); }

}  // namespace tll
