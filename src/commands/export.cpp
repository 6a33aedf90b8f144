// export: a model, with its adapter merged into it, in the format of another program.
#include "src/commands/export.h"

#include <algorithm>
#include <array>
#include <map>

#include "kernels/matmul.h"
#include "src/base/file.h"
#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/save.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexFile = "model.safetensors.index.json";

struct DtypeName {
  const char* name;
  DType type;
  FileDtype file;
};
constexpr DtypeName kDtypeNames[] = {
    {"bfloat16", DType::bf16, FileDtype::BF16}, {"float16", DType::f16, FileDtype::F16}, {"float32", DType::f32, FileDtype::F32}};

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
  Bnb4bitExport(const Options& options, const ModelSource& source, const AdapterSource& adapter, uint64_t most_in_file)
      : options_(options),
        source_(source),
        adapter_(adapter),
        most_in_file_(most_in_file),
        files_(open_weights(source, adapter, Replaces::all)) {
    dynamic_map(true, map_.data());
    const FileDtype embedding = files_.tensor("model.embed_tokens.weight").dtype;
    for (const DtypeName& row : kDtypeNames)
      if (source.config.dtype.empty() ? row.file == embedding : row.name == source.config.dtype) dtype_ = row;
  }

  // Before the output is touched: also finds the weights that cannot be written.
  void measure() {
    Phase phase("measuring scales", parameter_count(source_.config));
    for (const Module& m : modules(source_.config)) {
      if (m.adaptable)
        quantize(m, nullptr);
      else
        write_dense(m.name + ".weight", m.rows * std::max<int64_t>(m.cols, 1), nullptr);
      if (m.bias) write_dense(m.name + ".bias", m.rows, nullptr);
      phase.advance(m.rows * std::max<int64_t>(m.cols, 1));
    }
  }

  // All files of the new model into this directory. Returns the names of those of tensors.
  std::vector<std::string> write(const fs::path& to) {
    Phase phase("quantising", parameter_count(source_.config));
    const std::vector<std::vector<Module>> files = split();
    std::vector<std::string> names;
    Json index = Json::object();
    uint64_t total = 0;
    for (size_t i = 0; i < files.size(); i++) {
      names.push_back(files.size() == 1 ? "model.safetensors"
                                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size()));
      std::vector<TensorSpec> specs;
      for (const Module& m : files[i])
        for (TensorSpec& spec : specs_of(m)) specs.push_back(std::move(spec));
      SafetensorsWriter writer(to / names.back(), specs);
      for (const TensorInfo& t : writer.order()) index[t.name] = names.back(), total += t.end - t.begin;
      for (const Module& m : files[i]) {
        write_module(m, writer);
        phase.advance(m.rows * std::max<int64_t>(m.cols, 1));
      }
      writer.commit();
    }
    if (files.size() > 1) {
      write_json(to / kIndexFile, {{"metadata", {{"total_size", total}, {"total_parameters", parameter_count(source_.config)}}},
                                   {"weight_map", index}});
      names.emplace_back(kIndexFile);
    }
    Json config = config_for_transformers(source_.config_file, dtype_.name);
    if (source_.rows_in_files > 0) config["vocab_size"] = source_.config.vocab_size;
    config["quantization_config"] = quantization_json(options_.double_quant, dtype_.name);
    copy_tokenizer(source_.directory, to);
    write_json(to / "config.json", config);  // last: without it the directory is no model
    return names;
  }

 private:
  std::string state_name(const Module& m) const { return m.name + ".weight.quant_state.bitsandbytes__nf4"; }
  std::string state_text(const Module& m) const {
    return quant_state_text(dtype_.name, m.shape(), options_.double_quant ? &scales_.at(m.name).offset : nullptr);
  }

  // In the order of a state dict, by which files are split.
  std::vector<TensorSpec> specs_of(const Module& m) const {
    std::vector<TensorSpec> specs;
    const std::string name = m.name + ".weight";
    if (!m.adaptable) {
      specs.push_back({name, dtype_.file, m.shape()});
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
    if (m.bias) specs.push_back({m.name + ".bias", dtype_.file, {m.rows}});
    return specs;
  }

  // The modules of each file.
  std::vector<std::vector<Module>> split() const {
    std::vector<std::vector<Module>> files(1);
    uint64_t size = 0;
    for (const Module& m : modules(source_.config)) {
      uint64_t bytes = 0;
      for (const TensorSpec& spec : specs_of(m))
        bytes += static_cast<uint64_t>(element_count(spec.shape) * file_dtype_bits(spec.dtype) / 8);
      if (size + bytes > most_in_file_ && !files.back().empty()) files.emplace_back(), size = 0;
      files.back().push_back(m);
      size += bytes;
    }
    return files;
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
      write_dense(m.name + ".weight", m.rows * std::max<int64_t>(m.cols, 1), &writer);
    }
    if (m.bias) write_dense(m.name + ".bias", m.rows, &writer);
  }

  // To the writer, if there is one.
  void write_dense(const std::string& name, int64_t count, SafetensorsWriter* writer) {
    const auto width = static_cast<int64_t>(dtype_bytes(dtype_.type));
    for (int64_t first = 0; first < count; first += kPiece) {
      const int64_t n = std::min(kPiece, count - first);
      piece_.resize(static_cast<size_t>(n * width));
      files_.load(name, piece_.data(), dtype_.type, first, n);
      if (writer) writer->put(name, static_cast<uint64_t>(first * width), piece_.data(), piece_.size());
    }
  }

  // Codes go to the writer, if there is one; scales are kept where they are double quantised, or for the writer.
  void quantize(const Module& m, SafetensorsWriter* writer) {
    const int64_t count = m.rows * m.cols, blocks = kFormat.blocks(count);
    Scales& s = scales_[m.name];
    s.plain.resize(static_cast<size_t>(blocks));
    const int64_t rows =
        std::max<int64_t>(kQuantBlock, kPiece / m.cols / kQuantBlock * kQuantBlock);  // so pieces begin at a block
    int32_t not_finite = 0;
    for (int64_t row = 0; row < m.rows; row += rows) {
      const int64_t first = row * m.cols, n = std::min(rows, m.rows - row) * m.cols;
      read_rows(m, row, std::min(rows, m.rows - row));
      codes_.resize(static_cast<size_t>(kFormat.code_bytes(n)));
      run(device_, QuantizeBlocks{.codes = codes_.data(),
                                  .scales = s.plain.data() + first / kQuantBlock,
                                  .in = piece_.data(),
                                  .not_finite = &not_finite,
                                  .count = n,
                                  .dtype = dtype_.type,
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

  // Rows of W, or of W + scale · B · A rounded once, to piece_ in the model's type.
  void read_rows(const Module& m, int64_t row, int64_t rows) {
    const int64_t count = rows * m.cols;
    piece_.resize(static_cast<size_t>(count) * dtype_bytes(dtype_.type));
    const AdapterModule* adapted = nullptr;
    if (adapter_.loaded)
      for (const AdapterModule& a : adapter_.loaded->modules)
        if (a.module.name == m.name) adapted = &a;
    if (!adapted) return files_.load(m.name + ".weight", piece_.data(), dtype_.type, row * m.cols, count);
    merged_.resize(static_cast<size_t>(count));
    files_.load(m.name + ".weight", merged_.data(), DType::f32, row * m.cols, count);
    matmul_.resize(static_cast<size_t>(Matmul<float>::scratch_floats(static_cast<int>(options_.threads))));
    const int n = static_cast<int>(rows), cols = static_cast<int>(m.cols);
    run(device_, Matmul<float>{.out = matrix(merged_.data(), n, cols),
                               .a = matrix(adapted->b.data() + row * adapted->rank, n, adapted->rank),
                               .b = matrix(adapted->a.data(), adapted->rank, cols),
                               .alpha = adapted->scale,
                               .accumulate = true,
                               .scratch = {matmul_.data(), static_cast<int64_t>(matmul_.size())}});
    convert_tensor({FileDtype::F32, {}, std::as_bytes(std::span(merged_))}, piece_.data(), dtype_.type,
                   fmt::format("{}: tensor {}.weight with the adapter", source_.directory.string(), m.name));
  }

  static constexpr int64_t kPiece = 1 << 22;  // elements
  static constexpr QuantizedFormat kFormat = {.code = WeightCode::nf4};

  const Options& options_;
  const ModelSource& source_;
  const AdapterSource& adapter_;
  const uint64_t most_in_file_;
  const ModelFiles files_;
  DtypeName dtype_ = kDtypeNames[0];
  Device device_{.threads = static_cast<int>(options_.threads)};
  std::array<float, 256> map_;
  std::map<std::string, Scales> scales_;  // by module
  std::vector<std::byte> piece_;
  std::vector<uint8_t> codes_;
  std::vector<float> merged_, matmul_;
};

constexpr const char* kMadeHere = ".export";  // in --output, while the new model is made

// What the new model replaces, which must have been asked for; config.json first, without which nothing is loaded from there.
std::vector<fs::path> replaced_files(const Options& options, const fs::path& model) {
  const fs::path& output = options.output;
  std::error_code none;
  if (fs::equivalent(output, model, none))
    fail(kExitUsage, "--output {} is the directory of the model; choose another, so that the model stays as it is",
         output.string());
  std::vector<fs::path> old;
  if (!fs::exists(output)) return old;
  for (const char* name : {kAdapterTensors, kAdapterSettings})
    if (fs::exists(output / name))
      fail(kExitUsage,
           "{} holds an adapter, which transformers would apply to the model that is written there; choose another --output",
           output.string());
  for (const auto& entry : fs::directory_iterator(output)) {
    const std::string name = entry.path().filename().string();
    const bool weights = name.starts_with("model") && (name.ends_with(".safetensors") || name == kIndexFile);
    if (weights || name == "config.json") old.push_back(entry.path());
  }
  if (!old.empty() && !options.overwrite)
    fail(kExitUsage, "--output {} holds a model; choose another, or --overwrite to drop what is there", output.string());
  std::sort(old.begin(), old.end());
  return old;
}

}  // namespace

std::vector<std::string> export_bnb_4bit(const Options& options, const ModelSource& source, const AdapterSource& adapter,
                                         uint64_t most_in_file) {
  const std::vector<fs::path> old = replaced_files(options, source.directory);
  Bnb4bitExport model(options, source, adapter, most_in_file);
  model.measure();
  // The new model is made beside the old one, so whatever ends this leaves the old one whole.
  const fs::path made = options.output / kMadeHere;
  fs::remove_all(made);  // of an export that was killed
  fs::create_directories(made);
  std::vector<std::string> names;
  try {
    names = model.write(made);
  } catch (...) {
    std::error_code none;
    fs::remove_all(made, none);
    fs::remove(options.output, none);  // only if it is empty
    throw;
  }
  const KeepFromStopping keep;
  for (const fs::path& path : old) fs::remove(path);
  std::vector<fs::path> files(fs::directory_iterator(made), {});
  std::stable_partition(files.begin(), files.end(), [](const fs::path& f) { return f.filename() != "config.json"; });
  for (const fs::path& file : files) fs::rename(file, options.output / file.filename());  // config.json last
  fs::remove(made);
  flush_directory(options.output);
  return names;
}

int command_export(Options& options) {
  options.device = DeviceOption::kCpu;
  resolve_options(options);
  const ModelSource source = open_model(options, TokenizerNeed::none);
  const AdapterSource adapter = open_named_adapter(options, source.config);
  catch_stop_signals();
  std::vector<std::string> files;
  try {
    files = export_bnb_4bit(options, source, adapter);
  } catch (const Stopped& stopped) {
    fmt::print(stderr, "{}: nothing was written to {}\n", stopped.what(), options.output.string());
    return kExitInterrupted;
  }
  files.emplace_back("config.json");
  for (const char* name : kTokenizerFiles)
    if (fs::exists(options.output / name)) files.emplace_back(name);
  int64_t bytes = 0;
  for (const std::string& name : files) bytes += static_cast<int64_t>(fs::file_size(options.output / name));
  if (options.json)
    fmt::print("{}\n", json_text({{"files", files},
                                  {"bytes", bytes},
                                  {"losses", Json::object()},  // there is no data to take them of
                                  {"output", options.output.string()}}));
  else if (!options.quiet)
    fmt::print("wrote {}: {} in {}\n", options.output.string(), Bytes{bytes},
               Counted{static_cast<int64_t>(files.size()), "file"});
  return kExitDone;
}

}  // namespace tll
