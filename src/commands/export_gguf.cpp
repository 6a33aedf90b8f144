// export --format gguf, as llama.cpp's converter writes a model (convert_hf_to_gguf.py): which keys there are, the order of the
// rows of q and k, and which tensors have which type.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/base/units.h"
#include "src/commands/export_names.h"
#include "src/commands/export_place.h"
#include "src/files/gguf_quantize.h"
#include "src/files/gguf_writer.h"
#include "src/model/rope_frequencies.h"
#include "tokenizer/gguf_vocabulary.h"

namespace tll {
namespace {

struct TypeRow {
  GgufType type;
  int64_t file_type;  // general.file_type: llama.cpp's LLAMA_FTYPE
};
// In the order of GgufTypeOption.
constexpr TypeRow kTypes[] = {
    {GgufType::F16, 1}, {GgufType::BF16, 32}, {GgufType::Q8_0, 7}, {GgufType::Q4_0, 2}, {GgufType::F32, 0}};
const TypeRow& type_row(const Options& options) { return kTypes[static_cast<size_t>(options.gguf_type)]; }

// The tensors of the model's rope, which are no weights. Both are per pair of values that is turned.
struct RopeTensor {
  std::string name;
  std::vector<float> values;
};

// Of llama3, what llama.cpp divides the frequencies by: 1, the factor, or between them (Llama 3.1's rope scaling).
std::vector<float> llama3_divisors(const RopeConfig& rope, int dim) {
  std::vector<float> divisors;
  for (int i = 0; i < dim / 2; i++) {
    const double frequency = std::pow(rope.theta, -2.0 * i / dim), wavelength = 2 * std::numbers::pi / frequency;
    const double smooth = (rope.original_max / wavelength - rope.low) / (rope.high - rope.low);
    const double kept = std::clamp(smooth, 0.0, 1.0);
    divisors.push_back(static_cast<float>(1 / ((1 - kept) / rope.factor + kept)));
  }
  return divisors;
}

std::vector<RopeTensor> rope_tensors(const LlamaConfig& c) {
  const auto floats = [](const std::vector<double>& values) { return std::vector<float>(values.begin(), values.end()); };
  if (c.rope.type == RopeType::llama3) return {{"rope_freqs.weight", llama3_divisors(c.rope, c.rotary_dim())}};
  if (c.rope.type == RopeType::longrope)
    return {{"rope_factors_long.weight", floats(c.rope.long_factor)}, {"rope_factors_short.weight", floats(c.rope.short_factor)}};
  return {};
}

// The keys ARCHITECTURE.rope.scaling. …
void add_rope_scaling(GgufMetadata& metadata, const std::string& prefix, const LlamaConfig& c, const std::string& where,
                      std::vector<std::string>& notes) {
  const RopeConfig& rope = c.rope;
  const auto add = [&](const char* key, double value) { metadata.add_float(prefix + "rope.scaling." + key, value); };
  const auto add_type = [&](const char* type) { metadata.add_text(prefix + "rope.scaling.type", type); };
  const auto add_original = [&] { metadata.add_uint(prefix + "rope.scaling.original_context_length", rope.original_max); };
  switch (rope.type) {
    case RopeType::plain:
    case RopeType::llama3:
      return;
    case RopeType::linear:
      add_type("linear"), add("factor", rope.factor);
      return;
    case RopeType::dynamic:
      notes.push_back(fmt::format("llama.cpp has no rope scaling \"dynamic\": the file is right for texts of up to {}",
                                  Counted{c.max_positions, "token"}));
      return;
    case RopeType::yarn:
      if (rope.attention_factor || rope.mscale != 0 || rope.mscale_all_dim != 0 || !rope.truncate)
        bad_file("{}: rope scaling \"yarn\" with attention_factor, mscale or truncate false has no counterpart in GGUF", where);
      add_type("yarn"), add("factor", rope.factor), add_original();
      if (rope.beta_fast != 32) add("yarn_beta_fast", rope.beta_fast);
      if (rope.beta_slow != 1) add("yarn_beta_slow", rope.beta_slow);
      return;
    case RopeType::longrope: {
      // llama.cpp takes the attention factor from the file alone.
      const double given = rope.factor <= 1 ? 1 : std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_max));
      if (c.architecture != &kPhi3) add_type("longrope");
      add_original(), add("attn_factor", rope.attention_factor.value_or(given));
      notes.push_back(fmt::format(
          "llama.cpp takes the long rope factors by the context that it is opened with, not by the text: for texts of up to {0} "
          "use -c {0}",
          rope.original_max));
      return;
    }
  }
}

// The one window of all layers; 0: none. Others are noted.
int32_t sliding_window(const LlamaConfig& c, std::vector<std::string>& notes) {
  if (c.windows.empty() || *std::max_element(c.windows.begin(), c.windows.end()) == 0) return 0;
  const int32_t widest = *std::max_element(c.windows.begin(), c.windows.end());
  if (widest < c.max_positions)
    notes.push_back(fmt::format("the model attends to its last {}, and llama.cpp to all: longer texts have other logits there",
                                Counted{widest, "token"}));
  return std::adjacent_find(c.windows.begin(), c.windows.end(), std::not_equal_to<>()) == c.windows.end() ? widest : 0;
}

