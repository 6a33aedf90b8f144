#include "src/files/gguf_writer.h"

#include "src/base/check.h"
#include "src/files/gguf_quantize.h"
#include "src/files/modules.h"

namespace tll {
namespace {

template <class T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void append_text(std::string& bytes, std::string_view text) {
  append(bytes, uint64_t{text.size()});
  bytes += text;
}

}  // namespace

void GgufMetadata::begin(std::string_view key, GgufValueType type) {
  TLL_CHECK(keys_.emplace(key, true).second, "{} twice", key);
  append_text(bytes_, key);
  append(bytes_, type);
}

void GgufMetadata::begin_list(std::string_view key, GgufValueType type, uint64_t count) {
  begin(key, GgufValueType::array);
  append(bytes_, type);
  append(bytes_, count);
}

void GgufMetadata::add_text(std::string_view key, std::string_view value) {
  begin(key, GgufValueType::string);
  append_text(bytes_, value);
}

void GgufMetadata::add_flag(std::string_view key, bool value) {
  begin(key, GgufValueType::boolean);
  append(bytes_, static_cast<uint8_t>(value));
}

void GgufMetadata::add_uint(std::string_view key, int64_t value) {
  TLL_CHECK(value >= 0 && value <= UINT32_MAX, "{} {}", key, value);
  begin(key, GgufValueType::u32);
  append(bytes_, static_cast<uint32_t>(value));
}

void GgufMetadata::add_float(std::string_view key, double value) {
  begin(key, GgufValueType::f32);
  append(bytes_, static_cast<float>(value));
}

void GgufMetadata::add_texts(std::string_view key, const std::vector<std::string>& values) {
  begin_list(key, GgufValueType::string, values.size());
  for (const std::string& value : values) append_text(bytes_, value);
}

void GgufMetadata::add_ints(std::string_view key, std::span<const int32_t> values) {
  begin_list(key, GgufValueType::i32, values.size());
  for (const int32_t value : values) append(bytes_, value);
}

void GgufMetadata::add_floats(std::string_view key, std::span<const float> values) {
  begin_list(key, GgufValueType::f32, values.size());
  for (const float value : values) append(bytes_, value);
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
                       const std::vector<GgufTensorSpec>& tensors)
    : file_(path) {
  std::string header = "GGUF";
  append(header, uint32_t{3});
  append(header, uint64_t{tensors.size()});
  append(header, metadata.count());
  header += metadata.bytes();
  const auto aligned = [](uint64_t size) { return (size + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; };
  uint64_t offset = 0;
  for (const GgufTensorSpec& t : tensors) {
    TLL_CHECK(!t.name.empty() && t.name.size() <= kGgufMostName && !t.shape.empty(), "tensor {}", t.name);
    TLL_CHECK(t.shape.back() % gguf_type_row(t.type).block == 0, "{}: rows of {}", t.name, t.shape.back());
    append_text(header, t.name);
    append(header, static_cast<uint32_t>(t.shape.size()));
    for (size_t i = t.shape.size(); i-- > 0;) append(header, static_cast<uint64_t>(t.shape[i]));
    append(header, t.type);
    append(header, offset);
    const auto size = static_cast<uint64_t>(gguf_bytes(t.type, element_count(t.shape)));
    TLL_CHECK(places_.emplace(t.name, Place{offset, size}).second, "{} twice", t.name);
    offset = aligned(offset + size);
    expected_ += size;
  }
  const uint64_t data = aligned(header.size());
  header.resize(data, '\0');
  for (auto& [name, place] : places_) place.begin += data;
  file_.write(header);
  if (offset > 0) file_.write_at(data + offset - 1, "", 1);  // the padding behind the last tensor is there, too
}

void GgufWriter::put(const std::string& tensor, int64_t first, std::span<const std::byte> data) {
  const Place& place = places_.at(tensor);
  const auto from = static_cast<uint64_t>(first);
  TLL_CHECK(from <= place.size && data.size() <= place.size - from, "{}: {} + {} of {} bytes", tensor, from, data.size(),
            place.size);
  file_.write_at(place.begin + from, data.data(), data.size());
  written_ += data.size();
}

void GgufWriter::commit() {
  TLL_CHECK(written_ == expected_, "{} of {} bytes", written_, expected_);
  file_.commit();
}

}  // namespace tll
