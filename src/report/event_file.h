// Event files of TensorBoard: scalars and texts by step, readable while they are being written.
//
// A file is a row of TFRecords, each one Event (a protocol buffer; tensorboard/compat/proto/event.proto):
//   u64 length · u32 masked CRC-32C of the length · the event · u32 masked CRC-32C of the event      (little endian)
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tll {

// One TFRecord, appended to `out`.
void append_record(std::string& out, std::string_view event);

struct Scalar {
  std::string_view tag;  // "train/loss"
  double value;          // held as a float
};

// A write that fails ends the writing, not the run: from then on nothing is written, and failure() says why.
class EventFile {
 public:
  // Makes the directory and in it a new file, whose name follows those of earlier ones when sorted. `first_step`: events of
  // earlier files at this step or later are dropped by readers, as steps that a resumed run does again.
  EventFile(const std::filesystem::path& directory, std::optional<int64_t> first_step);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // One event with all of them, written to the file at once. No allocation once the longest was written.
  void scalars(int64_t step, std::span<const Scalar> scalars);
  // Shown as it is, without markup, under "Text".
  void text(int64_t step, std::string_view tag, std::string_view text);

  const std::filesystem::path& path() const { return path_; }
  const std::string& failure() const { return failure_; }  // empty: none

 private:
  void write_event();  // event_
  void fail();         // with the reason in errno

  std::filesystem::path path_;
  std::string event_, record_;
  std::string failure_;
  int file_ = -1;
};

}  // namespace tll
