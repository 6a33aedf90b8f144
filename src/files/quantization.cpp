#include "src/files/quantization.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/base/check.h"
#include "src/base/json_object.h"
#include "src/files/config.h"

namespace tll {
namespace {

constexpr int kLeastBlock = 32, kMostBlock = 4096, kLeastRow = 8;
constexpr const char* kState = "quant_state.bitsandbytes__";
constexpr float kPerScale = 1.0f / 127;  // the scale of LLM.int8()'s codes, by the largest magnitude of a row

template <class Table>
int add_table(std::vector<Table>& tables, const Table& table) {
  const auto same = [&](const Table& t) { return std::memcmp(t.data(), table.data(), sizeof(Table)) == 0; };
  const auto found = std::find_if(tables.begin(), tables.end(), same);
  if (found == tables.end()) return tables.push_back(table), static_cast<int>(tables.size()) - 1;
  return static_cast<int>(found - tables.begin());
}

template <size_t n>
std::array<float, n> floats(std::span<const std::byte> bytes) {
  std::array<float, n> table;
  std::memcpy(table.data(), bytes.data(), sizeof(table));
  return table;
}

// The tensors of one module, each given out once.
class ModuleTensors {
 public:
  ModuleTensors(TensorPlaces& places, const std::string& module) : places_(places), module_(module) {}

  const TensorPlace* find(const std::string& suffix) const {
    const auto found = places_.find(module_ + suffix);
    return found == places_.end() ? nullptr : &found->second;
  }
  std::string what(const std::string& suffix) const {
    const TensorPlace* place = find(suffix) ? find(suffix) : find(".weight");
    return fmt::format("{}: tensor {}", place->file->path().string(), in_quotes(module_ + suffix));
  }
  // The bytes of a tensor that must be there, with this type and number of elements.
  std::span<const std::byte> take(const std::string& suffix, FileDtype dtype, int64_t elements) {
    const TensorPlace* place = find(suffix);
    if (!place) bad_file("{} is missing, which quantised weights of bitsandbytes have", what(suffix));
    const std::span<const std::byte> bytes = place->file->bytes(*place->info);
    const size_t expected = static_cast<size_t>(elements) * static_cast<size_t>(file_dtype_bits(dtype)) / 8;
    if (place->info->dtype != dtype || bytes.size() != expected)
      bad_file("{}: expected {} of {}, found {} of {}", what(suffix), elements, file_dtype_name(dtype),
               shape_text(place->info->shape), file_dtype_name(place->info->dtype));
    taken_.push_back(*place);
    places_.erase(module_ + suffix);
    return bytes;
  }
  // Those that were taken, and the codes, which stay where they are.
  std::vector<TensorPlace> parts() const {
    std::vector<TensorPlace> all = taken_;
    all.push_back(*find(".weight"));
    return all;
  }
  // The same of `n` numbers, which are finite.
  template <size_t n>
  std::array<float, n> table(const std::string& suffix) {
    const std::string name = what(suffix);
    const auto values = floats<n>(take(suffix, FileDtype::F32, n));
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      bad_file("{} has numbers that are not finite", name);
    return values;
  }
  // The suffixes of all tensors MODULE.weight.SUFFIX.
  std::vector<std::string> after_weight() const {
    const std::string prefix = module_ + ".weight.";
    std::vector<std::string> suffixes;
    for (auto at = places_.lower_bound(prefix); at != places_.end() && at->first.starts_with(prefix); ++at)
      suffixes.push_back(at->first.substr(prefix.size()));
    return suffixes;
  }

