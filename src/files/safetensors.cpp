#include "src/files/safetensors.h"

#include <algorithm>
#include <limits>

#include "src/base/check.h"
#include "src/base/file_kind.h"
#include "src/base/json.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr const char* kMetadata = "__metadata__";

struct DtypeRow {
  const char* name;
  int bits;
};
constexpr DtypeRow kDtypes[] = {  // in the order of FileDtype
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};

// Turns the header's events into tensors without building a tree, because a header may have a million entries.
class HeaderReader : public JsonEvents {
 public:
  HeaderReader(std::string_view text, const fs::path& path, std::vector<TensorInfo>& tensors,
               std::map<std::string, std::string>& metadata)
      : JsonEvents(text, path.string(), 8), tensors_(tensors), metadata_(metadata) {
    read();
  }

  bool open_object() override {
    if (ignore(+1)) return true;
    if (state_ != State::outside && state_ != State::metadata_value && state_ != State::entry_value) unexpected("an object");
    state_ = state_ == State::outside ? State::root : state_ == State::metadata_value ? State::metadata : State::entry;
    return true;
  }
  bool close_object() override {
    if (ignore(-1)) return true;
    if (state_ == State::entry && seen_ != kAllFields)
      wrong(fmt::format("\"{}\" is missing", !(seen_ & kDtype) ? "dtype" : !(seen_ & kShape) ? "shape" : "data_offsets"));
    state_ = state_ == State::root ? State::outside : State::root;
    return true;
  }
  bool open_array() override {
    if (ignore(+1)) return true;
    if (state_ == State::entry && field_ == kShape) {
      state_ = State::shape;
    } else if (state_ == State::entry && field_ == kOffsets) {
      state_ = State::offsets;
    } else {
      unexpected("a list");
    }
    return true;
  }
  bool close_array() override {
    if (ignore(-1)) return true;
    if (state_ == State::offsets && offsets_ != 2) wrong("expected two data_offsets, found fewer");
    state_ = State::entry;
    return true;
  }
  bool key(std::string& name) override {
    if (ignored_ > 0) return true;
    if (state_ == State::root) return root_key(name);
    if (state_ == State::metadata) {
      metadata_key_ = name;
      return true;
    }
    field_ = name == "dtype" ? kDtype : name == "shape" ? kShape : name == "data_offsets" ? kOffsets : kOther;
    if (field_ != kOther && (seen_ & field_)) wrong(fmt::format("\"{}\" appears twice", name));
    seen_ |= field_ & kAllFields;
    return true;
  }
  bool number_unsigned(uint64_t value) override {
    if (ignore(0)) return true;
    if (state_ == State::shape) {
      if (value > uint64_t(std::numeric_limits<int64_t>::max())) wrong(fmt::format("size {} is too large", value));
      tensors_.back().shape.push_back(int64_t(value));
    } else if (state_ == State::offsets) {
      if (offsets_ == 2) wrong("expected two data_offsets, found more");
      (offsets_++ == 0 ? tensors_.back().begin : tensors_.back().end) = value;
    } else {
      unexpected("a number");
    }
    return true;
  }
  bool string(std::string& value) override {
    if (ignore(0)) return true;
    if (state_ == State::metadata) {
      if (!metadata_.emplace(metadata_key_, std::move(value)).second)
        refuse(fmt::format("the key {} of {} appears twice", in_quotes(metadata_key_), kMetadata));
    } else if (state_ == State::entry && field_ == kDtype) {
      const auto row = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeRow& r) { return value == r.name; });
      if (row == std::end(kDtypes)) wrong(fmt::format("unknown dtype {}", in_quotes(value)));
      tensors_.back().dtype = FileDtype(row - std::begin(kDtypes));
    } else {
      unexpected("a string");
    }
    return true;
  }
  bool null() override {
    if (state_ == State::metadata_value) return state_ = State::root, true;
    return ignore(0) || (unexpected("null"), false);
  }
  bool boolean(bool) override { return ignore(0) || (unexpected("true or false"), false); }
  bool number_integer(int64_t) override { return ignore(0) || (unexpected("a negative number"), false); }  // also for -0
  bool number_float(double, const std::string& text) override {
    return ignore(0) || (unexpected(fmt::format("{}, which is no 64-bit integer", in_quotes(text, 40))), false);
  }

 private:
  enum class State { outside, root, metadata_value, metadata, entry_value, entry, shape, offsets };
  enum Field : unsigned { kDtype = 1, kShape = 2, kOffsets = 4, kAllFields = 7, kOther = 8 };

  // Whether the event belongs to the value of an unknown field, at any depth, and is skipped. `deeper`: +1 where a list or object
  // starts, -1 where it ends.
  bool ignore(int deeper) {
    if (ignored_ == 0 && !(state_ == State::entry && field_ == kOther)) return false;
    if (ignored_ == 0 && deeper < 0) return false;  // the end of the entry itself
    ignored_ += deeper;
    return true;
  }
  bool root_key(std::string& name) {
    if (name == kMetadata) {
      if (has_metadata_) refuse(fmt::format("{} appears twice", kMetadata));
      has_metadata_ = true;
      state_ = State::metadata_value;
      return true;
    }
    tensors_.push_back({std::move(name), FileDtype::BOOL, {}, 0, 0});
    state_ = State::entry_value;
    field_ = seen_ = offsets_ = 0;
    return true;
  }
  [[noreturn]] void wrong(const std::string& message) const {
    refuse(fmt::format("tensor {}: {}", in_quotes(tensors_.back().name), message));
  }
  [[noreturn]] void unexpected(const std::string& found) const {
    switch (state_) {
      case State::outside:
        refuse("the header is not a JSON object, but " + found);
      case State::metadata_value:
        refuse(fmt::format("{} is not an object, but {}", kMetadata, found));
      case State::metadata:
        refuse(fmt::format("{}: {} is not a string, but {}", kMetadata, in_quotes(metadata_key_), found));
      case State::shape:
      case State::offsets:
        wrong(fmt::format("expected integers of at least 0, found {}", found));
      case State::entry:
        if (field_ == kDtype) wrong("\"dtype\": expected a string, found " + found);
        wrong(fmt::format("\"{}\": expected a list of integers, found {}", field_ == kShape ? "shape" : "data_offsets", found));
      default:
        wrong(fmt::format("expected an object with dtype, shape and data_offsets, found {}", found));
    }
  }

  std::vector<TensorInfo>& tensors_;
  std::map<std::string, std::string>& metadata_;
  State state_ = State::outside;
  unsigned field_ = 0, seen_ = 0, offsets_ = 0;
  int ignored_ = 0;  // lists and objects that are open inside an unknown field
  bool has_metadata_ = false;
  std::string metadata_key_;
};

