// Which adapter a command works on, and how it is saved.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "src/files/adapter.h"
#include "src/model/llama.h"
#include "src/options/options.h"

namespace tll {

// The adapter that the options name (--adapter, --init-adapter) or describe (--rank, --targets, …).
struct AdapterSource {
  std::optional<Adapter> loaded;
  std::vector<LoraTarget> targets;
};
// The adapter in this directory, or, where it is empty, a fresh one as the options describe it.
AdapterSource open_adapter(const Options& options, const LlamaConfig& config, const std::filesystem::path& directory);
// The adapter that --adapter names, or none at all: unlike in training, there is no fresh one.
AdapterSource open_named_adapter(const Options& options, const LlamaConfig& config);

// adapter_model.safetensors (float) and adapter_config.json, as PEFT loads them. An adapter that was loaded keeps its own ranks
// and scales.
void save_adapter(const std::filesystem::path& directory, const Options& options, const AdapterSource& source,
                  const LlamaConfig& config, const std::vector<NamedTensor>& tensors, const float* values);

}  // namespace tll