void add_model(GgufMetadata& metadata, const LlamaConfig& c, const std::string& where, std::vector<std::string>& notes) {
  const std::string prefix = std::string(gguf_architecture(c)) + ".";
  metadata.add_uint(prefix + "block_count", c.layers);
  metadata.add_uint(prefix + "context_length", c.max_positions);
  metadata.add_uint(prefix + "embedding_length", c.hidden);
  metadata.add_uint(prefix + "feed_forward_length", c.intermediate);
  metadata.add_uint(prefix + "attention.head_count", c.heads);
  metadata.add_uint(prefix + "attention.head_count_kv", c.kv_heads);
  metadata.add_uint(prefix + "attention.key_length", c.head_dim);
  metadata.add_uint(prefix + "attention.value_length", c.head_dim);
  metadata.add_float(prefix + "attention.layer_norm_rms_epsilon", c.rms_eps);
  const int32_t window = sliding_window(c, notes);
  // A Qwen file with the key does not say which layers it is of.
  const bool of_some = c.architecture == &kQwen2 || c.architecture == &kQwen3;
  if ((window > 0 && !of_some) || c.architecture == &kPhi3) metadata.add_uint(prefix + "attention.sliding_window", window);
  metadata.add_uint(prefix + "rope.dimension_count", c.rotary_dim());
  metadata.add_float(prefix + "rope.freq_base", c.rope.theta);
  add_rope_scaling(metadata, prefix, c, where, notes);
  metadata.add_uint(prefix + "vocab_size", c.vocab_size);
}

void add_tokenizer(GgufMetadata& metadata, const ModelSource& source, std::vector<std::string>& notes) {
  const Tokenizer& t = *source.tokenizer;
  GgufVocabulary v = read_gguf_vocabulary(tokenizer_files(source.directory), t, source.config.vocab_size);
  notes.insert(notes.end(), v.notes.begin(), v.notes.end());
  const std::string prefix = "tokenizer.ggml.";
  metadata.add_text(prefix + "model", v.model);
  metadata.add_text(prefix + "pre", v.pre);
  metadata.add_texts(prefix + "tokens", v.tokens);
  if (!v.scores.empty()) metadata.add_floats(prefix + "scores", v.scores);
  metadata.add_ints(prefix + "token_type", v.types);
  if (v.model == "gpt2") metadata.add_texts(prefix + "merges", v.merges);
  // What the tokenizer's files do not say, config.json does, if it is a token that is no text.
  std::optional<int32_t> bos = t.bos(), eos = t.eos();
  const std::optional<int32_t> other = source.config.bos;
  const auto& added = t.added_tokens();
  if (!bos && std::any_of(added.begin(), added.end(), [&](const AddedToken& a) { return a.id == other; })) bos = other;
  if (!eos && !source.eos.empty()) eos = source.eos.front();
  for (const auto& [key, id] :
       {std::pair("bos_token_id", bos), {"eos_token_id", eos}, {"unknown_token_id", t.unk()}, {"padding_token_id", t.pad()}})
    if (id && *id < source.config.vocab_size) metadata.add_uint(prefix + key, *id);
  metadata.add_flag(prefix + "add_bos_token", t.adds_bos());
  metadata.add_flag(prefix + "add_eos_token", t.adds_eos());
  if (v.model == "llama") metadata.add_flag(prefix + "add_space_prefix", v.add_space_prefix);
  if (!source.chat_template.empty()) metadata.add_text("tokenizer.chat_template", source.chat_template);
}

class GgufExport {
 public:
  GgufExport(const Options& options, const ModelSource& source, const AdapterSource& adapter)
      : type_(type_row(options).type), weights_(source, adapter, static_cast<int>(options.threads)) {
    for (const Module& m : modules(source.config)) {
      specs_.push_back({tensor_name(m, ".weight"), type_of(m), m.shape()});
      if (m.bias) specs_.push_back({tensor_name(m, ".bias"), GgufType::F32, {m.rows}});
    }
    if (unblocked_ > 0)
      notes_.push_back(fmt::format("{} rows that are no multiple of 32: held in F16 instead of {}",
                                   unblocked_ == 1 ? "1 matrix has" : fmt::format("{} matrices have", unblocked_),
                                   gguf_type_row(type_).name));
  }

  void write(const std::filesystem::path& file, GgufMetadata& metadata) {
    const LlamaConfig& config = weights_.config();
    const std::vector<RopeTensor> rope = rope_tensors(config);
    for (const RopeTensor& r : rope) specs_.push_back({r.name, GgufType::F32, {static_cast<int64_t>(r.values.size())}});
    GgufWriter writer(file, metadata, specs_);
    for (const RopeTensor& r : rope) writer.put(r.name, 0, std::as_bytes(std::span(r.values)));
    Phase phase("writing GGUF", parameter_count(config));
    for (const Module& m : modules(config)) {
      write_weight(m, writer, phase);
      if (m.bias) write_bias(m, writer);
    }
    writer.commit();
  }

