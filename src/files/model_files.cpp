#include "src/files/model_files.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <set>

#include "src/base/check.h"
#include "src/base/json.h"
#include "src/base/parallel.h"
#include "src/files/gguf_model.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr const char *kSingle = "model.safetensors", *kIndex = "model.safetensors.index.json";
constexpr size_t kPiece = size_t(1) << 22;  // bytes read before their pages are released

// What tools store beside or instead of a weight, by the ends of names.
struct Quantisation {
  std::string_view tool;
  std::vector<std::string_view> suffixes;
};
const Quantisation kQuantised[] = {
    {"bitsandbytes, 4 bits", {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"}},
    {"bitsandbytes, 8 bits", {".SCB", ".weight_format"}},
    {"GPTQ", {".g_idx"}},
    {"GPTQ or AWQ", {".qweight", ".qzeros"}},
    {"FP8", {".weight_scale_inv", ".input_scale", ".activation_scale"}},
    {"compressed-tensors", {".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_global_scale"}},
    {"HQQ", {".W_q"}},
    {"EXL2", {".q_weight", ".q_invperm", ".q_scale"}},
    {"EXL3", {".trellis", ".svh", ".suh"}},
    {"AQLM", {".codebooks"}},
    {"MXFP4", {"_blocks"}},
    {"MLX, or another tool", {".scales", ".biases"}},
};

// The tool that the tensor is of; empty: it may be a weight.
std::string_view quantised_by(const std::string& name) {
  if (name.find(".quant_state.") != std::string::npos) return kQuantised[0].tool;
  for (const auto& [tool, suffixes] : kQuantised)
    if (std::any_of(suffixes.begin(), suffixes.end(), [&](std::string_view suffix) { return name.ends_with(suffix); }))
      return tool;
  return "";
}

// Element i of bytes that need not be aligned.
template <class T>
float element(const std::byte* data, size_t i) {
  T value;
  std::memcpy(&value, data + i * sizeof(T), sizeof(T));
  return to_acc(value);
}

// Returns whether a finite value became infinite.
template <class From, class To>
bool convert(const std::byte* from, To* to, size_t count) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(to, from, count * sizeof(To));
    return false;
  } else {
    std::atomic<bool> overflow = false;
    parallel_ranges(static_cast<int64_t>(count), 4, [&](int64_t begin, int64_t end) {
      bool own = false;
      for (int64_t i = begin; i < end; i++) {
        const float value = element<From>(from, static_cast<size_t>(i));
        to[i] = from_acc<To>(value);
        if constexpr (std::is_same_v<To, half>) own |= std::isfinite(value) && (to[i].bits & 0x7fff) == 0x7c00;
      }
      if (own) overflow = true;
    });
    return overflow;
  }
}

template <class From>
bool convert_from(const std::byte* from, void* to, DType dtype, size_t count) {
  if (dtype == DType::f32) return convert<From>(from, static_cast<float*>(to), count);
  if (dtype == DType::bf16) return convert<From>(from, static_cast<bf16*>(to), count);
  TLL_CHECK(dtype == DType::f16, "weights of {}", dtype_name(dtype));
  return convert<From>(from, static_cast<half*>(to), count);
}

// What the directory has instead of safetensors, for a message that goes on.
std::string other_weights(const fs::path& directory) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(directory, none)) {
    const std::string name = entry.path().filename().string();
    if (name == "pytorch_model.bin" || name == "pytorch_model.bin.index.json")
      return fmt::format("; {} must be converted to safetensors: load the model with transformers and call save_pretrained(DIR)",
                         name);
    if (name.ends_with(".gguf"))
      return fmt::format("; {} is a GGUF file: give it as the model, {}", in_quotes(name), entry.path().string());
    if (name.ends_with(".safetensors"))
      return fmt::format("; {} is there: is its name right, or is the index missing?", in_quotes(name));
    if (name.ends_with(".pth")) return fmt::format("; {} is of Meta's format: give the model in Hugging Face's", in_quotes(name));
  }
  return "";
}

