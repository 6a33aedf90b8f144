// Where `export` writes: what may be replaced there, and files that appear when they are whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "src/commands/export.h"
#include "src/commands/merged_weights.h"
#include "src/files/safetensors.h"

namespace tll {

// Bytes of --max-shard-size; 0, no limit, is the most that there are.
inline uint64_t most_in_shard(int64_t option) { return option == 0 ? UINT64_MAX : static_cast<uint64_t>(option); }

// Error (kExitUsage) if no model may be written to --output: it holds one already, and --overwrite was not given, or an adapter,
// or is that of the model that is exported.
void check_model_output(const Options& options, const ModelSource& source);

// A model directory at --output, which is checked so. `write` makes all its files in the directory that it is given, and returns
// the names of those with tensors. They then replace the model that is at --output; other files there stay.
Exported write_model_directory(const Options& options, const ModelSource& source,
                               const std::function<std::vector<std::string>(const std::filesystem::path&)>& write);

// How a model's tensors become files of safetensors.
struct ShardParts {
  std::function<std::vector<TensorSpec>(const Module&)> specs;
  std::function<void(const Module&, SafetensorsWriter&)> write;
};
// model.safetensors; or, where that would have more than `most` bytes of tensors, model-00001-of-0000n.safetensors and an index,
// as on the Hub. A module stays in one file. Returns their names. A phase of this name (src/base/phase.h).
std::vector<std::string> write_shards(const std::filesystem::path& to, const LlamaConfig& config, uint64_t most,
                                      const char* activity, const ShardParts& parts);

// A dense tensor of a module, in the model's type: MODULE.weight, with the adapter, or MODULE.bias. To the writer, if there is
// one.
void write_dense(MergedWeights& weights, const Module& module, SafetensorsWriter* writer);
void write_bias(const MergedWeights& weights, const Module& module, SafetensorsWriter* writer);

// The file that --output names: itself, or `name` in it where it is a directory, or has no ending ".gguf".
std::filesystem::path output_file(const Options& options, const ModelSource& source, const std::string& name);
// `write` writes this file, atomically; its directory is made, and removed again where nothing was written.
Exported write_output_file(const std::filesystem::path& file, std::vector<std::string> notes, const std::function<void()>& write);

}  // namespace tll
