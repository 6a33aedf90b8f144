// export --format bnb-4bit.
#include <algorithm>
#include <array>
#include <map>

#include "kernels/quantized.h"
#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/commands/export_place.h"
#include "src/commands/save.h"

namespace tll {
namespace {

// The scales of a quantised tensor.
struct Scales {
  std::vector<float> plain;  // not double quantised
  std::vector<uint8_t> codes;
  std::vector<float> nested;
  float offset = 0;
};

// The layout of a file must be known before its data, and the text of a quant_state has the mean of the scales. So a double
// quantised model is quantised twice: once for the scales, which are kept, once for the codes, which are written as they come.
class Bnb4bitExport {
 public:
  Bnb4bitExport(const Options& options, const ModelSource& source, const AdapterSource& adapter)
      : options_(options), source_(source), weights_(source, adapter, static_cast<int>(options.threads)) {
    device_.threads = static_cast<int>(options.threads);
    dynamic_map(true, map_.data());
  }

  // Before the output is touched: also finds the weights that cannot be written.
  void measure() {
    Phase phase("measuring scales", parameter_count(source_.config));
    for (const Module& m : modules(source_.config)) {
      if (m.adaptable)
        quantize(m, nullptr);
      else
        write_dense(weights_, m, nullptr);
      if (m.bias) write_bias(weights_, m, nullptr);
      phase.advance(m.rows * std::max<int64_t>(m.cols, 1));
    }
  }

  // All files of the new model into this directory. Returns the names of those of tensors.
  std::vector<std::string> write(const std::filesystem::path& to) {
    const ShardParts parts = {.specs = [&](const Module& m) { return specs_of(m); },
                              .write = [&](const Module& m, SafetensorsWriter& writer) { write_module(m, writer); }};
    std::vector<std::string> names =
        write_shards(to, source_.config, most_in_shard(options_.max_shard_size), "quantising", parts);
    const char* dtype = weights_.dtype().name;
    Json config = config_for_transformers(source_, dtype);
    config["quantization_config"] = quantization_json(options_.double_quant, dtype);
    copy_tokenizer(source_.directory, to);
    write_json(to / "config.json", config);
    return names;
  }

 private:
  static std::string state_name(const Module& m) { return m.name + ".weight.quant_state.bitsandbytes__nf4"; }

  std::string state_text(const Module& m) const {
    return quant_state_text(weights_.dtype().name, m.shape(), options_.double_quant ? &scales_.at(m.name).offset : nullptr);
  }

  // In the order of a state dict, by which files are split.
  std::vector<TensorSpec> specs_of(const Module& m) const {
    std::vector<TensorSpec> specs;
    const std::string name = m.name + ".weight";
    if (!m.adaptable) {
      specs.push_back({name, weights_.dtype().file, m.shape()});
    } else {
      const int64_t count = m.rows * m.cols, blocks = kFormat.blocks(count);
      specs.push_back({name, FileDtype::U8, {kFormat.code_bytes(count), 1}});
      specs.push_back({name + ".absmax", options_.double_quant ? FileDtype::U8 : FileDtype::F32, {blocks}});
      specs.push_back({name + ".quant_map", FileDtype::F32, {16}});
      if (options_.double_quant) {
        specs.push_back({name + ".nested_absmax", FileDtype::F32, {QuantizedFormat::nested_blocks(blocks)}});
        specs.push_back({name + ".nested_quant_map", FileDtype::F32, {256}});
      }
      specs.push_back({state_name(m), FileDtype::U8, {static_cast<int64_t>(state_text(m).size())}});
    }
    if (m.bias) specs.push_back({m.name + ".bias", weights_.dtype().file, {m.rows}});
    return specs;
  }

  void write_module(const Module& m, SafetensorsWriter& writer) {
    if (m.adaptable) {
      quantize(m, &writer);
      const Scales& s = scales_.at(m.name);
      const std::string name = m.name + ".weight", text = state_text(m);
      const auto put = [&](const char* suffix, const auto& values) {
        writer.put(name + suffix, 0, std::data(values), std::size(values) * sizeof(*std::data(values)));
      };
      put(".quant_map", kNf4Book);
      if (options_.double_quant) {
        put(".absmax", s.codes);
        put(".nested_absmax", s.nested);
        put(".nested_quant_map", map_);
      } else {
        put(".absmax", s.plain);
        scales_.erase(m.name);
      }
      writer.put(state_name(m), 0, text.data(), text.size());
    } else {
      write_dense(weights_, m, &writer);
    }
    if (m.bias) write_bias(weights_, m, &writer);
  }

  // Codes go to the writer, if there is one; scales are kept where they are double quantised, or for the writer.
  void quantize(const Module& m, SafetensorsWriter* writer) {
    const int64_t count = m.rows * m.cols, blocks = kFormat.blocks(count);
    Scales& s = scales_[m.name];
    s.plain.resize(static_cast<size_t>(blocks));
    const int64_t rows = MergedWeights::rows_of_piece(m, kQuantBlock);  // so pieces begin at a block
    const DType type = weights_.dtype().type;
    int32_t not_finite = 0;
    for (int64_t row = 0; row < m.rows; row += rows) {
      const int64_t first = row * m.cols, n = std::min(rows, m.rows - row) * m.cols;
      piece_.resize(static_cast<size_t>(n) * dtype_bytes(type));
      weights_.read_rows(m, row, std::min(rows, m.rows - row), type, piece_.data());
      codes_.resize(static_cast<size_t>(kFormat.code_bytes(n)));
      run(device_, QuantizeBlocks{.codes = codes_.data(),
                                  .scales = s.plain.data() + first / kQuantBlock,
                                  .in = piece_.data(),
                                  .not_finite = &not_finite,
                                  .count = n,
                                  .dtype = type,
                                  .code = WeightCode::nf4});
      if (writer) writer->put(m.name + ".weight", static_cast<uint64_t>(kFormat.code_bytes(first)), codes_.data(), codes_.size());
    }
    if (not_finite > 0)
      bad_file("{}: tensor {}.weight: {} elements are not finite, and such a weight cannot be quantised",
               source_.directory.string(), m.name, not_finite);
    if (!options_.double_quant) {
      if (!writer) s.plain = std::vector<float>();
      return;
    }
    if (!writer) {
      s.codes.resize(static_cast<size_t>(blocks));
      s.nested.resize(static_cast<size_t>(QuantizedFormat::nested_blocks(blocks)));
      run(device_, QuantizeScales{.codes = s.codes.data(),
                                  .nested_absmax = s.nested.data(),
                                  .nested_offset = &s.offset,
                                  .scales = s.plain.data(),
                                  .map = map_.data(),
                                  .blocks = blocks});
    }
    s.plain = std::vector<float>();
  }

  static constexpr QuantizedFormat kFormat = {.code = WeightCode::nf4};

  const Options& options_;
  const ModelSource& source_;
  MergedWeights weights_;
  Device device_;
  std::array<float, 256> map_;
  std::map<std::string, Scales> scales_;  // by module
  std::vector<std::byte> piece_;
  std::vector<uint8_t> codes_;
};

}  // namespace

Exported export_bnb_4bit(const Options& options, const ModelSource& source, const AdapterSource& adapter) {
  check_model_output(options, source);
  Bnb4bitExport model(options, source, adapter);
  model.measure();
  return write_model_directory(options, source, [&](const std::filesystem::path& to) { return model.write(to); });
}

}  // namespace tll
