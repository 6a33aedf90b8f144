#include "src/files/gguf_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/base/check.h"
#include "src/base/file_kind.h"
#include "src/base/json.h"
#include "src/base/utf8_length.h"

namespace tll {

namespace {

namespace fs = std::filesystem;

// Far above any model, so that a file of nothing but names cannot take much memory.
constexpr uint64_t kMost = 1 << 17;  // pairs, and tensors
constexpr uint64_t kMostKey = 65535;
constexpr uint32_t kMostDimensions = 4;
constexpr const char* kAlignment = "general.alignment";
constexpr const char* kAgain = "download the file again";

struct ValueRow {
  const char* name;
  size_t bytes;  // the fewest of a value
};
constexpr ValueRow kValues[] = {{"u8", 1},   {"i8", 1},     {"u16", 2},    {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
                                {"bool", 1}, {"string", 8}, {"array", 12}, {"u64", 8}, {"i64", 8}, {"f64", 8}};
size_t bytes_of(GgufValueType type) { return kValues[static_cast<size_t>(type)].bytes; }
const char* name_of(GgufValueType type) { return kValues[static_cast<size_t>(type)].name; }

bool is_integer(GgufValueType type) {
  return type != GgufValueType::f32 && type != GgufValueType::f64 && type != GgufValueType::boolean &&
         type != GgufValueType::string && type != GgufValueType::array;
}
bool is_float(GgufValueType type) { return type == GgufValueType::f32 || type == GgufValueType::f64; }
bool is_string(GgufValueType type) { return type == GgufValueType::string; }

// The bytes at `data`, which are in the file, as a number of type T.
template <class T>
T load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

// Nothing: it is above 2^63-1.
std::optional<int64_t> integer_at(GgufValueType type, const std::byte* data) {
  switch (type) {
    case GgufValueType::u8:
      return load<uint8_t>(data);
    case GgufValueType::i8:
      return load<int8_t>(data);
    case GgufValueType::u16:
      return load<uint16_t>(data);
    case GgufValueType::i16:
      return load<int16_t>(data);
    case GgufValueType::u32:
      return load<uint32_t>(data);
    case GgufValueType::i32:
      return load<int32_t>(data);
    case GgufValueType::i64:
      return load<int64_t>(data);
    default:
      break;
  }
  const auto value = load<uint64_t>(data);
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return static_cast<int64_t>(value);
}
double float_at(GgufValueType type, const std::byte* data) {
  return type == GgufValueType::f32 ? static_cast<double>(load<float>(data)) : load<double>(data);
}

}  // namespace

// Reads the header from its beginning.
class GgufFile::Reader {
 public:
  Reader(const fs::path& path, std::span<const std::byte> all) : path_(path), all_(all) {}