 private:
  TensorPlaces& places_;
  std::vector<TensorPlace> taken_;
  const std::string& module_;
};

struct State {
  int block = 0;
  bool nested = false;
  float offset = 0;
};

State read_state(std::string_view text, const std::string& what, const std::string& type, const std::vector<int64_t>& shape) {
  const Json json = parse_json(text, what);
  JsonObject object(json, what);
  const auto expect = [&](const char* key, const std::string& expected) {
    if (object.text(key) != expected)
      bad_file("{}: key \"{}\": expected {}, found {}", what, key, in_quotes(expected), in_quotes(object.text(key)));
  };
  State state;
  expect("quant_type", type);
  state.block = object.size("blocksize");
  if (state.block < kLeastBlock || state.block > kMostBlock || !std::has_single_bit(static_cast<unsigned>(state.block)))
    bad_file("{}: key \"blocksize\": expected a power of two from {} to {}, found {}", what, kLeastBlock, kMostBlock,
             state.block);
  const std::string dtype = object.text("dtype");
  if (dtype != "bfloat16" && dtype != "float16" && dtype != "float32")
    bad_file("{}: key \"dtype\": expected bfloat16, float16 or float32, found {}", what, in_quotes(dtype));
  if (const auto found = object.integers("shape", 1, "a list of sizes"); found != shape)
    bad_file("{}: expected shape {} by config.json, found {}", what, shape_text(shape), shape_text(found));
  const auto has = [&](const char* key) { return object.find(key) != nullptr; };
  state.nested = has("nested_blocksize") || has("nested_dtype") || has("nested_offset");
  if (!state.nested) return state;
  if (const int block = object.size("nested_blocksize"); block != kNestedBlock)
    bad_file("{}: key \"nested_blocksize\": expected {}, found {}", what, kNestedBlock, block);
  expect("nested_dtype", "float32");
  constexpr double kMost = std::numeric_limits<float>::max();
  if (!has("nested_offset")) bad_file("{}: key \"nested_offset\" is missing", what);
  state.offset = static_cast<float>(object.number("nested_offset", 0, -kMost, kMost));
  return state;
}

QuantizedTensor take_4bit(ModuleTensors& tensors, const std::string& module, int64_t rows, int64_t cols) {
  QuantizedTensor t{.what = tensors.what(".weight"), .rows = rows, .cols = cols};
  std::string state_name, type;
  for (const std::string& suffix : tensors.after_weight()) {
    if (suffix.starts_with("quant_state.")) {
      if (!state_name.empty()) bad_file("{} has two quant_states", t.what);
      state_name = ".weight." + suffix;
      type = suffix.substr(std::min(suffix.size(), std::strlen(kState)));
      if (!suffix.starts_with(kState) || (type != "nf4" && type != "fp4"))
        bad_file("{}: expected weights in nf4 or fp4", tensors.what(state_name));
    } else if (suffix != "absmax" && suffix != "quant_map" && suffix != "nested_absmax" && suffix != "nested_quant_map") {
      bad_file("{}: bitsandbytes knows no such part of a quantised weight", tensors.what(".weight." + suffix));
    }
  }
  if (state_name.empty()) bad_file("{}: it has no quant_state beside it, which says how it was quantised", t.what);
  constexpr int64_t kMostText = 4096;
  const TensorPlace state_place = *tensors.find(state_name);
  const std::string what = tensors.what(state_name);
  const auto bytes = static_cast<int64_t>(state_place.file->bytes(*state_place.info).size());
  if (bytes > kMostText) bad_file("{}: {} bytes are no quant_state", what, bytes);
  const std::span<const std::byte> text = tensors.take(state_name, FileDtype::U8, bytes);
  const State state = read_state({reinterpret_cast<const char*>(text.data()), text.size()}, what, type, {rows, cols});

  t.format = {.code = type == "nf4" ? WeightCode::nf4 : WeightCode::fp4, .block = state.block, .nested = state.nested};
  const int64_t blocks = t.format.blocks(t.count());
  t.scales = tensors.take(".weight.absmax", state.nested ? FileDtype::U8 : FileDtype::F32, blocks);
  t.book = tensors.table<16>(".weight.quant_map");
  if (state.nested) {
    const std::string nested = tensors.what(".weight.nested_absmax");
    t.nested_absmax = tensors.take(".weight.nested_absmax", FileDtype::F32, QuantizedFormat::nested_blocks(blocks));
    for (size_t i = 0; i < t.nested_absmax.size(); i += sizeof(float))
      if (!std::isfinite(floats<1>(t.nested_absmax.subspan(i))[0])) bad_file("{} has numbers that are not finite", nested);
    t.map = tensors.table<256>(".weight.nested_quant_map");
    t.nested_offset = state.offset;
  } else {
    for (const char* suffix : {".weight.nested_absmax", ".weight.nested_quant_map"})
      if (tensors.find(suffix))
        bad_file("{} is there, but {} says nothing of double quantisation", tensors.what(suffix), in_quotes(module + state_name));
  }
  // The bytes of the codes may be called elements of any type.
  const TensorPlace codes = *tensors.find(".weight");
  const FileDtype storage = codes.info->dtype;
  if (storage != FileDtype::U8 && storage != FileDtype::BF16 && storage != FileDtype::F16 && storage != FileDtype::F32)
    bad_file("{}: expected codes in U8, BF16, F16 or F32, found {}", t.what, file_dtype_name(storage));
  t.codes = codes.file->bytes(*codes.info);
  const int64_t needed = t.format.code_bytes(t.count());
  if (static_cast<int64_t>(t.codes.size()) != needed)
    bad_file("{}: {} bytes of codes, and shape {} has {}", t.what, t.codes.size(), shape_text({rows, cols}), needed);
  return t;
}

QuantizedTensor take_8bit(ModuleTensors& tensors, int64_t rows, int64_t cols) {
  QuantizedTensor t{.what = tensors.what(".weight"), .rows = rows, .cols = cols};
  if (cols < kLeastRow) bad_file("{}: rows of {} elements in 8 bits are not read", t.what, cols);
  t.format = {.code = WeightCode::int8, .block = static_cast<int>(cols)};
  t.scales = tensors.take(".SCB", FileDtype::F32, rows);
  if (tensors.find(".weight_format")) {
    const std::string what = tensors.what(".weight_format");
    if (const auto layout = tensors.take(".weight_format", FileDtype::U8, 1)[0]; layout != std::byte{0})
      bad_file("{}: expected 0, rows as they are, found layout {}", what, static_cast<int>(layout));
  }
  const TensorPlace codes = *tensors.find(".weight");
  if (codes.info->dtype != FileDtype::I8 || codes.info->shape != std::vector{rows, cols})
    bad_file("{}: expected I8 of shape {} beside SCB, found {} of shape {}", t.what, shape_text({rows, cols}),
             file_dtype_name(codes.info->dtype), shape_text(codes.info->shape));
  t.codes = codes.file->bytes(*codes.info);
  return t;
}

// A name of llm_int8_skip_modules stands for the module itself, all below it, and all names that end with it.
bool skipped(const std::vector<std::string>& skip, const std::string& module) {
  return std::any_of(skip.begin(), skip.end(), [&](const std::string& name) {
    const bool below = module.starts_with(name) && (module.size() == name.size() || module[name.size()] == '.');
    return !name.empty() && (below || module.ends_with(name));
  });
}

}  // namespace

int Quantization::add_book(const std::array<float, 16>& book) { return add_table(books, book); }
int Quantization::add_map(const std::array<float, 256>& map) { return add_table(maps, map); }

Quantization Quantization::own() {
  Quantization q;
  q.books.emplace_back();
  std::copy_n(kNf4Book, 16, q.books[0].begin());
  q.maps.emplace_back();
  dynamic_map(true, q.maps[0].data());
  return q;
}

std::shared_ptr<const Quantization> parse_quantization(const Json& config, const LlamaConfig& sizes, const std::string& where) {
  const std::string inner = fmt::format("{}: in \"quantization_config\"", where);
  JsonObject object(config, inner);
  std::string method = object.text("quant_method");
  for (const char* key : {"quant_algo", "quant_type"})
    if (method.empty() && config.contains(key) && config[key].is_string()) method = config[key];
  const bool in_4bit = object.flag("load_in_4bit") || object.flag("_load_in_4bit");
  const bool in_8bit = object.flag("load_in_8bit") || object.flag("_load_in_8bit");
  if (method.empty() && (in_4bit || in_8bit)) method = "bitsandbytes";
  if (method != "bitsandbytes")
    bad_file(
        "{}: key \"quantization_config\": this looks like a model whose weights are quantised{}; expected weights of "
        "bitsandbytes, or in bf16, fp16 or fp32; give the model that it was made from",
        where, method.empty() ? "" : fmt::format(" ({})", in_quotes(method, 40)));
  if (in_4bit == in_8bit)
    bad_file("{}: expected either load_in_4bit or load_in_8bit to be true, found {}", inner, in_4bit ? "both" : "neither");
  QuantizedFormat format{.code = WeightCode::int8};
  Quantization q = Quantization::own();
  if (in_4bit) {
    const std::string type = object.text("bnb_4bit_quant_type");
    if (!type.empty() && type != "nf4" && type != "fp4")
      bad_file("{}: key \"bnb_4bit_quant_type\": expected \"nf4\" or \"fp4\", found {}", inner, in_quotes(type));
    format.code = type == "nf4" ? WeightCode::nf4 : WeightCode::fp4;  // fp4 is what transformers takes without the key
    format.nested = object.flag("bnb_4bit_use_double_quant");
  }
  const std::vector<std::string> skip = object.strings("llm_int8_skip_modules");
  for (const Module& m : modules(sizes)) {
    if (!m.adaptable || skipped(skip, m.name)) continue;
    if (in_8bit) format.block = static_cast<int>(m.cols);
    q.tensors.emplace(m.name + ".weight", format);
  }
  return std::make_shared<const Quantization>(std::move(q));
}

Json quantization_json(bool double_quant, const std::string& compute) {
  return {{"_load_in_4bit", true},
          {"_load_in_8bit", false},
          {"bnb_4bit_compute_dtype", compute},
          {"bnb_4bit_quant_storage", "uint8"},
          {"bnb_4bit_quant_type", "nf4"},
          {"bnb_4bit_use_double_quant", double_quant},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_skip_modules", nullptr},
          {"llm_int8_threshold", 6.0},
          {"load_in_4bit", true},
          {"load_in_8bit", false},
          {"quant_method", "bitsandbytes"}};
}

std::string quant_state_text(const std::string& dtype, const std::vector<int64_t>& shape, const float* nested_offset) {
  std::string text =
      fmt::format(R"({{"quant_type": "nf4", "blocksize": {}, "dtype": "{}", "shape": {})", kQuantBlock, dtype, shape_text(shape));
  if (nested_offset) {
    std::string number = fmt::format("{}", static_cast<double>(*nested_offset));  // the shortest, as Python prints it
    if (number.find_first_of(".e") == number.npos) number += ".0";
    text += fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})", kNestedBlock, number);
  }
  return text + "}";
}

