#include "src/files/gguf_model.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstring>
#include <set>

#include "src/base/check.h"
#include "src/base/file_kind.h"
#include "src/base/json.h"
#include "src/base/parallel.h"
#include "src/files/gguf_blocks.h"
#include "src/files/safetensors.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr int kDigits = 5;              // of a shard's number
constexpr int64_t kMostShards = 99999;  // which five digits hold
constexpr const char *kSplitCount = "split.count", *kSplitNumber = "split.no", *kSplitTensors = "split.tensors.count";

// NAME-00002-of-00007.gguf
struct ShardName {
  std::string prefix;  // "NAME-"
  int64_t number, count;
};
std::optional<ShardName> shard_name(const fs::path& path) {
  constexpr std::string_view kOf = "-of-", kEnd = ".gguf";
  const std::string name = path.filename().string();
  const size_t tail = kDigits + kOf.size() + kDigits + kEnd.size();
  if (name.size() <= tail || !name.ends_with(kEnd)) return std::nullopt;
  const size_t at = name.size() - tail;
  const auto digits = [&](size_t begin) -> int64_t {
    int64_t value = 0;
    const char* end = name.data() + begin + kDigits;
    const auto [stopped, error] = std::from_chars(name.data() + begin, end, value);
    return error == std::errc() && stopped == end ? value : -1;
  };
  const int64_t number = digits(at), count = digits(at + kDigits + kOf.size());
  if (name.substr(at + kDigits, kOf.size()) != kOf || number < 1 || count < number) return std::nullopt;
  return ShardName{name.substr(0, at), number, count};
}

// Files that are no models say what they are by general.type, or by what they hold.
void refuse_other_files(const GgufFile& file) {
  const std::string where = file.path().string();
  const std::string type(file.text("general.type").value_or("model")), of(file.text("general.architecture").value_or(""));
  if (type == "adapter") bad_file("{}: this is an adapter (general.type), not a model; give the model that it belongs to", where);
  if (type == "imatrix" || of == "imatrix" || file.has("imatrix.chunk_count"))
    bad_file("{}: this is an importance matrix, not a model; give the model that it was made of", where);
  if (type == "mmproj" || of == "clip")
    bad_file(
        "{}: this is the projector of a model that sees or hears, not a model; give the file beside it, without mmproj in its "
        "name",
        where);
  if (type != "model") bad_file("{}: key \"general.type\": expected \"model\", found {}", where, in_quotes(type));
}

// Of fp32 values to a type; returns whether a finite one became infinite.
bool store(const float* from, int64_t n, void* out, DType to, int64_t at) {
  bool overflow = false;
  if (to == DType::f32) {
    std::memcpy(static_cast<float*>(out) + at, from, static_cast<size_t>(n) * sizeof(float));
  } else if (to == DType::bf16) {
    for (int64_t i = 0; i < n; i++) static_cast<bf16*>(out)[at + i] = from_acc<bf16>(from[i]);
  } else {
    TLL_CHECK(to == DType::f16, "weights of {}", dtype_name(to));
    for (int64_t i = 0; i < n; i++) {
      const half value = static_cast<half*>(out)[at + i] = from_acc<half>(from[i]);
      overflow |= std::isfinite(from[i]) && (value.bits & 0x7fff) == 0x7c00;
    }
  }
  return overflow;
}

template <class T>
void widen(const std::byte* from, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i++) {
    T value;
    std::memcpy(&value, from + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    out[i] = to_acc(value);
  }
}

// Elements first … first+n-1 of a row, which begins at `row`, in pieces of at most `kPiece`.
constexpr int64_t kPiece = 1024;
static_assert(kPiece % kLargestGgufBlock == 0);
bool load_row(const GgufTypeRow& type, const std::byte* row, int64_t first, int64_t n, void* out, DType to, int64_t at) {
  std::array<float, kPiece> values;
  bool overflow = false;
  for (int64_t done = 0; done < n;) {
    const int64_t from = first + done, block = from / type.block, skipped = from % type.block;
    const int64_t count = std::min(n - done, kPiece - skipped);
    const std::byte* data = row + block * type.bytes;
    if (type.type == GgufType::F32)
      widen<float>(data, count, values.data());
    else if (type.type == GgufType::F16)
      widen<half>(data, count, values.data());
    else if (type.type == GgufType::BF16)
      widen<bf16>(data, count, values.data());
    else
      for (int64_t i = 0; i < skipped + count; i += type.block, data += type.bytes)
        gguf_dequantize_block(type.type, data, values.data() + i);
    overflow |= store(values.data() + skipped, count, out, to, at + done);
    done += count;
  }
  return overflow;
}

}  // namespace

bool is_gguf(const fs::path& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return false;
  return file_kind(MappedFile(path).bytes()) == FileKind::gguf;
}

