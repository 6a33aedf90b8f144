// verify: whether an adapter, or a model, would load, and what in it matches nothing.
#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/source.h"
#include "src/files/adapter_check.h"
#include "src/files/find_files.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

// What is wrong with the model itself. `said`: open_model() has printed its notes, which --json has again.
void check_model(const ModelSource& source, bool said, AdapterCheck& check) {
  const ModelFiles files = open_files(source);
  check.problems.insert(check.problems.end(), files.warnings().begin(), files.warnings().end());
  const auto add = [&](const std::vector<std::string>& notes) {
    if (!said) check.notes.insert(check.notes.end(), notes.begin(), notes.end());
  };
  add(source.config.warnings);
  const std::string where = source.directory.string();
  if (!source.tokenizer) return check.notes.push_back(fmt::format("{} has no tokenizer", where));
  add(source.tokenizer->warnings());
  if (source.eos.empty()) check.notes.push_back(fmt::format("{} names no token that ends a text: it would not stop", where));
  if (source.chat_template.empty()) check.notes.push_back(fmt::format("{} has no chat template", where));
}

}  // namespace

int command_verify(Options& options) {
  options.device = DeviceOption::kCpu;
  resolve_options(options);
  AdapterCheck check;
  int64_t parameters = 0;
  try {
    const ModelSource source = open_model(options, TokenizerNeed::wanted);
    parameters = parameter_count(source.config);
    if (!options.adapter.empty()) {
      check = check_adapter(options.adapter, source.config);
      const std::string base = check.base_model, given = options.model.string();
      const auto plain = [](const std::string& name) { return name.substr(0, name.find_last_not_of('/') + 1); };
      if (!base.empty() && !given.empty() && plain(base) != plain(given) && base != hub_name_of(options.model))
        check.notes.push_back(fmt::format("the adapter names {} as its base model, and {} was given", base, given));
    }
    check_model(source, !options.json, check);
  } catch (const Error& error) {
    check.problems.emplace_back(error.what());
  }
  const bool ok = check.problems.empty();
  if (options.json) {
    fmt::print("{}\n", json_text({{"ok", ok},
                                  {"problems", check.problems},
                                  {"notes", check.notes},
                                  {"adapted_modules", check.modules},
                                  {"parameters", parameters}}));
  } else {
    for (const std::string& line : check.problems) fmt::print("problem  {}\n", line);
    if (!options.quiet)
      for (const std::string& line : check.notes) fmt::print("note     {}\n", line);
    if (ok && !options.adapter.empty())
      fmt::print("ok       every tensor of {} has its place: {} of the model's linear layers have an adapter\n",
                 options.adapter.string(), check.modules);
    else if (ok)
      fmt::print("ok       {} parameters, every tensor has its place\n", Count{parameters});
  }
  return ok ? kExitDone : kExitBadFile;
}

}  // namespace tll