  uint64_t at() const { return at_; }
  uint64_t left() const { return all_.size() - at_; }
  template <class T>
  T number(const char* what) {
    return load<T>(take(sizeof(T), what).data());
  }
  std::span<const std::byte> take(uint64_t size, const char* what) {
    if (size > left())
      bad_file("{}: byte {}: {} of {} bytes does not fit into the file of {} bytes: truncated, or damaged; {}", path_.string(),
               at_, what, size, all_.size(), kAgain);
    at_ += size;
    return all_.subspan(at_ - size, size);
  }
  std::string_view string(const char* what) {
    const std::span<const std::byte> text = take(number<uint64_t>(what), what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }
  // A key or a name, which messages show.
  std::string_view name(const char* what, uint64_t most) {
    const uint64_t begin = at_;
    const std::string_view text = string(what);
    if (text.empty() || text.size() > most || !is_utf8(text))
      bad_file("{}: byte {}: {} {}: expected 1 to {} bytes of UTF-8; {}", path_.string(), begin, what, in_quotes(text), most,
               kAgain);
    return text;
  }
  GgufValueType type(std::string_view key) {
    const auto number = this->number<uint32_t>("a type");
    if (number >= std::size(kValues))
      bad_file("{}: key {}: the type {} is not known; {}", path_.string(), in_quotes(key), number, kAgain);
    return GgufValueType{number};
  }

 private:
  const fs::path& path_;
  std::span<const std::byte> all_;
  uint64_t at_ = 0;
};

GgufFile::GgufFile(const fs::path& path) : path_(path), file_(path) {
  const std::span<const std::byte> all = file_.bytes();
  if (const FileKind kind = file_kind(all); kind != FileKind::gguf) {
    if (kind != FileKind::unknown) bad_file("{}: {}", path.string(), wrong_kind(kind, "a GGUF file"));
    bad_file("{}: expected a GGUF file, which begins with \"GGUF\"", path.string());
  }
  Reader in(path_, all);
  const std::span<const std::byte> magic = in.take(4, "the header");
  const auto version = in.number<uint32_t>("the header");
  if (magic[0] != std::byte{'G'} || (version & 0xFFFF) == 0)
    bad_file("{}: this GGUF file is for machines of the other byte order; take one that is little endian", path.string());
  if (version != 2 && version != 3)
    bad_file("{}: GGUF version {}: expected 2 or 3{}", path.string(), version,
             version == 1 ? "; convert it again with a newer llama.cpp" : "");
  const auto tensors = in.number<uint64_t>("the header"), pairs = in.number<uint64_t>("the header");
  // A pair takes at least 14 bytes, a tensor 33.
  if (pairs > kMost || tensors > kMost || pairs > in.left() / 14 || tensors > in.left() / 33)
    bad_file("{}: {} pairs and {} tensors do not fit into a file of {} bytes, or are more than {}: truncated, or damaged; {}",
             path.string(), pairs, tensors, all.size(), kMost, kAgain);
  read_pairs(in, pairs);
  read_tensors(in, tensors);
}

void GgufFile::read_pairs(Reader& in, uint64_t count) {
  const auto refuse = [&](std::string_view key, const std::string& what) {
    bad_file("{}: key {}: {}; {}", path_.string(), in_quotes(key), what, kAgain);
  };
  for (uint64_t i = 0; i < count; i++) {
    const std::string_view key = in.name("a key", kMostKey);
    Value value{in.type(key), GgufValueType::u8, 1, {}};
    if (value.type == GgufValueType::array) {
      value.element = in.type(key);
      value.count = in.number<uint64_t>("a count");
      if (value.element == GgufValueType::array) refuse(key, "an array of arrays");
      if (value.count > in.left() / bytes_of(value.element))
        refuse(key, fmt::format("{} elements of {} do not fit into the file", value.count, name_of(value.element)));
      const uint64_t begin = in.at();
      if (value.element == GgufValueType::string)
        for (uint64_t k = 0; k < value.count; k++) in.string("a string");
      else
        in.take(value.count * bytes_of(value.element), "an array");
      value.data = file_.bytes().subspan(begin, in.at() - begin);
    } else if (value.type == GgufValueType::string) {
      value.data = std::as_bytes(std::span(in.string("a string")));
    } else {
      value.data = in.take(bytes_of(value.type), "a value");
    }
    if (value.type == GgufValueType::boolean && std::to_integer<int>(value.data[0]) > 1)
      refuse(key, fmt::format("{} is neither true nor false", std::to_integer<int>(value.data[0])));
    if (!values_.emplace(key, value).second) refuse(key, "the key appears twice");
  }
}

void GgufFile::read_tensors(Reader& in, uint64_t count) {
  uint64_t alignment = kGgufAlignment;
  if (const auto given = integer(kAlignment)) {
    if (*given <= 0 || *given > (int64_t(1) << 30) || (*given & (*given - 1)) != 0) wrong(kAlignment, "a power of two");
    alignment = static_cast<uint64_t>(*given);
  }
  const auto aligned = [&](uint64_t at) { return (at + alignment - 1) / alignment * alignment; };
  tensors_.reserve(count);
  uint64_t expected = 0;
  for (uint64_t i = 0; i < count; i++) {
    GgufTensor& t = tensors_.emplace_back();
    t.name = in.name("a tensor's name", kGgufMostName);
    const auto refuse = [&](const std::string& what) { bad_file("{}: tensor {}: {}", path_.string(), in_quotes(t.name), what); };
    if (!by_name_.emplace(t.name, i).second) refuse("appears twice");
    const auto dimensions = in.number<uint32_t>("a tensor");
    if (dimensions == 0 || dimensions > kMostDimensions)
      refuse(fmt::format("expected 1 to {} dimensions, found {}; {}", kMostDimensions, dimensions, kAgain));
    uint64_t elements = 1, row = 0;
    for (uint32_t k = 0; k < dimensions; k++) {
      const auto size = in.number<uint64_t>("a tensor");
      if (k == 0) row = size;
      // A block has at most 256 elements, so that a tensor of more cannot lie in the file.
      if (size == 0 || size > file_.bytes().size() * 256 / elements)
        refuse(fmt::format("a size of {} does not fit into the file; {}", size, kAgain));
      elements *= size;
      t.shape.insert(t.shape.begin(), static_cast<int64_t>(size));
    }
    const auto number = in.number<uint32_t>("a tensor");
    const GgufTypeRow* type = gguf_type_row(number);
    if (!type) {
      const std::string_view name = gguf_type_name(number);
      refuse(fmt::format("its type is {}, which is not read; take a file of another quantisation, such as Q4_K_M, Q8_0 or F16",
                         name.empty() ? fmt::format("{}, which is not known", number) : name));
    }
    t.type = type->type;
    if (row % static_cast<uint64_t>(type->block) != 0)
      refuse(fmt::format("rows of {} elements are no multiple of {}, the block of {}", row, type->block, type->name));
    t.size = elements / static_cast<uint64_t>(type->block) * static_cast<uint64_t>(type->bytes);
    t.begin = in.number<uint64_t>("a tensor");
    if (t.begin != expected)
      refuse(fmt::format("its offset is {}, but the tensor before it ends at {}: a hole or an overlap; {}", t.begin, expected,
                         kAgain));
    expected = aligned(t.begin + t.size);
  }
  // The data begin at the next multiple; what comes behind the last tensor may be missing.
  const uint64_t begin = aligned(in.at());
  for (GgufTensor& t : tensors_) {
    t.begin += begin;
    if (t.begin + t.size > file_.bytes().size())
      bad_file("{}: tensor {}: it ends at byte {}, but the file has {} bytes: truncated; {}", path_.string(), in_quotes(t.name),
               t.begin + t.size, file_.bytes().size(), kAgain);
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& tensor) const {
  return file_.bytes().subspan(tensor.begin, tensor.size);
}

const GgufFile::Value* GgufFile::value(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const GgufFile::Value* GgufFile::array(std::string_view key, std::string_view expected, bool (*fits)(GgufValueType)) const {
  const Value* v = value(key);
  if (v && !(v->type == GgufValueType::array && fits(v->element))) wrong(key, expected);
  return v;
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const Value* v = value(key);
  if (!v) return std::nullopt;
  const std::string_view text(reinterpret_cast<const char*>(v->data.data()), v->data.size());
  if (v->type != GgufValueType::string || !is_utf8(text)) wrong(key, "a string of UTF-8");
  return text;
}

std::optional<bool> GgufFile::flag(std::string_view key) const {
  const Value* v = value(key);
  if (!v) return std::nullopt;
  if (v->type != GgufValueType::boolean) wrong(key, "true or false");
  return v->data[0] != std::byte{0};
}

std::optional<int64_t> GgufFile::integer(std::string_view key) const {
  const Value* v = value(key);
  if (!v) return std::nullopt;
  const auto number = is_integer(v->type) ? integer_at(v->type, v->data.data()) : std::nullopt;
  if (!number) wrong(key, "an integer");
  return number;
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const Value* v = value(key);
  if (!v) return std::nullopt;
  if (!is_float(v->type)) return static_cast<double>(*integer(key));
  const double number = float_at(v->type, v->data.data());
  if (!std::isfinite(number)) wrong(key, "a finite number");
  return number;
}

std::vector<std::string_view> GgufFile::texts(std::string_view key) const {
  std::vector<std::string_view> all;
  const Value* v = array(key, "an array of strings", is_string);
  if (!v) return all;
  all.reserve(v->count);
  for (const std::byte* at = v->data.data(); all.size() < v->count;) {
    const auto size = load<uint64_t>(at);  // was checked
    all.emplace_back(reinterpret_cast<const char*>(at + sizeof size), size);
    at += sizeof size + size;
    if (!is_utf8(all.back()))
      bad_file("{}: key {}: string {} is not UTF-8: {}; {}", path_.string(), in_quotes(key), all.size() - 1,
               in_quotes(all.back()), kAgain);
  }
  return all;
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
  std::vector<int64_t> all;
  const Value* v = array(key, "an array of integers", is_integer);
  for (uint64_t i = 0; v && i < v->count; i++) {
    const auto number = integer_at(v->element, v->data.data() + i * bytes_of(v->element));
    if (!number) wrong(key, "an array of integers below 2^63");
    all.push_back(*number);
  }
  return all;
}

std::vector<float> GgufFile::floats(std::string_view key) const {
  std::vector<float> all;
  const Value* v = array(key, "an array of f32 or f64", is_float);
  for (uint64_t i = 0; v && i < v->count; i++) {
    all.push_back(static_cast<float>(float_at(v->element, v->data.data() + i * bytes_of(v->element))));
    if (!std::isfinite(all.back())) wrong(key, "an array of finite numbers");
  }
  return all;
}

std::vector<std::string_view> GgufFile::keys() const {
  std::vector<std::string_view> all;
  for (const auto& [key, value] : values_) all.push_back(key);
  return all;
}

std::string GgufFile::shown(std::string_view key) const {
  const Value* v = value(key);
  if (!v) return "nothing";
  if (v->type == GgufValueType::array) return fmt::format("an array of {} {}", v->count, name_of(v->element));
  if (v->type == GgufValueType::string) return in_quotes({reinterpret_cast<const char*>(v->data.data()), v->data.size()}, 40);
  if (v->type == GgufValueType::boolean) return v->data[0] != std::byte{0} ? "true" : "false";
  if (is_float(v->type)) return fmt::format("{:g}", float_at(v->type, v->data.data()));
  const auto number = integer_at(v->type, v->data.data());
  return number ? fmt::format("{}", *number) : "an integer above 2^63";
}

void GgufFile::wrong(std::string_view key, std::string_view expected) const {
  bad_file("{}: key {}: expected {}, found {}", path_.string(), in_quotes(key), expected, shown(key));
}

}  // namespace tll
