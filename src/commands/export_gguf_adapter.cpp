// export --format gguf-adapter. For each adapted matrix NAME.weight the file has NAME.weight.lora_a (r, in) and
// NAME.weight.lora_b (out, r), and for all of them one adapter.lora.alpha; llama.cpp computes W x + alpha / r · B (A x), with r
// of the tensors. So what is another scale than that (rsLoRA, or ranks and alphas that differ) is multiplied into B. Where the
// rows of W are in another order than Hugging Face's (q and k of architecture "llama"), those of B are, too.
//
// Source: llama.cpp's src/llama-adapter.cpp and convert_lora_to_gguf.py.
#include <cmath>
#include <cstring>

#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/commands/export_names.h"
#include "src/commands/export_place.h"
#include "src/files/gguf_file.h"
#include "src/files/gguf_writer.h"

namespace tll {
namespace {

// llama.cpp adds no weights but pairs of A and B. What the adapter brings besides must be what the model has.
void check_base_tensors(const ModelSource& source, const Adapter& adapter) {
  if (adapter.base_tensors.empty()) return;
  ModelFiles files = open_files(source);
  for (const BaseTensor& tensor : adapter.base_tensors) {
    const bool tied = source.config.tie_embeddings && tensor.name == "lm_head.weight";
    if (files.replace(tied ? "model.embed_tokens.weight" : tensor.name, *adapter.file, *tensor.info))
      bad_file("{}: {} differs from the base model's, and a GGUF adapter cannot hold it; use --format gguf, which merges it",
               adapter.file->path().string(), tensor.name);
  }
}

// B of the file: its rows in llama.cpp's order, times `factor`.
std::vector<float> b_of_file(const LlamaConfig& config, const AdapterModule& m, double factor) {
  std::vector<float> b(m.b.size());
  const bool paired = gguf_rows_are_paired(config, m.module.name + ".weight");
  for (int64_t row = 0; row < m.module.rows; row++) {
    const int64_t to = paired ? gguf_paired_row(row, config.head_dim) : row;
    for (int64_t k = 0; k < m.rank; k++)
      b[static_cast<size_t>(to * m.rank + k)] =
          static_cast<float>(static_cast<double>(m.b[static_cast<size_t>(row * m.rank + k)]) * factor);
  }
  return b;
}

}  // namespace

Exported export_gguf_adapter(const Options& options, const ModelSource& source, const AdapterSource& from) {
  if (!from.loaded) fail(kExitUsage, "--format gguf-adapter writes an adapter: name it with --adapter DIR");
  const std::filesystem::path file = output_file(options, source, gguf_file_name(options, source, "F32-LoRA"));
  const Adapter& adapter = *from.loaded;
  check_base_tensors(source, adapter);
  // The first module's scale · r; 0 in an f32, which llama.cpp would take for 1 · r, is left to B.
  const AdapterModule& first = adapter.modules.front();
  const auto scaled = static_cast<float>(first.scale * first.rank);
  const float alpha = std::isnormal(scaled) ? scaled : static_cast<float>(first.rank);
  GgufMetadata metadata;
  add_general(metadata, options, source, "adapter");
  metadata.add_text("adapter.type", "lora");
  metadata.add_float("adapter.lora.alpha", alpha);
  metadata.add_uint("general.file_type", 0);  // all F32
  metadata.add_uint("general.quantization_version", 2);
  std::vector<GgufTensorSpec> specs;
  std::vector<std::string> names;
  for (const AdapterModule& m : adapter.modules) {
    names.push_back(gguf_tensor_name(source.config, m.module.name + ".weight"));
    specs.push_back({names.back() + ".lora_a", GgufType::F32, {m.rank, m.module.cols}});
    specs.push_back({names.back() + ".lora_b", GgufType::F32, {m.module.rows, m.rank}});
  }
  return write_output_file(file, {}, [&] {
    GgufWriter writer(file, metadata, specs);
    Phase phase("writing GGUF", static_cast<int64_t>(adapter.modules.size()));
    for (size_t i = 0; i < names.size(); i++) {
      const AdapterModule& m = adapter.modules[i];
      const double own = static_cast<double>(alpha) / m.rank;  // what llama.cpp multiplies with
      // Scales that are one to within the rounding of alpha to a float are one.
      const double factor = std::abs(m.scale / own - 1) < 1e-7 ? 1 : m.scale / own;
      const std::vector<float> b = b_of_file(source.config, m, factor);
      writer.put(names[i] + ".lora_a", 0, std::as_bytes(std::span(m.a)));
      writer.put(names[i] + ".lora_b", 0, std::as_bytes(std::span(b)));
      phase.advance();
    }
    writer.commit();
  });
}

AdapterSource read_gguf_adapter(const std::filesystem::path& path, const LlamaConfig& config) {
  const GgufFile file(path);
  if (file.text("general.type") != "adapter" || file.text("adapter.type") != "lora" ||
      file.text("general.architecture") != gguf_architecture(config))
    bad_file("{}: expected a LoRA adapter of architecture {}", path.string(), gguf_architecture(config));
  const double alpha = file.number("adapter.lora.alpha").value_or(0);
  AdapterSource source;
  Adapter& adapter = source.loaded.emplace();
  for (const Module& m : adaptable_modules(config)) {
    const std::string weight = m.name + ".weight", name = gguf_tensor_name(config, weight);
    const GgufTensor *a = file.find(name + ".lora_a"), *b = file.find(name + ".lora_b");
    if (!a || !b) continue;
    const int64_t rank = a->shape.empty() ? 0 : a->shape[0];
    if (rank < 1 || rank > INT32_MAX || a->shape != std::vector{rank, m.cols} || b->shape != std::vector{m.rows, rank} ||
        a->type != GgufType::F32 || b->type != GgufType::F32)
      bad_file("{}: tensors {}.lora_a and .lora_b: expected F32 of [r, {}] and [{}, r], found {} and {}", path.string(), name,
               m.cols, m.rows, shape_text(a->shape), shape_text(b->shape));
    const auto values = [&](const GgufTensor& t) {
      std::vector<float> all(file.bytes(t).size() / sizeof(float));
      std::memcpy(all.data(), file.bytes(t).data(), all.size() * sizeof(float));
      return all;
    };
    std::vector<float> rows = values(*b);
    if (gguf_rows_are_paired(config, weight)) {
      const std::vector<float> paired = rows;
      for (int64_t row = 0; row < m.rows; row++)
        std::copy_n(paired.data() + gguf_paired_row(row, config.head_dim) * rank, rank, rows.data() + row * rank);
    }
    const double scale = alpha == 0 ? 1 : alpha / static_cast<double>(rank);
    adapter.modules.push_back(
        {.module = m, .rank = static_cast<int>(rank), .alpha = alpha, .scale = scale, .a = values(*a), .b = std::move(rows)});
    source.targets.push_back({m, static_cast<int>(rank), scale});
  }
  if (2 * adapter.modules.size() != file.tensors().size())
    bad_file("{}: {} of its tensors are no lora_a or lora_b of this model", path.string(),
             file.tensors().size() - 2 * adapter.modules.size());
  return source;
}

}  // namespace tll