bool floating(FileDtype dtype) { return dtype == FileDtype::F32 || dtype == FileDtype::BF16 || dtype == FileDtype::F16; }

// A line for each of the first tensors, and one for the others.
void note_unused(std::vector<std::string>& notes, const std::string& where, const std::vector<std::string>& names,
                 std::string_view why) {
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(names.size(), kShown); i++)
    notes.push_back(fmt::format("{}: tensor {} {}: not used", where, in_quotes(names[i]), why));
  if (names.size() > kShown) notes.push_back(fmt::format("{}: and {} more such tensors", where, names.size() - kShown));
}

}  // namespace

void convert_tensor(const TensorView& tensor, void* out, DType to, const std::string& what) {
  TLL_CHECK(floating(tensor.dtype), "{} is {}", what, file_dtype_name(tensor.dtype));
  const std::byte* from = tensor.data.data();
  const size_t count = tensor.data.size() * 8 / size_t(file_dtype_bits(tensor.dtype));
  const bool overflow = tensor.dtype == FileDtype::F32    ? convert_from<float>(from, out, to, count)
                        : tensor.dtype == FileDtype::BF16 ? convert_from<bf16>(from, out, to, count)
                                                          : convert_from<half>(from, out, to, count);
  if (overflow) bad_file("{}: a value is too large for fp16: hold the weights in bf16 or fp32", what);
}

bool has_weights(const fs::path& path) { return fs::exists(path / kSingle) || fs::exists(path / kIndex) || is_gguf(path); }

ModelFiles::ModelFiles(ModelFiles&&) noexcept = default;
ModelFiles::~ModelFiles() = default;

ModelFiles::ModelFiles(const fs::path& directory, const LlamaConfig& config) : directory_(directory) {
  if (is_gguf(directory)) {
    gguf_ = std::make_unique<GgufWeights>(directory, config);
    return;
  }
  const fs::path single = directory / kSingle, index = directory / kIndex;
  if (fs::exists(single)) {
    files_.emplace_back(single);
    for (const TensorInfo& info : files_[0].tensors()) places_.emplace(info.name, Place{&files_[0], &info});
  } else if (fs::exists(index)) {
    open_index(index);
  } else {
    bad_file("{}: expected {} or {}, found neither{}", directory.string(), kSingle, kIndex, other_weights(directory));
  }
  add_prefix();
  check_tied_head(config);
  take_quantized_weights(config);
  check(config);
}

// Whether both tensors, which may have different types, have the same shape and values.
bool ModelFiles::same_values(const Place& a, const Place& b) {
  if (a.info->shape != b.info->shape) return false;
  if (a.info->dtype != b.info->dtype && !(floating(a.info->dtype) && floating(b.info->dtype))) return false;
  const std::span<const std::byte> x = a.file->bytes(*a.info), y = b.file->bytes(*b.info);
  const size_t wide_x = size_t(file_dtype_bits(a.info->dtype)) / 8, wide_y = size_t(file_dtype_bits(b.info->dtype)) / 8;
  constexpr size_t kValues = kPiece / 4;
  std::vector<float> p(kValues), q(kValues);
  bool equal = true;
  for (size_t i = 0; equal && i * wide_x < x.size(); i += kValues) {
    const size_t n = std::min(kValues, x.size() / wide_x - i);
    if (a.info->dtype == b.info->dtype) {
      equal = std::memcmp(x.data() + i * wide_x, y.data() + i * wide_y, n * wide_x) == 0;
    } else {
      convert_tensor({a.info->dtype, {}, x.subspan(i * wide_x, n * wide_x)}, p.data(), DType::f32, a.info->name);
      convert_tensor({b.info->dtype, {}, y.subspan(i * wide_y, n * wide_y)}, q.data(), DType::f32, b.info->name);
      equal = std::memcmp(p.data(), q.data(), n * sizeof(float)) == 0;
    }
    a.file->forget(*a.info);
    b.file->forget(*b.info);
  }
  return equal;
}

