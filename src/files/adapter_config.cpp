#include <algorithm>
#include <cctype>
#include <cmath>
#include <memory>

#include "src/base/check.h"
#include "src/base/json_object.h"
#include "src/base/spelling.h"
#include "src/files/adapter.h"
#include "src/files/module_pattern.h"

namespace tll {
namespace {

// Settings that change what the tensors mean.
const RefusedKeys kRefused[] = {
    {"false", {"lora_bias", "use_dora", "use_qalora"}},
    {"[]", {"layer_replication", "target_parameters", "alora_invocation_tokens", "trainable_token_indices"}},
    {"{}", {"arrow_config", "monteclora_config", "kasa_config", "megatron_config"}},
    {"null", {"use_bdlora"}}};

// How the adapter was initialised, how it was trained, what it is called.
constexpr std::string_view kHarmless[] = {
    "task_type",    "revision",       "inference_mode", "auto_mapping",      "megatron_core", "loftq_config",  "eva_config",
    "corda_config", "lora_ga_config", "velora_config",  "qalora_group_size", "peft_version",  "runtime_config"};

// Values of init_lora_weights with which PEFT changes the base weights whenever it loads the adapter.
constexpr std::string_view kChangedBase[] = {"pissa", "olora", "loftq", "corda", "lora_ga"};

// A JSON list is a list of names; a single string is a pattern.
void read_targets(JsonObject& object, const char* key, std::set<std::string, std::less<>>& names, std::string& pattern) {
  const Json* value = object.find(key);
  if (!value) return;
  const std::vector<std::string> list = object.strings(key);
  names.clear();
  if (value->is_string()) {
    pattern = list[0];
    if (pattern.empty()) object.wrong(key, "a pattern or a list of names", *value);
  } else {
    names = {list.begin(), list.end()};
  }
}

std::vector<std::pair<std::string, double>> read_patterns(const OrderedJson& root, const char* key, const std::string& where) {
  constexpr size_t kMaxPatterns = 10000;
  std::vector<std::pair<std::string, double>> patterns;
  const auto found = root.find(key);
  if (found == root.end() || found->is_null()) return patterns;
  if (!found->is_object() || found->size() > kMaxPatterns)
    bad_file("{}: key \"{}\": expected an object of at most {} patterns", where, key, kMaxPatterns);
  for (const auto& [pattern, value] : found->items()) {
    const double number = value.is_number() ? value.get<double>() : NAN;
    if (!(number > 0 && number <= 1e9)) bad_file("{}: key \"{}\": {}: expected a number above 0", where, key, in_quotes(pattern));
    patterns.emplace_back(pattern, number);
  }
  return patterns;
}

void read_layers(JsonObject& object, AdapterConfig& config) {
  config.layers_pattern = object.strings("layers_pattern");
  if (const Json* pattern = object.find("layers_pattern"); pattern && *pattern == "") config.layers_pattern.clear();
  const std::vector<int64_t> layers = object.integers("layers_to_transform", 0, "a layer number or a list of them");
  if (layers.empty()) return;  // no restriction
  if (!config.target_pattern.empty())
    bad_file("{}: key \"layers_to_transform\" needs a list of target_modules, not a pattern", object.where());
  config.layers.emplace(layers.begin(), layers.end());
}

// Whether the set has the name, or a part of it from after a dot to the end.
bool listed(const std::set<std::string, std::less<>>& names, std::string_view module) {
  for (size_t at = 0;;) {
    if (names.contains(module.substr(at))) return true;
    at = module.find('.', at);
    if (at == std::string_view::npos) return false;
    at++;
  }
}

}  // namespace

AdapterConfig parse_adapter_config(std::string_view text, const std::string& where) {
  const Json root = parse_json(text, where);
  JsonObject object(root, where);
  if (const std::string type = object.text("peft_type"); type != "LORA")
    bad_file("{}: key \"peft_type\": expected \"LORA\", found {}", where, type.empty() ? "nothing" : in_quotes(type));
  object.refuse(kRefused);
  AdapterConfig c;
  if (const std::string bias = object.text("bias"); !bias.empty() && bias != "none" && bias != "all" && bias != "lora_only")
    bad_file("{}: key \"bias\": expected \"none\", \"all\" or \"lora_only\", found {}", where, in_quotes(bias));
  object.flag("fan_in_fan_out");  // of no effect on a linear layer, says PEFT
  c.modules_to_save = object.strings("modules_to_save");
  c.ensure_weight_tying = object.flag("ensure_weight_tying");
  c.rank = object.size("r", c.rank);
  c.alpha = object.number("lora_alpha", c.alpha, 0, 1e9);
  if (const Json* dropout = object.find("lora_dropout")) {
    c.dropout = dropout->is_number() ? dropout->get<double>() : -1;
    if (!(c.dropout >= 0 && c.dropout < 1)) object.wrong("lora_dropout", "a number from 0 to below 1", *dropout);
  }
  c.rslora = object.flag("use_rslora");
  c.base_model = object.text("base_model_name_or_path");
  read_targets(object, "target_modules", c.target_modules, c.target_pattern);
  read_targets(object, "exclude_modules", c.exclude_modules, c.exclude_pattern);
  read_layers(object, c);
  const OrderedJson ordered = parse_ordered_json(text, where);
  object.find("rank_pattern"), object.find("alpha_pattern");
  c.rank_pattern = read_patterns(ordered, "rank_pattern", where);
  c.alpha_pattern = read_patterns(ordered, "alpha_pattern", where);
  if (const Json* start = object.find("init_lora_weights"); start && start->is_string()) {
    const auto& name = start->get_ref<const std::string&>();
    if (std::any_of(std::begin(kChangedBase), std::end(kChangedBase), [&](std::string_view k) { return name.starts_with(k); }))
      bad_file(
          "{}: key \"init_lora_weights\": with {} PEFT changes the base weights when it loads the adapter, which is not "
          "implemented; save the adapter again with path_initial_model_for_weight_conversion, or merge it into the model",
          where, in_quotes(name));
  }
  object.warn_unknown(kHarmless, c.warnings);
  return c;
}

std::vector<bool> targets_among(const std::vector<Module>& modules, const AdapterConfig& adapter, const std::string& where) {
  const bool all_linear = lower_case(adapter.target_pattern) == "all-linear";
  std::unique_ptr<ModulePattern> targets, excluded;
  std::vector<ModulePattern> layers, saved;
  for (const std::string& pattern : adapter.layers_pattern) layers.emplace_back("(?:|.*?\\.)" + pattern + "\\.\\d+\\..*", where);
  for (const std::string& name : adapter.modules_to_save) saved.emplace_back("(|.*\\.)" + name + "(|\\..*)", where);
  if (!adapter.target_pattern.empty() && !all_linear) targets = std::make_unique<ModulePattern>(adapter.target_pattern, where);
  if (!adapter.exclude_pattern.empty()) excluded = std::make_unique<ModulePattern>(adapter.exclude_pattern, where);

  const auto matched = [](const std::vector<ModulePattern>& patterns, const std::string& module) {
    return std::any_of(patterns.begin(), patterns.end(), [&](const ModulePattern& p) { return p.matches(module); });
  };
  // If layers_to_transform restricts, a module without a layer is not admitted.
  const auto in_layers = [&](const std::string& module, std::optional<int> layer) {
    if (!adapter.layers) return true;
    return layer && adapter.layers->contains(*layer) && (layers.empty() || matched(layers, module));
  };
  const auto is_target = [&](const std::string& module, std::optional<int> layer) {
    if (matched(saved, module)) return false;
    if (excluded ? excluded->matches(module) : listed(adapter.exclude_modules, module)) return false;
    if (all_linear) return layer.has_value();
    if (targets) return targets->matches(module);
    return adapter.target_modules.contains(module) || (listed(adapter.target_modules, module) && in_layers(module, layer));
  };
  for (const char* module : {"lm_head", "model.embed_tokens"}) {
    if (is_target(module, {})) bad_file("{}: target_modules names {}: adapters on it are not implemented", where, module);
  }
  std::vector<bool> named;
  for (const Module& module : modules) named.push_back(is_target(module.name, module.layer));
  if (std::find(named.begin(), named.end(), true) == named.end())
    bad_file("{}: target_modules names no linear layer of this model", where);
  return named;
}

}  // namespace tll
