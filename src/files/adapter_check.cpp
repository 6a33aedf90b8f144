#include "src/files/adapter_check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "src/files/find_files.h"
#include "src/files/module_pattern.h"
#include "src/files/servers.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

// Lines about single things; after a few of a kind, their number.
class Lines {
 public:
  explicit Lines(std::vector<std::string>& to) : to_(to) {}
  ~Lines() {
    if (count_ > kShown) to_.push_back(fmt::format("and {} more such", count_ - kShown));
  }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;
  void add(std::string line) {
    if (count_++ < kShown) to_.push_back(std::move(line));
  }

 private:
  static constexpr size_t kShown = 5;
  std::vector<std::string>& to_;
  size_t count_ = 0;
};

// A list entry names a module by its whole name, or by its end after a dot.
bool names(std::string_view entry, std::string_view module) {
  return module == entry ||
         (module.ends_with(entry) && module.size() > entry.size() && module[module.size() - entry.size() - 1] == '.');
}

// Whether the entry is the end of what a module is in: "mlp" of "model.layers.0.mlp.up_proj".
bool names_above(std::string_view entry, std::string_view module) {
  return fmt::format(".{}.", module).find(fmt::format(".{}.", entry)) != std::string::npos;
}

class Checker {
 public:
  Checker(const fs::path& directory, const LlamaConfig& model) : directory_(directory), model_(model), modules_(modules(model)) {}

  AdapterCheck run() {
    try {
      const fs::path found = find_adapter(directory_);
      settings_ = (found / kAdapterSettings).string(), tensors_ = (found / kAdapterTensors).string();
      config_ = parse_adapter_config(read_file(settings_), settings_);
      check_.base_model = config_.base_model;
      check_names();
      check_tensors(SafetensorsFile(tensors_));
      if (check_.problems.empty()) check_values();
    } catch (const Error& error) {
      check_.problems.emplace_back(error.what());
    }
    return std::move(check_);
  }

 private:
  bool matches_any(const std::function<bool(const Module&)>& matches) const {
    return std::any_of(modules_.begin(), modules_.end(), matches);
  }

  // What adapter_config.json names must be in the model, each name by itself.
  void check_names() {
    const auto absent = [&](const char* key, const std::string& entry) {
      return fmt::format("{}: {} {} is no module of this model; it has {}", settings_, key, in_quotes(entry), short_names());
    };
    Lines lines(check_.problems);
    for (const std::string& entry : config_.target_modules)
      if (!matches_any([&](const Module& m) { return names(entry, m.name); })) lines.add(absent("target_modules", entry));
    for (const std::string& entry : config_.modules_to_save)
      if (!matches_any([&](const Module& m) { return m.name.ends_with(entry) || names_above(entry, m.name); }) &&
          entry != "lm_head")
        lines.add(absent("modules_to_save", entry));
    if (config_.layers)
      for (const int64_t layer : *config_.layers)
        if (layer >= model_.layers)
          lines.add(
              fmt::format("{}: layers_to_transform names layer {}, and this model has {}", settings_, layer, model_.layers));
    const std::vector<Module> adaptable = adaptable_modules(model_);
    std::vector<bool> named(adaptable.size());
    try {
      named = targets_among(adaptable, config_, settings_);
    } catch (const Error& error) {
      if (check_.problems.empty()) lines.add(error.what());
    }
    for (size_t i = 0; i < adaptable.size(); i++)
      if (named[i]) targets_.insert(adaptable[i].name);
    for (const auto* patterns : {&config_.rank_pattern, &config_.alpha_pattern})
      for (const auto& [key, value] : *patterns) {
        const ModuleSuffix suffix(key, settings_);
        if (std::none_of(targets_.begin(), targets_.end(), [&](const std::string& m) { return suffix.matches(m); }))
          lines.add(fmt::format("{}: {} {} matches no module that has an adapter", settings_,
                                patterns == &config_.rank_pattern ? "rank_pattern" : "alpha_pattern", in_quotes(key)));
      }
  }

  // "q_proj, k_proj, …", each once.
  std::string short_names() const {
    std::string all;
    std::set<std::string_view> seen;
    for (const Module& m : modules_)
      if (m.adaptable && seen.insert(m.short_name()).second) all += (all.empty() ? "" : ", ") + std::string(m.short_name());
    return all;
  }

