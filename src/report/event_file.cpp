#include "src/report/event_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "src/base/file.h"
#include "src/report/crc32c.h"

namespace tll {
namespace {

template <class Unsigned>
void append_little_endian(std::string& out, Unsigned value) {
  for (size_t byte = 0; byte < sizeof value; byte++) out += static_cast<char>(value >> (8 * byte) & 0xff);
}

// Protocol buffers' wire format: fields are a key (number and kind) and a value.
enum class Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

size_t varint_size(uint64_t value) { return (static_cast<size_t>(std::bit_width(value | 1)) + 6) / 7; }

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}
void append_key(std::string& out, uint32_t field, Wire kind) { append_varint(out, field << 3 | static_cast<uint32_t>(kind)); }
void append_varint_field(std::string& out, uint32_t field, uint64_t value) {
  append_key(out, field, Wire::kVarint);
  append_varint(out, value);
}
// The head of a field of so many bytes: a string, or another message.
void append_head(std::string& out, uint32_t field, size_t bytes) {
  append_key(out, field, Wire::kBytes);
  append_varint(out, bytes);
}
void append_bytes_field(std::string& out, uint32_t field, std::string_view bytes) {
  append_head(out, field, bytes.size());
  out += bytes;
}
// Bytes of a field with a one-byte key, as all are here.
size_t field_size(size_t bytes) { return 1 + varint_size(bytes) + bytes; }
constexpr size_t kFloatField = 1 + sizeof(float);

// Numbers of the fields.
namespace event {
constexpr uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace session_log {
constexpr uint32_t kStatus = 1;
constexpr uint64_t kStart = 1;
}  // namespace session_log
namespace summary {
constexpr uint32_t kValue = 1;
}
namespace value {
constexpr uint32_t kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9;
}
namespace tensor {
constexpr uint32_t kDtype = 1, kShape = 2, kStrings = 8;
constexpr uint64_t kStringType = 7;
}  // namespace tensor
namespace metadata {
constexpr uint32_t kPlugin = 1, kDataClass = 4;
constexpr uint64_t kTensorClass = 2;
}  // namespace metadata
namespace plugin {
constexpr uint32_t kName = 1;
}

std::string host_name() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0) return "localhost";
  std::string host = name;
  for (char& c : host)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '.') c = '_';
  return host.empty() ? "localhost" : host;
}

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

void begin_event(std::string& event, int64_t step) {
  event.clear();
  append_key(event, event::kWallTime, Wire::kFixed64);
  append_little_endian(event, std::bit_cast<uint64_t>(now()));
  append_varint_field(event, event::kStep, static_cast<uint64_t>(step));
}

}  // namespace

void append_record(std::string& out, std::string_view event) {
  const size_t begin = out.size();
  append_little_endian(out, uint64_t{event.size()});
  append_little_endian(out, masked_crc32c(std::string_view(out).substr(begin)));
  out += event;
  append_little_endian(out, masked_crc32c(event));
}

EventFile::EventFile(const std::filesystem::path& directory, std::optional<int64_t> first_step) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const std::string host = host_name();
  const auto seconds = static_cast<int64_t>(now());
  constexpr int kMost = 1000;  // files of one second and process
  for (int n = 0; file_ < 0 && n < kMost; n++) {
    path_ = directory / fmt::format("events.out.tfevents.{:010}.{}.{}.{}", seconds, host, getpid(), n);
    file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (file_ < 0 && errno != EEXIST) break;
  }
  if (file_ < 0) {
    fail();
    return;
  }
  begin_event(event_, 0);
  append_bytes_field(event_, event::kFileVersion, "brain.Event:2");
  write_event();
  if (!first_step) return;
  begin_event(event_, *first_step);
  append_head(event_, event::kSessionLog, 2);
  append_varint_field(event_, session_log::kStatus, session_log::kStart);
  write_event();
}

EventFile::~EventFile() {
  if (file_ >= 0) close(file_);
}

void EventFile::scalars(int64_t step, std::span<const Scalar> scalars) {
  if (file_ < 0) return;
  size_t size = 0;
  const auto value_size = [](const Scalar& s) { return field_size(s.tag.size()) + kFloatField; };
  for (const Scalar& s : scalars) size += field_size(value_size(s));
  begin_event(event_, step);
  append_head(event_, event::kSummary, size);
  for (const Scalar& s : scalars) {
    append_head(event_, summary::kValue, value_size(s));
    append_bytes_field(event_, value::kTag, s.tag);
    append_key(event_, value::kSimpleValue, Wire::kFixed32);
    append_little_endian(event_, std::bit_cast<uint32_t>(static_cast<float>(s.value)));
  }
  write_event();
}

// Text is Markdown to TensorBoard: four blanks before each line make it a block of code, in which nothing is markup.
void EventFile::text(int64_t step, std::string_view tag, std::string_view text) {
  if (file_ < 0) return;
  std::string block = "    ";
  for (const char c : text) {
    if (c != '\r') block += c;
    if (c == '\n') block += "    ";
  }
  std::string plugin, metadata, tensor, value, summary;
  append_bytes_field(plugin, plugin::kName, "text");
  append_bytes_field(metadata, metadata::kPlugin, plugin);
  append_varint_field(metadata, metadata::kDataClass, metadata::kTensorClass);
  append_varint_field(tensor, tensor::kDtype, tensor::kStringType);
  append_head(tensor, tensor::kShape, 0);  // a scalar
  append_bytes_field(tensor, tensor::kStrings, block);
  append_bytes_field(value, value::kTag, tag);
  append_bytes_field(value, value::kTensor, tensor);
  append_bytes_field(value, value::kMetadata, metadata);
  append_bytes_field(summary, summary::kValue, value);
  begin_event(event_, step);
  append_bytes_field(event_, event::kSummary, summary);
  write_event();
}

void EventFile::write_event() {
  record_.clear();
  append_record(record_, event_);
  if (!write_all(file_, record_)) fail();
}

void EventFile::fail() {
  failure_ = fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(errno));
  if (file_ >= 0) close(file_);
  file_ = -1;
}

}  // namespace tll