  const std::vector<std::string>& notes() const { return notes_; }

 private:
  std::string tensor_name(const Module& m, const char* suffix) const {
    return gguf_tensor_name(weights_.config(), m.name + suffix);
  }

  // Vectors are F32. The head, also where it is the embedding, has more bits than the other matrices have in 4 bits, as in
  // llama.cpp's files.
  GgufType type_of(const Module& m) {
    if (m.cols == 0) return GgufType::F32;
    const bool head = m.joint == Joint::head || (m.joint == Joint::embed && weights_.config().tie_embeddings);
    const GgufType type = type_ == GgufType::Q4_0 && head ? GgufType::Q8_0 : type_;
    if (m.cols % gguf_type_row(type).block == 0) return type;
    unblocked_++;
    return GgufType::F16;
  }

  void check(const GgufFit& fit, const std::string& what, GgufType type) const {
    if (fit.not_finite > 0) bad_file("{}: {} values are not finite: the model is damaged", what, fit.not_finite);
    if (fit.too_large > 0)
      bad_file("{}: {} too large for {}, which has fp16 in it; use --gguf-type bf16 or f32", what,
               fit.too_large == 1 ? "a value is" : fmt::format("{} values are", Count{fit.too_large}), gguf_type_row(type).name);
  }

  // Values as the file has them, to bytes of the tensor from row `first` on.
  void put(GgufWriter& writer, const std::string& name, const std::string& what, GgufType type, int64_t first, int64_t cols) {
    const auto count = static_cast<int64_t>(values_.size());
    GgufFit fit;
    bytes_.resize(static_cast<size_t>(gguf_bytes(type, count)));
    gguf_quantize(type, values_.data(), count, bytes_.data(), fit);
    check(fit, what, type);
    writer.put(name, gguf_bytes(type, first * cols), bytes_);
  }

  // Rows of heads in llama.cpp's order, in place.
  void pair_rows(int64_t rows, int64_t cols) {
    const int64_t head_dim = weights_.config().head_dim;
    std::vector<float> head(static_cast<size_t>(head_dim * cols));
    for (int64_t first = 0; first < rows; first += head_dim) {
      float* values = values_.data() + first * cols;
      std::copy_n(values, head.size(), head.data());
      for (int64_t row = 0; row < head_dim; row++)
        std::copy_n(head.data() + row * cols, cols, values + gguf_paired_row(row, head_dim) * cols);
    }
  }

  void write_weight(const Module& m, GgufWriter& writer, Phase& phase) {
    const bool paired = gguf_rows_are_paired(weights_.config(), m.name + ".weight");
    const int64_t cols = std::max<int64_t>(m.cols, 1);
    const int64_t step = MergedWeights::rows_of_piece(m, paired ? weights_.config().head_dim : 1);
    const std::string name = tensor_name(m, ".weight");
    const GgufType type =
        std::find_if(specs_.begin(), specs_.end(), [&](const GgufTensorSpec& s) { return s.name == name; })->type;
    for (int64_t row = 0; row < m.rows; row += step) {
      const int64_t n = m.cols == 0 ? m.rows : std::min(step, m.rows - row);
      values_.resize(static_cast<size_t>(n * cols));
      weights_.read_rows(m, row, n, DType::f32, values_.data());
      if (paired) pair_rows(n, cols);
      put(writer, name, weights_.what(m), type, m.cols == 0 ? 0 : row, m.cols == 0 ? n : cols);
      phase.advance(n * cols);
      if (m.cols == 0) return;
    }
  }

  void write_bias(const Module& m, GgufWriter& writer) {
    values_.resize(static_cast<size_t>(m.rows));
    weights_.read(m.name + ".bias", 0, m.rows, DType::f32, values_.data());
    if (gguf_rows_are_paired(weights_.config(), m.name + ".bias")) pair_rows(m.rows, 1);
    put(writer, tensor_name(m, ".bias"), m.name + ".bias", GgufType::F32, 0, 1);
  }

  GgufType type_;
  MergedWeights weights_;
  std::vector<GgufTensorSpec> specs_;
  std::vector<std::string> notes_;
  std::vector<float> values_;
  std::vector<std::byte> bytes_;
  int64_t unblocked_ = 0;  // matrices whose rows are no multiple of a block
};

}  // namespace

Exported export_gguf(const Options& options, const ModelSource& source, const AdapterSource& adapter) {
  const TypeRow& type = type_row(options);
  const std::filesystem::path file =
      output_file(options, source, gguf_file_name(options, source, std::string(gguf_type_row(type.type).name)));
  GgufExport model(options, source, adapter);
  std::vector<std::string> notes = model.notes();
  GgufMetadata metadata;
  add_general(metadata, options, source, "model");
  metadata.add_uint("general.file_type", type.file_type);
  metadata.add_uint("general.quantization_version", 2);
  add_model(metadata, source.config, source.config_file.string(), notes);
  add_tokenizer(metadata, source, notes);
  return write_output_file(file, std::move(notes), [&] { model.write(file, metadata); });
}

}  // namespace tll