// Size of a tensor in bytes, multiplied from left to right. Error (kExitBadFile) if it overflows or is not a whole number.
uint64_t byte_size(const TensorInfo& tensor, const fs::path& path) {
  uint64_t bits = 1;
  bool overflow = false;
  for (const int64_t size : tensor.shape) overflow |= __builtin_mul_overflow(bits, uint64_t(size), &bits);
  overflow |= __builtin_mul_overflow(bits, uint64_t(file_dtype_bits(tensor.dtype)), &bits);
  const auto what = [&] {
    return fmt::format("{}: tensor {}: {} of {}", path.string(), in_quotes(tensor.name), shape_text(tensor.shape),
                       file_dtype_name(tensor.dtype));
  };
  if (overflow) bad_file("{} has more than 2^64 bits", what());
  if (bits % 8 != 0) bad_file("{} is not a whole number of bytes", what());
  return bits / 8;
}

}  // namespace

const char* file_dtype_name(FileDtype dtype) { return kDtypes[size_t(dtype)].name; }
int file_dtype_bits(FileDtype dtype) { return kDtypes[size_t(dtype)].bits; }

std::string shape_text(const std::vector<int64_t>& shape) {
  constexpr size_t kShown = 8;
  std::string text = "[";
  for (size_t i = 0; i < shape.size() && i < kShown; i++) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + (shape.size() > kShown ? ", ...]" : "]");
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : path_(path), file_(path) {
  const std::span<const std::byte> all = file_.bytes();
  const auto refuse_other_kind = [&] {
    const FileKind kind = file_kind(all);
    if (kind != FileKind::safetensors && kind != FileKind::unknown)
      bad_file("{}: {}", path.string(), wrong_kind(kind, "a safetensors file"));
  };
  if (all.size() < 8) {
    refuse_other_kind();
    bad_file("{}: {} bytes are too few for a safetensors file", path.string(), all.size());
  }
  uint64_t header = 0;
  for (size_t i = 0; i < 8; i++) header |= uint64_t(all[i]) << (8 * i);
  if (header > kMaxHeader || header > all.size() - 8 || header == 0) refuse_other_kind();
  const auto printable = [](std::byte b) { return b >= std::byte{' '} && b < std::byte{0x7F}; };
  if (header > kMaxHeader && std::all_of(all.begin(), all.begin() + 8, printable))
    bad_file("{}: this looks like text; expected a safetensors file; download the file again", path.string());
  if (header > kMaxHeader)
    bad_file("{}: byte 0: header length {} is above {}: not a safetensors file", path.string(), header, kMaxHeader);
  if (header > all.size() - 8)
    bad_file("{}: byte 0: header length {} exceeds the file of {} bytes: truncated?", path.string(), header, all.size());
  data_begin_ = 8 + size_t(header);
  HeaderReader({reinterpret_cast<const char*>(all.data()) + 8, size_t(header)}, path, tensors_, metadata_);

  const auto by_place = [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  };
  if (!std::is_sorted(tensors_.begin(), tensors_.end(), by_place)) std::sort(tensors_.begin(), tensors_.end(), by_place);
  by_name_.reserve(tensors_.size());
  uint64_t expected = 0;
  for (size_t i = 0; i < tensors_.size(); i++) {
    const TensorInfo& t = tensors_[i];
    if (!by_name_.emplace(t.name, i).second) bad_file("{}: tensor {} appears twice", path.string(), in_quotes(t.name));
    if (t.begin != expected || t.end < t.begin)
      bad_file("{}: tensor {}: data_offsets [{}, {}], but the data before it ends at {}: a hole or an overlap", path.string(),
               in_quotes(t.name), t.begin, t.end, expected);
    if (const uint64_t size = byte_size(t, path); t.end - t.begin != size)
      bad_file("{}: tensor {}: {} of {} takes {} bytes, but data_offsets [{}, {}] hold {}", path.string(), in_quotes(t.name),
               shape_text(t.shape), file_dtype_name(t.dtype), size, t.begin, t.end, t.end - t.begin);
    expected = t.end;
  }
  if (const uint64_t data = all.size() - data_begin_; data != expected)
    bad_file("{}: the tensors end at byte {} of the data, but the file has {} bytes of data: {}", path.string(), expected, data,
             data < expected ? "truncated" : "trailing bytes");
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& tensor) const {
  return file_.bytes().subspan(data_begin_ + tensor.begin, tensor.end - tensor.begin);
}

std::span<const std::byte> SafetensorsFile::bytes(std::string_view name) const {
  const TensorInfo* tensor = find(name);
  if (!tensor) bad_file("{}: there is no tensor {}", path_.string(), in_quotes(name));
  return bytes(*tensor);
}

SafetensorsWriter::SafetensorsWriter(const fs::path& path, const std::vector<TensorSpec>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  for (const TensorSpec& t : tensors) order_.push_back({t.name, t.dtype, t.shape, 0, 0});
  std::sort(order_.begin(), order_.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name; });
  const auto text = [](const std::string& s) { return json_text(s); };
  std::string header = "{";
  for (const auto& [key, value] : metadata)
    header += fmt::format("{}{}:{}", header.size() == 1 ? fmt::format("\"{}\":{{", kMetadata) : ",", text(key), text(value));
  if (!metadata.empty()) header += '}';
  for (TensorInfo& t : order_) {
    TLL_CHECK(by_name_.emplace(t.name, &t - order_.data()).second, "{} twice", t.name);
    t.begin = expected_;
    t.end = expected_ += byte_size(t, path);
    header +=
        fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[", header.size() == 1 ? "" : ",", text(t.name), file_dtype_name(t.dtype));
    for (size_t i = 0; i < t.shape.size(); i++) header += fmt::format("{}{}", i ? "," : "", t.shape[i]);
    header += fmt::format("],\"data_offsets\":[{},{}]}}", t.begin, t.end);
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  TLL_CHECK(header.size() <= kMaxHeader, "header of {} bytes", header.size());
  char length[8];
  for (size_t i = 0; i < 8; i++) length[i] = char(uint64_t(header.size()) >> (8 * i));
  file_.write(length, 8);
  file_.write(header);
  data_begin_ = 8 + header.size();
}

void SafetensorsWriter::append(const void* data, size_t size) {
  TLL_CHECK(size <= expected_ - written_, "{} + {} of {} bytes", written_, size, expected_);
  file_.write(data, size);
  written_ += size;
}

void SafetensorsWriter::put(const std::string& tensor, uint64_t first, const void* data, size_t size) {
  const TensorInfo& t = order_.at(by_name_.at(tensor));
  TLL_CHECK(first <= t.end - t.begin && size <= t.end - t.begin - first, "{}: {} + {} of {} bytes", tensor, first, size,
            t.end - t.begin);
  file_.write_at(data_begin_ + t.begin + first, data, size);
  written_ += size;
}

void SafetensorsWriter::commit() {
  TLL_CHECK(written_ == expected_, "{} of {} bytes", written_, expected_);
  file_.commit();
}

void write_safetensors(const fs::path& path, const std::vector<TensorEntry>& entries,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  std::unordered_map<std::string_view, const TensorEntry*> by_name;
  for (const TensorEntry& entry : entries) {
    specs.push_back(entry.spec);
    by_name.emplace(entry.spec.name, &entry);
  }
  SafetensorsWriter writer(path, specs, metadata);
  for (const TensorInfo& t : writer.order()) {
    const TensorEntry& entry = *by_name.at(t.name);
    TLL_CHECK(entry.data.size() == t.end - t.begin, "{}: {} bytes of {}", t.name, entry.data.size(), t.end - t.begin);
    writer.append(entry.data.data(), entry.data.size());
  }
  writer.commit();
}

}  // namespace tll
