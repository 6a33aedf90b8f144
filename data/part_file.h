// The files that a data set is prepared into, each growing at its end: with names, so that an interrupted run can go on, or
// without, on the disk or in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace tll {

class PartFile {
 public:
  // Read and written. A file of this name is kept as it is. Error as those of src/base/file.h.
  static PartFile named(const std::filesystem::path& path);
  static PartFile unnamed();    // in TMPDIR, else /var/tmp
  static PartFile in_memory();  // of the process alone
  PartFile(PartFile&& other) noexcept;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  void append(const void* data, uint64_t bytes);
  uint64_t size() const { return size_ + buffer_.size(); }
  void truncate(uint64_t size);
  void write_at(uint64_t offset, std::string_view bytes);  // of what has been flushed
  void flush();                                            // what was appended is in the file
  void sync();                                             // and on the disk
  // Exactly these bytes; flushes before.
  void read(uint64_t offset, void* data, uint64_t bytes);
  // Hands all bytes from `begin` on to `take`, a mebibyte at a time.
  void read_all(uint64_t begin, const std::function<void(std::string_view)>& take);
  // A path by which this process and its children can open the file, even if it has no name.
  std::filesystem::path path() const;

 private:
  PartFile(int descriptor, std::string name, std::string advice);
  [[noreturn]] void fail_to(const char* verb) const;

  int descriptor_;
  std::string name_, advice_;  // the advice is for a full disk
  std::string buffer_;
  uint64_t size_ = 0;  // without the buffer
};

// Elements of one type in a part file.
template <class T>
class Part {
 public:
  explicit Part(PartFile file) : file_(std::move(file)) {}
  void append(const T* values, uint64_t count) { file_.append(values, count * sizeof(T)); }
  void append(const T& value) { append(&value, 1); }
  uint64_t size() const { return file_.size() / sizeof(T); }
  PartFile& file() { return file_; }
  // Hands each element to `visit`, from `begin` on.
  template <class Visit>
  void for_each(Visit&& visit, uint64_t begin = 0) {
    file_.read_all(begin * sizeof(T), [&](std::string_view bytes) {
      const T* const values = reinterpret_cast<const T*>(bytes.data());
      for (size_t i = 0; i < bytes.size() / sizeof(T); ++i) visit(values[i]);
    });
  }

 private:
  PartFile file_;
};

}  // namespace tll
