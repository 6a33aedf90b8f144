#include "src/model/weight.h"

#include <algorithm>

#include "src/base/check.h"

namespace tll {
namespace {

constexpr int64_t kPartAlignment = 64;

// The scales that a part is held with: where they are double quantised, those that loading quantises.
int64_t blocks_of(const WeightPart& part) { return part.format.is_dense() ? 0 : part.format.blocks(part.count()); }

}  // namespace

bool Weight::is_quantized() const {
  return std::any_of(parts.begin(), parts.end(), [](const WeightPart& part) { return !part.format.is_dense(); });
}

QuantizedPart Weight::quantized_part(const WeightPart& part) const {
  return {.code = part.format.code,
          .dtype = dtype,
          .first_row = static_cast<int>(part.first / cols),
          .rows = static_cast<int>(part.shape[0]),
          .block = part.format.block,
          .codes = part.codes,
          .scales = part.scales,
          .scale_codes = part.scale_codes,
          .nested_absmax = part.nested_absmax,
          .nested_offset = part.nested_offset,
          .nested_map = part.format.nested ? tables.maps + part.format.map * 256 : nullptr,
          .book = part.format.is_4bit() ? tables.books + part.format.book * 16 : nullptr};
}

QuantizedMatrix Weight::quantized_matrix() const {
  QuantizedMatrix w;
  w.part_count = static_cast<int>(parts.size()), w.rows = static_cast<int>(rows), w.cols = static_cast<int>(cols);
  for (size_t i = 0; i < parts.size(); i++) w.parts[i] = quantized_part(parts[i]);
  return w;
}

void Weight::place(Arena& arena, const QuantizationTables& shared) {
  place([&](const std::string& tensor, const std::vector<int64_t>& shape,
            DType type) { return arena.place_bytes(tensor, shape, type, Category::parameters); },
        shared);
}

void Weight::place(const PlaceBytes& place_bytes, const QuantizationTables& shared) {
  const int64_t R = joined_rank;
  if (!is_quantized()) {
    const std::vector<int64_t> held = R > 0 ? std::vector{rows + R, stride()} : shape();
    data = stored = place_bytes(name, held, dtype);
    return;
  }
  if (R > 0) {
    adapter_a = place_bytes(name + ".adapter_a", {R, cols}, joined_dtype);
    adapter_b = place_bytes(name + ".adapter_b", {rows, R}, joined_dtype);
  }
  tables = shared;
  // One tensor for what all parts have of a kind: count(part) elements each, from a multiple of `unit` on.
  const auto place_parts = [&](const char* what, DType type, int64_t unit, const auto& count, const auto& set) {
    std::vector<int64_t> begins;
    int64_t end = 0;
    for (const WeightPart& part : parts) {
      begins.push_back((end + unit - 1) / unit * unit);
      if (const int64_t n = count(part); n > 0) end = begins.back() + n;
    }
    if (end == 0) return;
    auto* memory = static_cast<std::byte*>(place_bytes(name + "." + what, {end}, type));
    for (size_t i = 0; memory && i < parts.size(); i++)
      if (count(parts[i]) > 0) set(parts[i], memory + begins[i] * static_cast<int64_t>(dtype_bytes(type)));
  };
  const auto set_codes = [](WeightPart& part, std::byte* at) { part.codes = at; };
  const auto nested = [](const WeightPart& part) { return part.format.nested ? blocks_of(part) : 0; };
  place_parts(
      "codes", DType::u8, kPartAlignment,
      [](const WeightPart& p) { return p.format.is_dense() ? 0 : p.format.code_bytes(p.count()); }, set_codes);
  place_parts(
      "dense", dtype, kPartAlignment / static_cast<int64_t>(dtype_bytes(dtype)),
      [](const WeightPart& p) { return p.format.is_dense() ? p.count() : 0; }, set_codes);
  place_parts(
      "scales", DType::f32, 1, [](const WeightPart& p) { return p.format.nested ? 0 : blocks_of(p); },
      [](WeightPart& p, std::byte* at) { p.scales = reinterpret_cast<float*>(at); });
  place_parts("absmax", DType::u8, 1, nested,
              [](WeightPart& p, std::byte* at) { p.scale_codes = reinterpret_cast<uint8_t*>(at); });
  // The offset, and the scales of the scales.
  place_parts(
      "nested", DType::f32, 1,
      [&](const WeightPart& p) { return p.format.nested ? 1 + QuantizedFormat::nested_blocks(nested(p)) : 0; },
      [](WeightPart& p, std::byte* at) {
        p.nested_offset = reinterpret_cast<float*>(at), p.nested_absmax = p.nested_offset + 1;
      });
}

Matrix Weight::joined_a() const {
  const int R = joined_rank, in = static_cast<int>(cols);
  if (is_quantized()) return {adapter_a, joined_dtype, R, in, cols};
  return Matrix{data, dtype, static_cast<int>(rows) + R, in, stride()}.rows(static_cast<int>(rows), R);
}
Matrix Weight::joined_b() const {
  const int R = joined_rank, in = static_cast<int>(cols), out = static_cast<int>(rows);
  if (is_quantized()) return {adapter_b, joined_dtype, out, R, R};
  return Matrix{data, dtype, out, in + R, stride()}.cols(in, R);
}

std::vector<std::byte> StoredBytes::read(const Device& device, int64_t n) const {
  n = std::min(n, size());
  std::vector<std::byte> bytes;
  if (n == 0) return bytes;
  const int64_t last = (n - 1) / row;  // the row in which they end
  const HostCopy held(device, data, last * stride + (n - last * row));
  for (int64_t r = 0; r <= last; r++)
    bytes.insert(bytes.end(), held.data() + r * stride, held.data() + r * stride + std::min(row, n - r * row));
  return bytes;
}

std::vector<StoredBytes> Weight::stored_bytes(const WeightPart& part) const {
  const auto span = [](const auto* data, int64_t count, size_t width = sizeof(*data)) {
    return StoredBytes{reinterpret_cast<const std::byte*>(data), count * static_cast<int64_t>(width)};
  };
  if (!is_quantized()) {
    const int64_t width = static_cast<int64_t>(dtype_bytes(stored_dtype));
    const std::byte* const at = static_cast<const std::byte*>(stored_part(part));
    if (joined_rank > 0) return {{at, cols * width, part.shape[0], stride() * width}};
    return {{at, part.count() * width}};
  }
  if (part.format.is_dense()) return {span(part.codes, part.count(), dtype_bytes(dtype))};
  const int64_t blocks = blocks_of(part);
  const auto all_codes = span(part.codes, part.format.code_bytes(part.count()));
  if (!part.format.nested) return {all_codes, span(part.scales, blocks)};
  return {all_codes, span(part.scale_codes, blocks), span(part.nested_offset, 1 + QuantizedFormat::nested_blocks(blocks))};
}

void Weight::load(const Device& device, WeightStream& stream, const WeightPart& part, const TensorSource& source) const {
  if (!part.format.is_dense()) {
    if (source.quantized) return copy_quantized(device, stream, part, *source.quantized);
    return quantize(device, stream, part, source);
  }
  if (on_host) return source.read(stored_part(part), stored_dtype, 0, part.count());
  const DType type = is_quantized() ? dtype : stored_dtype;
  const auto read = [&](void* piece, int64_t first, int64_t n) { source.read(piece, type, first, n); };
  if (is_quantized() || joined_rank == 0)
    stream.send(device, is_quantized() ? part.codes : stored_part(part), part.count(), dtype_bytes(type), read);
  else
    stream.send_rows(device, stored_part(part), part.shape[0], cols, stride(), dtype_bytes(type), read);
}

void Weight::quantize(const Device& device, WeightStream& stream, const WeightPart& part, const TensorSource& source) const {
  const QuantizedFormat& format = part.format;
  float* const scales = format.nested ? stream.scales() : part.scales;
  set_zero(device, stream.not_finite(), sizeof(int32_t));
  stream.send_through(
      device, part.count(), dtype_bytes(source.dtype),
      [&](void* piece, int64_t first, int64_t n) { source.read(piece, source.dtype, first, n); },
      [&](const void* piece, int64_t first, int64_t n) {
        run(device, QuantizeBlocks{.codes = part.codes + format.code_bytes(first),
                                   .scales = scales + first / format.block,
                                   .in = piece,
                                   .not_finite = stream.not_finite(),
                                   .count = n,
                                   .dtype = source.dtype,
                                   .code = format.code,
                                   .block = format.block});
      });
  if (const int32_t bad = HostCopy(device, stream.not_finite(), 1)[0]; bad > 0)
    bad_file("tensor {}: {} of its {} elements are not finite, and such a weight cannot be quantised; take another copy of it",
             part.name, bad, part.count());
  if (format.nested)
    run(device, QuantizeScales{.codes = part.scale_codes,
                               .nested_absmax = part.nested_absmax,
                               .nested_offset = part.nested_offset,
                               .scales = scales,
                               .map = tables.maps + format.map * 256,
                               .blocks = format.blocks(part.count())});
}

void Weight::copy_quantized(const Device& device, WeightStream& stream, const WeightPart& part,
                            const QuantizedTensor& tensor) const {
  if (tensor.format != part.format) bad_file("{} is quantised in another way than when it was opened", tensor.what);
  const auto copy = [&](void* to, std::span<const std::byte> from) {
    stream.send(device, to, static_cast<int64_t>(from.size()), 1,
                [&](void* piece, int64_t first, int64_t n) { tensor.copy(piece, from, first, n); });
  };
  copy(part.codes, tensor.codes);
  if (part.format.nested) {
    copy(part.scale_codes, tensor.scales);
    copy(part.nested_absmax, tensor.nested_absmax);
    copy(part.nested_offset, std::as_bytes(std::span(&tensor.nested_offset, 1)));
  } else {
    stream.send(device, part.scales, blocks_of(part), sizeof(float),
                [&](void* piece, int64_t first, int64_t n) { tensor.read_scales(static_cast<float*>(piece), first, n); });
  }
}

int64_t longest_quantized(const std::vector<Weight>& weights) {
  int64_t most = 0;
  for (const Weight& w : weights)
    for (const WeightPart& part : w.parts) most = std::max(most, blocks_of(part));
  return most;
}

std::vector<Weight> list_weights(const LlamaConfig& config) {
  std::vector<Weight> weights;
  const auto add = [&](const Module& module, bool is_bias) {
    auto same = std::find_if(weights.rbegin(), weights.rend(), [&](const Weight& w) {
      return w.joint == module.joint && w.layer == module.layer && w.is_bias == is_bias;
    });
    if (same == weights.rend()) {
      const std::string block = module.layer < 0 ? "" : fmt::format("layers.{}.", module.layer);
      weights.push_back({module.joint, is_bias, module.layer, block + joint_name(module.joint) + (is_bias ? "_bias" : "")});
      same = weights.rbegin();
    }
    same->cols = is_bias ? 0 : module.cols;
    same->parts.push_back(
        {module.name + (is_bias ? ".bias" : ".weight"), is_bias ? std::vector{module.rows} : module.shape(), same->count()});
    same->rows += module.rows;
  };
  for (const Module& module : modules(config)) {
    add(module, false);
    if (module.bias) add(module, true);
  }
  return weights;
}

}  // namespace tll