void QuantizedTensor::forget() const {
  for (const TensorPlace& place : places) place.file->forget(*place.info);
}

void QuantizedTensor::copy(void* to, std::span<const std::byte> from, int64_t first, int64_t n) const {
  constexpr int64_t kPiece = 1 << 22;
  for (int64_t at = 0; at < n; at += kPiece) {
    std::memcpy(static_cast<std::byte*>(to) + at, from.data() + first + at, static_cast<size_t>(std::min(kPiece, n - at)));
    forget();
  }
}

void QuantizedTensor::read_scales(float* to, int64_t first, int64_t n) const {
  const auto at = [&](int64_t i) {
    float scale;
    std::memcpy(&scale, scales.data() + static_cast<size_t>(i) * sizeof(float), sizeof(float));
    if (!std::isfinite(scale)) bad_file("{}: one of its scales is not finite", what);
    return scale;
  };
  for (int64_t i = 0; i < n; i++) to[i] = at(first + i) * (format.code == WeightCode::int8 ? kPerScale : 1.0f);
  forget();
}

// Whole blocks, and groups of blocks with one nested scale, are copied, which aligns them.
void QuantizedTensor::dequantize(void* to, DType type, int64_t first, int64_t n) const {
  constexpr int64_t kElements = 1 << 20;
  const int64_t group = int64_t{format.block} * (format.nested ? kNestedBlock : 1),
                piece = std::max(group, kElements / group * group);
  std::vector<std::byte> code_copy;
  std::vector<float> scale_copy, nested_copy;
  std::vector<uint8_t> scale_codes;
  auto* out = static_cast<std::byte*>(to);
  for (int64_t begin = first / piece * piece; begin < first + n; begin += piece) {
    const int64_t have = std::min(piece, count() - begin), blocks = format.blocks(have), first_block = begin / format.block;
    const auto copy = [](auto& copied, std::span<const std::byte> from, int64_t at, int64_t elements) {
      copied.resize(static_cast<size_t>(elements));
      std::memcpy(copied.data(), from.data() + static_cast<size_t>(at) * sizeof(copied[0]), copied.size() * sizeof(copied[0]));
    };
    copy(code_copy, codes, format.code_bytes(begin), format.code_bytes(have));
    QuantizedPart part{.code = format.code,
                       .rows = 1,
                       .block = format.block,
                       .codes = code_copy.data(),
                       .nested_offset = &nested_offset,
                       .nested_map = map.data(),
                       .book = book.data()};
    if (format.nested) {
      copy(scale_codes, scales, first_block, blocks);
      copy(nested_copy, nested_absmax, first_block / kNestedBlock, QuantizedFormat::nested_blocks(blocks));
      part.scale_codes = scale_codes.data(), part.nested_absmax = nested_copy.data();
    } else {
      scale_copy.resize(static_cast<size_t>(blocks));
      read_scales(scale_copy.data(), first_block, blocks);
      part.scales = scale_copy.data();
    }
    const int64_t from = std::max(first, begin), until = std::min(first + n, begin + have), cols_out = until - from;
    run(Device{}, Dequantize{.out = {out, type, 1, static_cast<int>(cols_out), cols_out},
                             .w = {.parts = {part}, .part_count = 1, .rows = 1, .cols = static_cast<int>(have)},
                             .first_col = static_cast<int>(from - begin)});
    forget();
    out += cols_out * static_cast<int64_t>(dtype_bytes(type));
  }
}

std::optional<QuantizedTensor> take_quantized(TensorPlaces& places, const std::string& module, int64_t rows, int64_t cols,
                                              Quantization& tables) {
  ModuleTensors tensors(places, module);
  if (!tensors.find(".weight")) return std::nullopt;
  const bool in_4bit = !tensors.after_weight().empty();
  if (!in_4bit && !tensors.find(".SCB")) return std::nullopt;
  QuantizedTensor t = in_4bit ? take_4bit(tensors, module, rows, cols) : take_8bit(tensors, rows, cols);
  if (t.format.is_4bit()) t.format.book = tables.add_book(t.book);
  if (t.format.nested) t.format.map = tables.add_map(t.map);
  tables.tensors.emplace(module + ".weight", t.format);
  t.places = tensors.parts();
  return t;
}

}  // namespace tll
