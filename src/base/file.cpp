#include "src/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "src/base/check.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

// Closes the descriptor, also when an error is thrown.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

// Opened for reading, and no directory. Error (kExitBadFile) with the reason.
struct Opened : Descriptor {
  explicit Opened(const fs::path& path, int flags = 0) : Descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags)} {
    if (number < 0 && errno == ENOENT) bad_file("{}: no such file", path.string());
    if (number < 0) bad_file("{}: cannot be opened: {}", path.string(), std::strerror(errno));
    if (::fstat(number, &status) != 0) bad_file("{}: cannot be examined: {}", path.string(), std::strerror(errno));
    if (S_ISDIR(status.st_mode)) bad_file("{}: expected a file, found a directory", path.string());
  }
  struct stat status;
};

}  // namespace

std::string read_file(const fs::path& path) {
  const Opened file(path);
  if (!S_ISREG(file.status.st_mode) && !S_ISFIFO(file.status.st_mode))
    bad_file("{}: expected a regular file or a pipe, found a device or socket", path.string());
  // A small file needs one small buffer; its size is only where to begin.
  const size_t chunk = std::clamp(size_t(file.status.st_size) + 1, size_t(1) << 12, size_t(1) << 20);
  std::string content;
  size_t used = 0;
  for (;;) {
    if (content.size() == used) content.resize(std::max(used + chunk, used + used / 2));
    const ssize_t got = ::read(file.number, content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(kExitFault, "{}: cannot be read at byte {}: {}", path.string(), used, std::strerror(errno));
    if (got == 0) break;
    used += size_t(got);
  }
  content.resize(used);
  return content;
}

MappedFile::MappedFile(const fs::path& path) {
  const Opened file(path, O_NONBLOCK);  // without O_NONBLOCK, opening a pipe waits for a writer
  if (!S_ISREG(file.status.st_mode)) bad_file("{}: expected a regular file, found a pipe, device or socket", path.string());
  const size_t size = size_t(file.status.st_size);
  if (size == 0) return;  // mmap refuses a length of 0
  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (mapped == MAP_FAILED) fail(kExitFault, "{}: cannot be mapped ({} bytes): {}", path.string(), size, std::strerror(errno));
  data_ = {static_cast<std::byte*>(mapped), Unmap{size}};
}

void MappedFile::Unmap::operator()(std::byte* data) const { ::munmap(data, size); }

std::span<std::byte> MappedFile::writable(size_t begin, size_t size) {
  const size_t all = bytes().size();
  TLL_CHECK(begin <= all && size <= all - begin, "begin {} size {} of {}", begin, size, all);
  const size_t page = size_t(::sysconf(_SC_PAGESIZE)), first = begin / page * page;
  if (size > 0 && ::mprotect(data_.get() + first, begin + size - first, PROT_READ | PROT_WRITE) != 0)
    fail(kExitFault, "{} bytes of a mapped file cannot be made writable: {}", size, std::strerror(errno));
  return {data_.get() + begin, size};
}

void MappedFile::forget(size_t begin, size_t size) const {
  const size_t all = bytes().size();
  TLL_CHECK(begin <= all && size <= all - begin, "begin {} size {} of {}", begin, size, all);
  const size_t page = size_t(::sysconf(_SC_PAGESIZE));
  const size_t first = (begin + page - 1) / page * page;
  const size_t last = (begin + size) / page * page;
  if (first < last) ::madvise(data_.get() + first, last - first, MADV_DONTNEED);
}

AtomicFile::AtomicFile(const fs::path& path) {
  std::error_code error;
  path_ = fs::weakly_canonical(path, error);  // follows links, so that the target is replaced
  if (error) path_ = path;
  const fs::file_status status = fs::status(path_, error);
  if (fs::is_directory(status)) bad_file("{}: expected a file to write, found a directory", path.string());
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) bad_file("{}: cannot be written: {}", path.string(), std::strerror(errno));
    return;
  }
  static std::atomic<unsigned> counter = 0;
  do {  // a killed run may have left a file of this name
    temporary_ = path_.parent_path() / fmt::format(".{}.{}-{}.tmp", path_.filename().string(), ::getpid(), counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) bad_file("{}: cannot be created: {}", path.string(), std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view text) {
  TLL_CHECK(descriptor_ >= 0, "{} written after commit", path_.string());
  if (!write_all(descriptor_, text)) fail(kExitFault, "{}: cannot be written: {}", path_.string(), std::strerror(errno));
}

void AtomicFile::write_at(size_t offset, const void* data, size_t size) {
  TLL_CHECK(descriptor_ >= 0 && !temporary_.empty(), "{} written at {}", path_.string(), offset);
  for (const char* next = static_cast<const char*>(data); size > 0;) {
    const ssize_t put = ::pwrite(descriptor_, next, size, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail(kExitFault, "{}: cannot be written: {}", path_.string(), std::strerror(errno));
    next += put, offset += static_cast<size_t>(put), size -= static_cast<size_t>(put);
  }
}

void AtomicFile::commit() {
  TLL_CHECK(descriptor_ >= 0, "{} committed twice", path_.string());
  const bool direct = temporary_.empty();
  if (!direct && ::fsync(descriptor_) != 0)
    fail(kExitFault, "{}: cannot be flushed to the disk: {}", path_.string(), std::strerror(errno));
  if (!direct && ::rename(temporary_.c_str(), path_.c_str()) != 0)
    fail(kExitFault, "{}: cannot be renamed from {}: {}", path_.string(), temporary_.string(), std::strerror(errno));
  ::close(std::exchange(descriptor_, -1));
  if (direct) return;
  const fs::path parent = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  flush_directory(parent);
}

void flush_directory(const fs::path& directory) {
  const Descriptor opened{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (opened.number >= 0) ::fsync(opened.number);  // some file systems cannot; a rename is done anyway
}

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(descriptor, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    text.remove_prefix(size_t(put));
  }
  return true;
}

void replace_directory(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (std::filesystem::exists(to)) {
    if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
      std::filesystem::remove_all(from);
      return;
    }
    std::filesystem::remove_all(to);
  }
  std::filesystem::rename(from, to);
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace tll