void ModelFiles::open_index(const fs::path& index) {
  const std::string where = index.string();
  const Json root = parse_json(read_file(index), where);
  const auto map = root.find("weight_map");
  if (!root.is_object() || map == root.end() || !map->is_object()) bad_file("{}: expected an object \"weight_map\"", where);
  std::map<std::string, std::vector<std::string>> tensors_of;  // by file
  for (const auto& [tensor, name] : map->items()) {
    if (!name.is_string()) bad_file("{}: weight_map: {}: expected a file name", where, in_quotes(tensor));
    tensors_of[name.get_ref<const std::string&>()].push_back(tensor);
  }
  files_.reserve(tensors_of.size());  // places point into it
  std::vector<std::string> unmapped;
  for (const auto& [name, tensors] : tensors_of) {
    constexpr size_t kMaxName = 255;
    if (name.empty() || name.size() > kMaxName || name == "." || name == ".." ||
        name.find_first_of(std::string("/\\\0", 3)) != std::string::npos) {
      bad_file("{}: weight_map: {} is not a plain file name beside the index", where, in_quotes(name));
    }
    const fs::path path = index.parent_path() / name;
    if (!fs::exists(path)) bad_file("{}: {} is named, but there is no such file", where, in_quotes(name));
    const SafetensorsFile& file = files_.emplace_back(path);
    for (const TensorInfo& info : file.tensors()) {
      const auto [other, added] = places_.emplace(info.name, Place{&file, &info});
      if (!added)
        bad_file("{}: tensor {} is in two files, {} and {}", where, in_quotes(info.name),
                 other->second.file->path().filename().string(), in_quotes(name));
      if (!map->contains(info.name)) unmapped.push_back(info.name);
    }
    for (const std::string& tensor : tensors) {
      if (!file.find(tensor))
        bad_file("{}: tensor {} is not in {}, where it should be", where, in_quotes(tensor), in_quotes(name));
    }
  }
  for (const std::string& name : unmapped) places_.erase(name);
  note_unused(warnings_, where, unmapped, "is in a file but not in weight_map");
}

// transformers reads a body's file into the whole model.
void ModelFiles::add_prefix() {
  const std::string prefix = "model.";
  const auto whole = [&](const auto& entry) { return entry.first.starts_with(prefix); };
  if (places_.contains(kEmbedding) || !places_.contains(std::string(kEmbedding).substr(prefix.size())) ||
      std::any_of(places_.begin(), places_.end(), whole))
    return;
  std::map<std::string, Place> renamed;
  for (const auto& [name, place] : places_) renamed.emplace(name == kHead ? name : prefix + name, place);
  places_ = std::move(renamed);
}

// With a tied head the file should hold only the embedding. If it holds only the head, that is the embedding. If it holds both,
// they must be equal.
void ModelFiles::check_tied_head(const LlamaConfig& config) {
  const auto head = places_.find(kHead);
  if (!config.tie_embeddings || head == places_.end()) return;
  const auto embedding = places_.find(kEmbedding);
  if (embedding == places_.end()) {
    places_.emplace(kEmbedding, head->second);
  } else {
    if (!same_values(embedding->second, head->second))
      bad_file(
          "{}: tie_word_embeddings is true, but {} differs from {}: set it to false in config.json to use both, or remove the "
          "head",
          directory_.string(), kHead, kEmbedding);
  }
  places_.erase(kHead);
}

void ModelFiles::take_quantized_weights(const LlamaConfig& config) {
  for (const Module& m : modules(config))
    if (m.cols > 0)
      if (auto found = take_quantized(places_, m.name, m.rows, m.cols, quantization_))
        quantized_.emplace(m.name + ".weight", std::move(*found));
  if (!quantized_.empty() && !config.quantization)
    bad_file("{}: {} is quantised by bitsandbytes, but config.json has no quantization_config; download it again",
             directory_.string(), quantized_.begin()->first);
}