  // The names and shapes that the file must have, beside what it has. A tensor that is none of these may be of the base model:
  // whether it may be there is left to read_adapter().
  void check_tensors(const SafetensorsFile& file) {
    struct Place {
      const Module* module;
      bool is_b;
    };
    std::map<std::string, Place> expected;
    for (const Module& m : modules_)
      for (const bool is_b : {false, true})
        if (targets_.contains(m.name)) expected.emplace(peft_name(m, is_b), Place{&m, is_b});
    each(file.tensors(), [&](const TensorInfo& t) -> std::string {
      const std::string name = plain_name(t.name);
      const auto found = expected.find(name);
      if (found == expected.end())
        return name.find(".lora_") == std::string::npos && is_base_tensor(t.name)
                   ? ""
                   : fmt::format("tensor {} matches nothing: it would not be loaded", in_quotes(t.name));
      const auto [module, is_b] = found->second;
      const int64_t wanted = is_b ? module->rows : module->cols;
      if (t.shape.size() == 2 && t.shape[is_b ? 0 : 1] == wanted) return "";
      return fmt::format("tensor {} has shape {}, and the model's layer needs {}", in_quotes(t.name), shape_text(t.shape),
                         is_b ? fmt::format("[{}, r]", wanted) : fmt::format("[r, {}]", wanted));
    });
    each(expected, [&](const auto& entry) -> std::string {
      const auto& [name, place] = entry;
      if (file.find(name) || file.find(default_name(name))) return "";
      return fmt::format("tensor {} is missing: {} would stay as it is", in_quotes(name), place.module->name);
    });
    check_.modules = static_cast<int>(targets_.size());
  }

  // The lines that `problem` has for each item, after a few their number.
  template <class Items, class Problem>
  void each(const Items& items, const Problem& problem) {
    Lines lines(check_.problems);
    for (const auto& item : items)
      if (const std::string line = problem(item); !line.empty()) lines.add(fmt::format("{}: {}", tensors_, line));
  }

  // PEFT's state dict in memory has the adapter's name in it, and some tools write that: "lora_A.default.weight".
  static std::string default_name(std::string name) { return name.insert(name.rfind('.'), ".default"); }
  static std::string plain_name(std::string name) {
    for (const char* part : {".lora_A.", ".lora_B."})
      if (const size_t at = name.rfind(part); at != std::string::npos && name.ends_with(".weight")) {
        const size_t begin = at + std::string_view(part).size();
        return name.substr(0, begin) + "weight";
      }
    return name;
  }
  bool is_base_tensor(const std::string& name) const {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (!name.starts_with(peft_name(std::string()))) return false;
    if (has(".base_layer.") || has(".modules_to_save.") || has(".original_module.") || name.ends_with(".lm_head.weight"))
      return true;
    return matches_any(
        [&](const Module& m) { return name == peft_name(m.name + ".weight") || name == peft_name(m.name + ".bias"); });
  }

  // The whole reading, and what is right but may surprise.
  void check_values() {
    const Adapter adapter = read_adapter(directory_, model_);
    check_.problems.insert(check_.problems.end(), adapter.warnings.begin(), adapter.warnings.end());
    std::erase_if(check_.problems, [&](const std::string& line) {  // keys that are merely unknown
      return std::find(config_.warnings.begin(), config_.warnings.end(), line) != config_.warnings.end();
    });
    check_.notes = config_.warnings;
    const auto note = [&](std::string line) { check_.notes.push_back(std::move(line)); };
    if (std::all_of(adapter.modules.begin(), adapter.modules.end(), [](const AdapterModule& m) { return m.b_is_zero; }))
      note("all B are zero: the adapter is untrained, and the model answers as the base does");
    int largest = 0;
    bool whole_alpha = true;
    for (const AdapterModule& m : adapter.modules)
      largest = std::max(largest, m.rank), whole_alpha = whole_alpha && m.alpha == std::floor(m.alpha);
    if (const int64_t needed = vllm_lora_rank(largest); needed > vllm_lora_rank(1))
      note(fmt::format("vLLM needs --max-lora-rank {} for rank {}", needed, largest));
    if (!config_.modules_to_save.empty()) note("vLLM refuses adapters with modules_to_save; merge the adapter for it");
    if (!whole_alpha || config_.rslora)
      note("Ollama reads lora_alpha as a whole number and knows no rsLoRA; give it a GGUF adapter, or a merged model");
  }

  const fs::path directory_;
  const LlamaConfig& model_;
  const std::vector<Module> modules_;
  std::string settings_, tensors_;
  AdapterConfig config_;
  std::set<std::string> targets_;
  AdapterCheck check_;
};

}  // namespace

AdapterCheck check_adapter(const fs::path& directory, const LlamaConfig& model) { return Checker(directory, model).run(); }

}  // namespace tll
