// Covers: src/files/model_files.cpp
#include "dev/fuzz/fuzz.h"
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/tiny.h"
#include "src/files/model_files.h"

namespace tll::fuzz {

constexpr const char* kWords[] = {"metadata",
                                  "total_size",
                                  "weight_map",
                                  "a.safetensors",
                                  "b.safetensors",
                                  "lm_head.weight",
                                  "model.embed_tokens.weight",
                                  "model.norm.weight",
                                  "more",
                                  "..",
                                  ".",
                                  "/etc/passwd",
                                  "a/b",
                                  "x.qweight"};

std::string mutated(const std::string& bytes, Random& random) { return mutated_json(bytes, random, kWords); }

// The tiny model's tensors are in two files.
void read(std::string_view bytes) {
  static const TemporaryDirectory directory;
  static const LlamaConfig config = tiny_model();
  static const bool once = [] {
    const std::vector<WeightSpec> specs = weight_specs(config);
    const std::vector<std::byte> zeros(4096);
    std::vector<TensorEntry> first, second = {{{"more", FileDtype::U8, {1}}, std::span(zeros).first(1)}};
    for (const WeightSpec& spec : specs) {
      const size_t size = size_t(element_count(spec.shape)) * sizeof(float);
      (spec.name.ends_with("_proj.weight") ? first : second)
          .push_back({{spec.name, FileDtype::F32, spec.shape}, std::span(zeros).first(size)});
    }
    write_safetensors(directory / "a.safetensors", first);
    write_safetensors(directory / "b.safetensors", second);
    return true;
  }();
  (void)once;
  put(directory / "model.safetensors.index.json", bytes);
  const ModelFiles files(directory, config);
  check_lines(files.warnings());
  for (const WeightSpec& spec : weight_specs(config)) files.tensor(spec.name);
}

}  // namespace tll::fuzz