void ModelFiles::check(const LlamaConfig& config) {
  const std::vector<WeightSpec> specs = weight_specs(config);
  for (const auto& [name, place] : places_) {
    if (const std::string_view tool = quantised_by(name); !tool.empty())
      bad_file(
          "{}: tensor {} looks like weights quantised by {}; expected weights in bf16, fp16 or fp32; give the model that they "
          "were "
          "made from",
          place.file->path().string(), in_quotes(name), tool);
  }
  for (const WeightSpec& spec : specs) {
    if (quantized(spec.name)) continue;
    const Place& p = place(spec.name);
    const std::string file = p.file->path().string();
    if (!floating(p.info->dtype))
      bad_file("{}: tensor {}: expected BF16, F16 or F32, found {}{}", file, spec.name, file_dtype_name(p.info->dtype),
               file_dtype_bits(p.info->dtype) <= 8 ? ", as quantised weights have; give the model that they were made from" : "");
    if (p.info->shape != spec.shape)
      bad_file("{}: tensor {}: expected shape {} by config.json, found {}", file, spec.name, shape_text(spec.shape),
               shape_text(p.info->shape));
  }
  std::set<std::string_view> expected;
  for (const WeightSpec& spec : specs) expected.insert(spec.name);
  std::vector<std::string> unused;
  for (const auto& [name, place] : places_) {
    if (!expected.contains(name) && !name.ends_with("rotary_emb.inv_freq")) unused.push_back(name);
  }
  note_unused(warnings_, directory_.string(), unused, "is not part of the model");
}

const ModelFiles::Place& ModelFiles::place(const std::string& name) const {
  const auto found = places_.find(name);
  if (found != places_.end()) return found->second;
  if (name == kHead)
    bad_file(
        "{}: tensor \"{}\" is missing from the model's files: this looks like a body without a head (LlamaModel) or with another "
        "one; set tie_word_embeddings to true in config.json if the embedding is the head, else give the whole model",
        directory_.string(), name);
  bad_file(
      "{}: tensor {} is missing from the model's files{}", directory_.string(), in_quotes(name),
      places_.empty() ? ", which have none" : fmt::format("; they have tensors such as {}", in_quotes(places_.begin()->first)));
}

void ModelFiles::add_mean_rows(const std::string& name, int64_t rows) {
  const std::vector<int64_t> there = shape(name);
  TLL_CHECK(there.size() == 2 && rows >= there[0] && !quantized(name), "{}: {} to {} rows", name, shape_text(there), rows);
  if (rows == there[0] || there[0] == 0) return;
  const int64_t cols = there[1], step = std::max<int64_t>(1, int64_t(kPiece / sizeof(float)) / cols);
  std::vector<double> sums(size_t(cols), 0.0);
  std::vector<float> piece;
  for (int64_t row = 0; row < there[0]; row += step) {
    piece.resize(size_t(std::min(step, there[0] - row) * cols));
    load(name, piece.data(), DType::f32, row * cols, int64_t(piece.size()));
    for (size_t i = 0; i < piece.size(); i++) sums[i % size_t(cols)] += double(piece[i]);
  }
  MeanRows& more = mean_rows_[name];
  more.rows = rows;
  for (const double sum : sums) more.mean.push_back(float(sum / double(there[0])));
}

// As loaded, in fp32.
bool ModelFiles::same_values(const std::string& name, const Place& other) const {
  if (gguf_->shape(name) != other.info->shape) return false;
  const std::span<const std::byte> bytes = other.file->bytes(*other.info);
  const size_t width = size_t(file_dtype_bits(other.info->dtype)) / 8, count = bytes.size() / width;
  constexpr size_t kValues = kPiece / 4;
  std::vector<float> p(kValues), q(kValues);
  for (size_t i = 0; i < count; i += kValues) {
    const size_t n = std::min(kValues, count - i);
    gguf_->load(name, p.data(), DType::f32, int64_t(i), int64_t(n));
    convert_tensor({other.info->dtype, {}, bytes.subspan(i * width, n * width)}, q.data(), DType::f32, other.info->name);
    other.file->forget(*other.info);
    if (std::memcmp(p.data(), q.data(), n * sizeof(float)) != 0) return false;
  }
  return true;
}