GgufModel::GgufModel(const fs::path& path) : path_(path) {
  const auto name = shard_name(path);
  const auto sibling = [&](int64_t number) {
    return path.parent_path() / fmt::format("{}{:05}-of-{:05}.gguf", name->prefix, number, name->count);
  };
  GgufFile named(path);
  const int64_t count = named.integer(kSplitCount).value_or(1);
  if (count < 0 || count > kMostShards) named.wrong(kSplitCount, fmt::format("at most {}", kMostShards));
  if (count > 1 && (!name || name->count != count))
    bad_file(
        "{}: this is one of {} files of a model (split.count): expected their names to end in -00001-of-{:05}.gguf and so on",
        path.string(), count, count);
  if (count <= 1 && name && name->count > 1)
    bad_file("{}: its name is that of one of {} files, but key \"{}\" says {}", path.string(), name->count, kSplitCount,
             named.shown(kSplitCount));
  for (int64_t i = 1; count > 1 && i <= count; i++)
    if (std::error_code none; !fs::exists(sibling(i), none))
      bad_file("{}: expected {} files, and there is no {}; download all of them", path.string(), count,
               sibling(i).filename().string());
  files_.reserve(static_cast<size_t>(std::max<int64_t>(count, 1)));  // places point into it
  for (int64_t i = 1; i <= std::max<int64_t>(count, 1); i++) {
    const GgufFile& file = count > 1 ? files_.emplace_back(sibling(i)) : files_.emplace_back(std::move(named));
    if (i == 1) refuse_other_files(file);
    if (count > 1)
      for (const auto& [key, expected] : {std::pair(kSplitNumber, i - 1), {kSplitCount, count}})
        if (file.integer(key) != expected) file.wrong(key, fmt::format("{}", expected));
    for (const GgufTensor& t : file.tensors())
      if (const auto [other, added] = places_.emplace(t.name, Place{&file, &t}); !added)
        bad_file("{}: tensor {} is in two files, also in {}", file.path().string(), in_quotes(t.name),
                 other->second.file->path().filename().string());
  }
  if (const auto all = metadata().integer(kSplitTensors); count > 1 && all && *all != static_cast<int64_t>(places_.size()))
    metadata().wrong(kSplitTensors, fmt::format("{}, as there are in all files", places_.size()));
  if (places_.empty()) bad_file("{}: there are no tensors in it: a vocabulary alone, not a model", path.string());
}

GgufModel::Place GgufModel::find(std::string_view name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? Place{} : found->second;
}

std::map<std::string, std::string> hugging_face_files(const GgufModel& model) {
  std::map<std::string, std::string> files = gguf_config_files(model);
  if (gguf_has_tokenizer(model)) files.merge(gguf_tokenizer_files(model));
  return files;
}

GgufWeights::GgufWeights(const fs::path& path, const LlamaConfig& config) : model_(path), head_dim_(config.head_dim) {
  std::set<std::string> used = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
  for (const WeightSpec& spec : weight_specs(config)) {
    const std::string name = gguf_tensor_name(config, spec.name);
    const GgufModel::Place at = model_.find(name);
    if (!at.tensor) bad_file("{}: tensor {} is missing, which is {}", path.string(), in_quotes(name), spec.name);
    const GgufTensor& t = *at.tensor;
    if (t.shape != spec.shape)
      bad_file("{}: tensor {}: expected shape {} by the file's keys, found {}", at.file->path().string(), in_quotes(name),
               shape_text(spec.shape), shape_text(t.shape));
    const bool paired = gguf_rows_are_paired(config, spec.name);
    // A vector is one row; where rows move, its elements do.
    const int64_t cols = t.shape.size() > 1 ? t.shape.back() : paired ? 1 : t.shape[0];
    if (cols == 1 && gguf_type_row(t.type).block > 1)
      bad_file("{}: tensor {}: expected F32, F16 or BF16, found {}", at.file->path().string(), in_quotes(name),
               gguf_type_row(t.type).name);
    places_.emplace(spec.name, Place{at, element_count(t.shape) / cols, cols, paired});
    used.insert(name);
  }
  for (const GgufFile& file : model_.files())
    for (const GgufTensor& t : file.tensors())
      if (!used.contains(std::string(t.name)))
        bad_file("{}: tensor {} is not part of a {}: it changes what the model computes, and is not implemented",
                 file.path().string(), in_quotes(t.name), config.architecture->causal_lm);
}

const GgufWeights::Place& GgufWeights::place(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) bad_file("{}: tensor {} is missing", model_.path().string(), in_quotes(name));
  return found->second;
}

DType GgufWeights::dtype(const std::string& name) const {
  const GgufType type = place(name).at.tensor->type;
  return type == GgufType::F16 ? DType::f16 : type == GgufType::BF16 ? DType::bf16 : DType::f32;
}

void GgufWeights::load(const std::string& name, void* out, DType to, int64_t first, int64_t n) const {
  const Place& p = place(name);
  TLL_CHECK(first >= 0 && n >= 0 && first + n <= element_count(shape(name)), "{}: elements {} to {}", name, first, first + n);
  const GgufTypeRow& type = gguf_type_row(p.at.tensor->type);
  const std::byte* data = p.at.file->bytes(*p.at.tensor).data();
  const int64_t row_bytes = p.cols / type.block * type.bytes;
  constexpr int64_t kAtOnce = int64_t(1) << 22;  // elements, before their pages are released
  for (int64_t begin = first; begin < first + n;) {
    const int64_t end = std::min(first + n, begin + kAtOnce);
    std::atomic<bool> overflow = false;
    // A long row is shared, too: each share is a part of one row.
    const int64_t share = std::min(p.cols, int64_t(1) << 16), in_row = (p.cols + share - 1) / share;
    const int64_t first_share = begin / p.cols * in_row + begin % p.cols / share;
    const int64_t last_share = (end - 1) / p.cols * in_row + (end - 1) % p.cols / share;
    parallel_for(last_share - first_share + 1, 8 * share, [&](int64_t i) {
      const int64_t s = first_share + i, row = s / in_row, from = s % in_row * share;
      const int64_t low = std::max(begin, row * p.cols + from);
      const int64_t high = std::min({end, row * p.cols + from + share, (row + 1) * p.cols});
      const int64_t at = p.paired ? gguf_paired_row(row, head_dim_) : row;
      if (load_row(type, data + at * row_bytes, low - row * p.cols, high - low, out, to, low - first)) overflow = true;
    });
    if (overflow)
      bad_file("{}: tensor {}: a value is too large for fp16: hold the weights in bf16 or fp32", p.at.file->path().string(),
               in_quotes(p.at.tensor->name));
    p.at.file->forget(*p.at.tensor);
    begin = end;
  }
}

}  // namespace tll
