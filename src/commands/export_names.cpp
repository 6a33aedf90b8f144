#include "src/commands/export_names.h"

#include "src/files/find_files.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

// The last part of a path, also of "models/x/" and "..".
std::string last_part(const fs::path& path, bool file) {
  std::error_code none;
  fs::path whole = fs::weakly_canonical(path, none);
  if (none) whole = path;
  if (!whole.has_filename()) whole = whole.parent_path();
  return (file ? whole.stem() : whole.filename()).string();
}

// ORG/NAME, where it is known; else empty.
std::string hub_name(const Options& options) {
  return options.base_name.empty() ? hub_name_of(options.model) : options.base_name;
}

}  // namespace

std::string model_name(const Options& options, const ModelSource& source) {
  if (const std::string hub = hub_name(options); !hub.empty()) return hub.substr(hub.rfind('/') + 1);
  const bool file = !options.model.empty() && fs::is_regular_file(options.model);
  const std::string name = last_part(file ? options.model : source.directory, file);
  return name.empty() ? "model" : name;
}

std::string adapter_name(const Options& options) { return options.adapter.empty() ? "" : last_part(options.adapter, false); }

std::string gguf_file_name(const Options& options, const ModelSource& source, const std::string& ending) {
  const std::string adapter = adapter_name(options);
  return fmt::format("{}{}{}-{}.gguf", model_name(options, source), adapter.empty() ? "" : "-", adapter, ending);
}

void add_general(GgufMetadata& metadata, const Options& options, const ModelSource& source, const std::string& type) {
  const std::string adapter = adapter_name(options), model = model_name(options, source);
  metadata.add_text("general.architecture", gguf_architecture(source.config));
  metadata.add_text("general.type", type);
  metadata.add_text("general.name", adapter.empty() ? model : model + " " + adapter);
  const std::string hub = hub_name(options);
  if (hub.empty()) return;
  const size_t slash = hub.find('/');
  metadata.add_uint("general.base_model.count", 1);
  metadata.add_text("general.base_model.0.name", model);
  if (slash == hub.npos) return;
  metadata.add_text("general.base_model.0.organization", hub.substr(0, slash));
  metadata.add_text("general.base_model.0.repo_url", "https://huggingface.co/" + hub);
}

}  // namespace tll