std::vector<int64_t> ModelFiles::shape(const std::string& name) const {
  return gguf_ && !places_.contains(name) ? gguf_->shape(name) : place(name).info->shape;
}

bool ModelFiles::replace(const std::string& name, const SafetensorsFile& file, const TensorInfo& tensor) {
  const Place other{&file, &tensor};
  if (quantized(name))
    bad_file("{}: tensor {} would replace one that is quantised in {}; merge the adapter into the model, and use the result",
             file.path().string(), in_quotes(tensor.name), place(name).file->path().string());
  std::vector<int64_t> expected = shape(name);
  if (const auto more = mean_rows_.find(name); more != mean_rows_.end()) expected[0] = more->second.rows;
  TLL_CHECK(expected == tensor.shape, "{}: {}", name, shape_text(tensor.shape));
  if (!floating(tensor.dtype))
    bad_file("{}: tensor {}: expected BF16, F16 or F32, found {}", file.path().string(), in_quotes(tensor.name),
             file_dtype_name(tensor.dtype));
  const bool same = gguf_ && !places_.contains(name) ? same_values(name, other) : same_values(place(name), other);
  if (same) return false;
  places_[name] = other;
  mean_rows_.erase(name);
  return true;
}

TensorView ModelFiles::tensor(const std::string& name) const {
  const Place& p = place(name);
  return {p.info->dtype, p.info->shape, p.file->bytes(*p.info)};
}

DType ModelFiles::dtype(const std::string& name) const {
  if (gguf_ && !places_.contains(name)) return gguf_->dtype(name);
  const FileDtype type = place(name).info->dtype;
  return type == FileDtype::F32 ? DType::f32 : type == FileDtype::BF16 ? DType::bf16 : DType::f16;
}

const QuantizedTensor* ModelFiles::quantized(const std::string& name) const {
  const auto found = quantized_.find(name);
  return found == quantized_.end() ? nullptr : &found->second;
}

void ModelFiles::load(const std::string& name, void* out, DType to, int64_t first, int64_t n) const {
  if (const auto more = mean_rows_.find(name); more != mean_rows_.end()) {
    const std::vector<float>& mean = more->second.mean;
    const int64_t cols = int64_t(mean.size()), there = std::clamp<int64_t>(element_count(shape(name)) - first, 0, n);
    std::vector<float> beyond(size_t(n - there));
    for (size_t i = 0; i < beyond.size(); i++) beyond[i] = mean[size_t((first + there + int64_t(i)) % cols)];
    convert_tensor({FileDtype::F32, {}, std::as_bytes(std::span(beyond))},
                   static_cast<std::byte*>(out) + size_t(there) * dtype_bytes(to), to, name);
    n = there;
    if (n == 0) return;
  }
  if (gguf_ && !places_.contains(name)) return gguf_->load(name, out, to, first, n);
  const Place& p = place(name);
  if (const QuantizedTensor* tensor = quantized(name)) return tensor->dequantize(out, to, first, n);
  const size_t width = size_t(file_dtype_bits(p.info->dtype)) / 8;
  const std::span<const std::byte> all = p.file->bytes(*p.info).subspan(n > 0 ? size_t(first) * width : 0, size_t(n) * width);
  auto* next = static_cast<std::byte*>(out);
  for (size_t at = 0; at < all.size(); at += kPiece) {
    const TensorView piece{p.info->dtype, {}, all.subspan(at, std::min(kPiece, all.size() - at))};
    convert_tensor(piece, next, to, fmt::format("{}: tensor {}", p.file->path().string(), name));
    next += piece.data.size() / width * dtype_bytes(to);
    p.file->forget(*p.info);
  }
}

}  // namespace tll
