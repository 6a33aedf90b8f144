// export --format merged.
#include "src/base/json.h"
#include "src/commands/export_place.h"
#include "src/commands/save.h"

namespace tll {

Exported export_merged(const Options& options, const ModelSource& source, const AdapterSource& adapter) {
  check_model_output(options, source);
  MergedWeights weights(source, adapter, static_cast<int>(options.threads));
  const ShardParts parts = {.specs =
                                [&](const Module& m) {
                                  std::vector<TensorSpec> specs = {{m.name + ".weight", weights.dtype().file, m.shape()}};
                                  if (m.bias) specs.push_back({m.name + ".bias", weights.dtype().file, {m.rows}});
                                  return specs;
                                },
                            .write =
                                [&](const Module& m, SafetensorsWriter& writer) {
                                  write_dense(weights, m, &writer);
                                  if (m.bias) write_bias(weights, m, &writer);
                                }};
  return write_model_directory(options, source, [&](const std::filesystem::path& to) {
    const auto most = most_in_shard(options.max_shard_size);
    std::vector<std::string> names =
        write_shards(to, source.config, most, adapter.loaded ? "merging" : "writing the model", parts);
    copy_tokenizer(source.directory, to);
    write_json(to / "config.json", config_for_transformers(source, weights.dtype().name));
    return names;
  });
}

}  // namespace tll
