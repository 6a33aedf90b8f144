// export: a model with its adapter in the format of another program. Then what that cost, and how the other program loads it.
#include "src/commands/export.h"

#include <algorithm>

#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/export_losses.h"
#include "src/commands/export_usage.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

bool is_gguf_format(const Options& options) {
  return options.format == ExportFormat::kGguf || options.format == ExportFormat::kGgufAdapter;
}

TokenizerNeed tokenizer_need(const Options& options) {
  if (options.format == ExportFormat::kGguf) return TokenizerNeed::required;
  return options.data.empty() ? TokenizerNeed::none : TokenizerNeed::wanted;
}

Exported export_as(const Options& options, const ModelSource& source, const AdapterSource& adapter) {
  switch (options.format) {
    case ExportFormat::kMerged:
      return export_merged(options, source, adapter);
    case ExportFormat::kGguf:
      return export_gguf(options, source, adapter);
    case ExportFormat::kGgufAdapter:
      return export_gguf_adapter(options, source, adapter);
    case ExportFormat::kBnb4bit:
      break;
  }
  return export_bnb_4bit(options, source, adapter);
}

// Before the export, where it fails early, and after it.
struct Losses {
  std::optional<double> adapter, file;
};

void print_losses(const Options& options, const AdapterSource& adapter, const ExportLosses* data, const Losses& losses) {
  if (!data) return;
  const char* before = adapter.loaded ? "with the adapter" : "of the model";
  const std::string on = fmt::format("on {} of {}", Counted{data->documents(), "document"}, options.data.string());
  if (!losses.adapter)
    fmt::print("no loss: there are no targets {}\n", on);
  else if (!losses.file)
    fmt::print("loss {:.4f} {} {}\n", *losses.adapter, before, on);
  else
    fmt::print("loss {:.4f} {}, {:.4f} of what was written ({:+.2g}), {}\n", *losses.adapter, before, *losses.file,
               *losses.file - *losses.adapter, on);
}

// The names of programs in a column.
void print_usages(const std::vector<Usage>& all) {
  size_t widest = 0;
  for (const Usage& u : all) widest = std::max(widest, u.program.size());
  fmt::print("to load it:\n");
  for (const Usage& u : all) fmt::print("  {:{}}  {}\n", u.program, widest, u.how);
}

}  // namespace

int command_export(Options& options) {
  end_on_stop_signals();  // there is nothing to take back yet
  resolve_options(options);
  const ModelSource source = open_model(options, tokenizer_need(options));
  const AdapterSource adapter = open_named_adapter(options, source.config);
  std::optional<ExportLosses> data;
  if (!options.data.empty()) data.emplace(options, source);
  catch_stop_signals();
  Losses losses;
  Exported exported;
  try {
    if (data) losses.adapter = data->of_model(source, adapter);
    exported = export_as(options, source, adapter);
  } catch (const Stopped& stopped) {
    fmt::print(stderr, "{}: nothing was written to {}\n", stopped.what(), options.output.string());
    return kExitInterrupted;
  }
  int code = kExitDone;
  if (data && options.format != ExportFormat::kGgufAdapter) {
    try {
      losses.file = data->of_written(is_gguf_format(options) ? exported.directory / exported.files[0] : options.output);
    } catch (const Stopped& stopped) {
      fmt::print(stderr, "note: {}; the export itself is whole\n", stopped.what());
      code = kExitInterrupted;
    }
  }
  int64_t bytes = 0;
  for (const std::string& name : exported.files) bytes += static_cast<int64_t>(fs::file_size(exported.directory / name));
  const std::vector<Usage> all = usages(options, source, adapter, exported);
  if (options.json) {
    Json loss = Json::object(), load = Json::object();
    if (losses.adapter) loss["adapter"] = *losses.adapter;
    if (losses.file) loss["file"] = *losses.file;
    for (const Usage& u : all) load[u.program] = u.how;
    fmt::print("{}\n", json_text({{"files", exported.files},
                                  {"bytes", bytes},
                                  {"losses", loss},
                                  {"output", exported.directory.string()},
                                  {"notes", exported.notes},
                                  {"load", load}}));
    return code;
  }
  print_notes(exported.notes);
  if (!options.quiet)
    fmt::print("wrote {}: {} in {}{}\n",
               exported.files.size() == 1 ? (exported.directory / exported.files[0]).string() : exported.directory.string(),
               Bytes{bytes}, Counted{static_cast<int64_t>(exported.files.size()), "file"},
               data ? "" : "; --data PATH takes the loss of the model and of what was written");
  print_losses(options, adapter, data ? &*data : nullptr, losses);
  if (!options.quiet) print_usages(all);
  return code;
}

}  // namespace tll
