// Covers: src/files/adapter_config.cpp src/files/adapter.cpp src/files/module_pattern.cpp
#include "dev/fuzz/fuzz.h"
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/tiny.h"
#include "src/files/adapter.h"

namespace tll::fuzz {

constexpr const char* kWords[] = {"peft_type",
                                  "LORA",
                                  "bias",
                                  "none",
                                  "all",
                                  "r",
                                  "lora_alpha",
                                  "lora_dropout",
                                  "use_rslora",
                                  "base_model_name_or_path",
                                  "target_modules",
                                  "exclude_modules",
                                  "layers_to_transform",
                                  "layers_pattern",
                                  "layers",
                                  "rank_pattern",
                                  "alpha_pattern",
                                  "init_lora_weights",
                                  "pissa",
                                  "use_dora",
                                  "modules_to_save",
                                  "all-linear",
                                  "q_proj",
                                  "v_proj",
                                  "lm_head",
                                  "embed_tokens",
                                  "self_attn.q_proj",
                                  "model.layers.0.self_attn.q_proj",
                                  ".*",
                                  ".*_proj",
                                  "(q|v)_proj",
                                  "(?i).*Q_PROJ",
                                  ".*(?<=q)_proj",
                                  ".*\\.(0|1)\\..*",
                                  "(a*)*b",
                                  "(a|a)*$",
                                  "(.*)*x",
                                  "((((((.*))))))",
                                  "[a-z.0-9_]*",
                                  "(.*?){1,20}",
                                  "(?=.*q).*",
                                  "\\Z",
                                  "(?P<n>q)",
                                  "(.+.+)+y",
                                  "^",
                                  "$",
                                  "|",
                                  "(?:",
                                  "\\1",
                                  "[[:alpha:]]"};

std::string mutated(const std::string& bytes, Random& random) { return mutated_json(bytes, random, kWords); }

// Matched with a tiny model, and read as the configuration of an adapter with tensors for q_proj and v_proj.
void read(std::string_view bytes) {
  static const TemporaryDirectory directory;
  static const LlamaConfig model = tiny_model();
  static const std::vector<Module> modules = adaptable_modules(model);
  static const bool once = [] {
    std::vector<AdapterPart> parts;
    static const std::vector<float> values(64, 0.5f);
    for (const Module& m : modules)
      if (m.short_name() == "q_proj" || m.short_name() == "v_proj") parts.push_back({m, 2, 4, values.data(), values.data()});
    write_adapter(directory, {.layers = model.layers}, parts);
    return true;
  }();
  (void)once;
  const AdapterConfig config = parse_adapter_config(bytes, "adapter_config.json");
  check_lines(config.warnings);
  completes([&] { targets_among(modules, config, "adapter_config.json"); });
  put(directory / "adapter_config.json", bytes);
  check_lines(read_adapter(directory, model).warnings);
}

}  // namespace tll::fuzz
