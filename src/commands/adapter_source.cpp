#include "src/commands/adapter_source.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/commands/model_source.h"

namespace tll {

AdapterSource open_adapter(const Options& options, const LlamaConfig& config, const std::filesystem::path& directory) {
  AdapterSource source;
  if (!directory.empty()) {
    source.loaded = read_adapter(directory, config);
    for (const AdapterModule& m : source.loaded->modules) source.targets.push_back({m.module, m.rank, m.scale});
    return source;
  }
  const double scale = lora_scale(options.alpha, static_cast<int>(options.rank), options.rslora);
  for (const Module& module : adaptable_modules(config))
    if (std::find(options.targets.begin(), options.targets.end(), module.short_name()) != options.targets.end())
      source.targets.push_back({module, static_cast<int>(options.rank), scale});
  return source;
}

AdapterSource open_named_adapter(const Options& options, const LlamaConfig& config) {
  return options.adapter.empty() ? AdapterSource{} : open_adapter(options, config, options.adapter);
}

void save_adapter(const std::filesystem::path& directory, const Options& options, const AdapterSource& source,
                  const LlamaConfig& config, const std::vector<NamedTensor>& tensors, const float* values) {
  const auto find = [&](const LoraTarget& t, bool is_b) {
    const std::string name = peft_name(t.module, is_b);
    const auto tensor = std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& n) { return n.name == name; });
    TLL_CHECK(tensor != tensors.end(), "{} is not trained", name);
    return values + tensor->offset;
  };
  std::vector<AdapterPart> parts;
  for (size_t i = 0; i < source.targets.size(); i++) {
    const LoraTarget& t = source.targets[i];
    const double alpha = source.loaded ? source.loaded->modules[i].alpha : options.alpha;
    parts.push_back({t.module, t.rank, alpha, find(t, false), find(t, true)});
  }
  AdapterHeader header;
  header.base_model = options.model.empty() ? demo_directory().string() : options.model.string();
  header.dropout = options.dropout;
  header.rslora = source.loaded ? source.loaded->config.rslora : options.rslora;
  header.layers = config.layers;
  write_adapter(directory, header, parts);
}

}  // namespace tll
