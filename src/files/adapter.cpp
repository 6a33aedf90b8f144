#include "src/files/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <unordered_map>

#include "src/base/check.h"
#include "src/base/json.h"
#include "src/files/find_files.h"
#include "src/files/model_files.h"
#include "src/files/module_pattern.h"
#include "src/files/safetensors.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "base_model.model.";
constexpr const char* kPeftVersion = "0.21.2";  // whose files these are
constexpr std::string_view kEmbeddingTensor = "model.embed_tokens.weight", kHeadTensor = "lm_head.weight";

// Rank or alpha of a module: the value of the first pattern, in the order of the file, that matches its name.
class PatternTable {
 public:
  PatternTable(const std::vector<std::pair<std::string, double>>& patterns, double otherwise, const std::string& where)
      : otherwise_(otherwise) {
    constexpr int kMaxRegexes = 100;
    int regexes = 0;
    for (const auto& [key, value] : patterns) {
      entries_.emplace_back(ModuleSuffix(key, where), value);
      if (!entries_.back().first.plain() && ++regexes > kMaxRegexes)
        bad_file("{}: more than {} regular expressions in a rank or alpha pattern", where, kMaxRegexes);
    }
  }
  double value(const std::string& module) const {
    for (const auto& [suffix, value] : entries_) {
      if (suffix.matches(module)) return value;
    }
    return otherwise_;
  }

 private:
  std::vector<std::pair<ModuleSuffix, double>> entries_;
  double otherwise_;
};

// The tensors of one module in the file.
struct Pair {
  const TensorInfo *a = nullptr, *b = nullptr;
};

// A tensor of the base model that PEFT loads from the adapter's file, by its name there without the prefix; empty: it is none.
// `.base_layer` is where PEFT keeps the weight and bias of an adapted module, and of no other.
std::string base_tensor_name(std::string rest, const std::set<std::string>& base, const std::set<std::string>& targets) {
  constexpr std::string_view kInside = ".base_layer";
  const size_t dot = rest.rfind('.');
  if (dot == std::string::npos) return "";
  std::string module = rest.substr(0, dot);
  const bool inside = module.ends_with(kInside),
             embedding = rest.find("embed_tokens") != rest.npos || rest.starts_with("lm_head");
  if (inside) module.resize(module.size() - kInside.size());
  if (!embedding && inside != targets.contains(module)) return "";
  const std::string name = module + rest.substr(dot);
  return base.contains(name) ? name : "";
}

// Of an embedding or head that was resized and is in modules_to_save, PEFT writes three tensors: NAME.weight, the same once more
// as NAME.modules_to_save.weight, and as NAME.original_module.weight what it was before training, which it covers.
bool is_second_copy(const SafetensorsFile& file, const std::string& rest) {
  for (const std::string_view module : {"model.embed_tokens", "lm_head"})
    for (const char* copy : {".modules_to_save.weight", ".original_module.weight"}) {
      if (rest != fmt::format("{}{}", module, copy)) continue;
      const TensorInfo *whole = file.find(fmt::format("{}{}.weight", kPrefix, module)),
                       *tensor = file.find(fmt::format("{}{}", kPrefix, rest));
      if (!whole) return false;
      if (rest.find(".modules_to_save.") == rest.npos) return true;
      const std::span<const std::byte> a = file.bytes(*whole), b = file.bytes(*tensor);
      if (a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size()) != 0)
        bad_file("{}: tensors {} and {} are for the same place, and differ", file.path().string(), in_quotes(whole->name),
                 in_quotes(tensor->name));
      file.forget(*whole), file.forget(*tensor);
      return true;
    }
  return false;
}

// Sorts the tensors of the file by module, named by its index.
std::map<size_t, Pair> sort_tensors(Adapter& adapter, const std::vector<Module>& modules, const std::vector<bool>& named,
                                    const LlamaConfig& model) {
  const SafetensorsFile& file = *adapter.file;
  const std::string where = file.path().string();
  std::unordered_map<std::string, size_t> index_of;
  std::set<std::string> targets;
  for (size_t i = 0; i < modules.size(); i++) {
    index_of.emplace(modules[i].name, i);
    if (named[i]) targets.insert(modules[i].name);
  }
  std::set<std::string> base = {"lm_head.weight"};  // also where it is tied
  for (const WeightSpec& spec : weight_specs(model)) base.insert(spec.name);
  std::map<size_t, Pair> pairs;
  for (const TensorInfo& tensor : file.tensors()) {
    const std::string name = in_quotes(tensor.name);
    if (!tensor.name.starts_with(kPrefix))
      bad_file("{}: tensor {} does not begin with \"{}\", as PEFT's do", where, name, kPrefix);
    const std::string rest = tensor.name.substr(kPrefix.size());
    if (is_second_copy(file, rest)) continue;
    if (const std::string whole = base_tensor_name(rest, base, targets); !whole.empty()) {
      const bool outside = whole == kEmbeddingTensor || whole == kHeadTensor;
      adapter.base_tensors.push_back(
          {whole, &tensor, outside && model.tie_embeddings && !adapter.config.modules_to_save.empty()});
      continue;
    }
    for (const char* other : {".lora_magnitude_vector", ".lora_embedding_", ".lora_B.bias"})
      if (rest.find(other) != std::string::npos)
        bad_file("{}: tensor {}: adapters with \"{}\" are not implemented", where, name, other + 1);
    const auto last = [&](const char* part) { return std::ptrdiff_t(rest.rfind(part)); };  // -1: nowhere
    const size_t at = size_t(std::max<std::ptrdiff_t>({last(".lora_A."), last(".lora_B."), 0}));
    const std::string module = rest.substr(0, at), tail = at ? rest.substr(at + 8) : "";  // "weight" or "default.weight"
    const bool weight = tail == "weight" || (tail.ends_with(".weight") && std::count(tail.begin(), tail.end(), '.') == 1);
    const auto found = index_of.find(module);
    if (!weight || found == index_of.end())
      bad_file("{}: tensor {} is no lora_A or lora_B of a linear layer of this model", where, name);
    Pair& pair = pairs[found->second];
    const TensorInfo*& slot = rest[at + 6] == 'A' ? pair.a : pair.b;
    if (slot) bad_file("{}: tensors {} and {} are for the same place", where, in_quotes(slot->name), name);
    slot = &tensor;
  }
  return pairs;
}

// PEFT loads these over the base model's: shapes must agree, and what modules_to_save names must be there.
void check_base_tensors(const Adapter& adapter, const LlamaConfig& model, const std::string& config_name) {
  const std::string where = adapter.file->path().string();
  std::map<std::string, const TensorInfo*> there;
  for (const BaseTensor& tensor : adapter.base_tensors) {
    if (!there.emplace(tensor.name, tensor.info).second) bad_file("{}: two tensors are for {}", where, tensor.name);
  }
  for (const WeightSpec& spec : weight_specs(model)) {
    const std::string module = spec.name.substr(0, spec.name.rfind('.'));
    const auto names = [&](const std::string& saved) { return module.ends_with(saved); };
    const auto& saved = adapter.config.modules_to_save;
    const auto found = there.find(spec.name);
    if (found == there.end() && std::any_of(saved.begin(), saved.end(), names))
      bad_file("{}: tensor \"{}{}\" is missing, but modules_to_save of {} names its module", where, kPrefix, spec.name,
               config_name);
    const bool tied_head = model.tie_embeddings && spec.name == "model.embed_tokens.weight";
    for (const auto& tensor : {found, tied_head ? there.find("lm_head.weight") : there.end()})
      if (tensor != there.end() && tensor->second->shape != spec.shape)
        bad_file(
            "{}: tensor {}: expected shape {} of the base model, found {}; give the base model that the adapter was trained on",
            where, in_quotes(tensor->second->name), shape_text(spec.shape), shape_text(tensor->second->shape));
  }
}

// A tied model has one tensor for embedding and head, and so has an adapter that holds it under both names with equal values, or
// whose PEFT ties them. Everything else is two tensors for PEFT.
void join_tied(Adapter& adapter) {
  const SafetensorsFile& file = *adapter.file;
  std::vector<BaseTensor*> both;
  for (BaseTensor& tensor : adapter.base_tensors)
    if (tensor.only_equal && (tensor.name == kEmbeddingTensor || tensor.name == kHeadTensor)) both.push_back(&tensor);
  if (both.size() == 1 && adapter.config.ensure_weight_tying) both[0]->only_equal = false;
  if (both.size() < 2 || both[0]->info->dtype != both[1]->info->dtype) return;
  const std::span<const std::byte> a = file.bytes(*both[0]->info), b = file.bytes(*both[1]->info);
  const bool equal = a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
  for (const BaseTensor* tensor : both) file.forget(*tensor->info);
  if (!equal) return;
  std::erase_if(adapter.base_tensors, [](const BaseTensor& tensor) { return tensor.only_equal && tensor.name == kHeadTensor; });
  for (BaseTensor& tensor : adapter.base_tensors)
    if (tensor.name == kEmbeddingTensor) tensor.only_equal = false;
}

std::vector<float> read_floats(const SafetensorsFile& file, const TensorInfo& tensor) {
  const std::string what = fmt::format("{}: tensor {}", file.path().string(), in_quotes(tensor.name));
  if (tensor.dtype != FileDtype::F32 && tensor.dtype != FileDtype::BF16 && tensor.dtype != FileDtype::F16)
    bad_file("{}: expected F32, BF16 or F16, found {}", what, file_dtype_name(tensor.dtype));
  std::vector<float> values(size_t(element_count(tensor.shape)));
  convert_tensor({tensor.dtype, tensor.shape, file.bytes(tensor)}, values.data(), DType::f32, what);
  const auto bad = std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
  if (bad != values.end()) bad_file("{}: element {} is {}: the adapter is damaged", what, bad - values.begin(), *bad);
  file.forget(tensor);
  return values;
}

void check_shapes(const SafetensorsFile& file, const Pair& pair, const Module& module) {
  const std::string where = file.path().string();
  const auto &a = pair.a->shape, &b = pair.b->shape;
  if (a.size() != 2 || a[0] < 1 || a[0] > INT32_MAX || a[1] != module.cols)
    bad_file("{}: tensor {}: expected shape [r, {}], found {}", where, in_quotes(pair.a->name), module.cols, shape_text(a));
  if (b.size() != 2 || b[0] != module.rows || b[1] != a[0])
    bad_file("{}: tensor {}: expected shape [{}, {}], found {}", where, in_quotes(pair.b->name), module.rows, a[0],
             shape_text(b));
}

void read_modules(Adapter& adapter, const LlamaConfig& model, const std::string& config_name) {
  const SafetensorsFile& file = *adapter.file;
  const std::string where = file.path().string();
  const std::vector<Module> all = adaptable_modules(model);
  const std::vector<bool> named = targets_among(all, adapter.config, config_name);
  const std::map<size_t, Pair> pairs = sort_tensors(adapter, all, named, model);
  check_base_tensors(adapter, model, config_name);
  join_tied(adapter);
  const PatternTable ranks(adapter.config.rank_pattern, adapter.config.rank, config_name);
  const PatternTable alphas(adapter.config.alpha_pattern, adapter.config.alpha, config_name);
  for (const auto& [i, pair] : pairs) {
    if (!named[i])
      bad_file("{}: there is an adapter for {}, which target_modules of {} does not name", where, all[i].name, config_name);
  }
  int contradictions = 0;
  for (size_t i = 0; i < all.size(); i++) {
    if (!named[i]) continue;
    const Module& module = all[i];
    const auto found = pairs.find(i);
    const bool has_a = found != pairs.end() && found->second.a, has_b = found != pairs.end() && found->second.b;
    if (!has_a || !has_b)
      bad_file("{}: tensor \"{}\" is missing, but {} names its module", where, peft_name(module, has_a), config_name);
    const Pair& pair = found->second;
    check_shapes(file, pair, module);
    const int rank = int(pair.a->shape[0]);
    if (rank != ranks.value(module.name) && contradictions++ == 0)
      adapter.warnings.push_back(
          fmt::format("{}: {} has rank {}, but {} says {:g}: the tensors' rank is used, also in the scale alpha / r (PEFT "
                      "refuses such an adapter)",
                      where, module.name, rank, config_name, ranks.value(module.name)));
    const double alpha = alphas.value(module.name);
    adapter.modules.push_back({module, rank, alpha, lora_scale(alpha, rank, adapter.config.rslora), read_floats(file, *pair.a),
                               read_floats(file, *pair.b)});
  }
  if (contradictions > 1) adapter.warnings.push_back(fmt::format("{}: and {} more ranks differ", where, contradictions - 1));
}

}  // namespace

double lora_scale(double alpha, int rank, bool rslora) { return alpha / (rslora ? std::sqrt(double(rank)) : double(rank)); }

std::string peft_name(const Module& module, bool is_b) {
  return fmt::format("{}{}.lora_{}.weight", kPrefix, module.name, is_b ? 'B' : 'A');
}

std::string peft_name(const std::string& base_tensor) { return std::string(kPrefix) + base_tensor; }

int64_t adapter_vocabulary(const fs::path& named) {
  fs::path directory = named;
  try {
    if (!named.empty()) directory = find_adapter(named);
  } catch (const Error&) {  // read_adapter() says what is wrong
  }
  if (directory.empty() || !fs::exists(directory / kAdapterTensors)) return 0;
  int64_t rows = 0;
  const SafetensorsFile file(directory / kAdapterTensors);
  for (const std::string_view module : {"model.embed_tokens", "lm_head"})
    for (const char* tail : {".weight", ".base_layer.weight"})
      if (const TensorInfo* t = file.find(fmt::format("{}{}{}", kPrefix, module, tail)); t && t->shape.size() == 2)
        rows = std::max(rows, t->shape[0]);
  return rows;
}

Adapter read_adapter(const fs::path& named, const LlamaConfig& model) {
  const fs::path directory = find_adapter(named);
  const fs::path config = directory / kAdapterSettings, tensors = directory / kAdapterTensors;
  Adapter adapter;
  adapter.config = parse_adapter_config(read_file(config), config.string());
  adapter.warnings = adapter.config.warnings;
  adapter.file = std::make_shared<const SafetensorsFile>(tensors);
  read_modules(adapter, model, config.string());
  for (AdapterModule& m : adapter.modules) m.b_is_zero = std::all_of(m.b.begin(), m.b.end(), [](float x) { return x == 0; });
  return adapter;
}

void Adapter::drop_values() {
  for (AdapterModule& m : modules) m.a = std::vector<float>(), m.b = std::vector<float>();  // {} would keep their memory
}

namespace {

// A whole number as an integer: 32, not 32.0.
Json number(double value) { return value == std::floor(value) && std::abs(value) < 1e9 ? Json(int64_t(value)) : Json(value); }

Json config_json(const AdapterHeader& header, const std::vector<AdapterPart>& parts) {
  std::set<std::string> names, short_names;
  for (const AdapterPart& part : parts) {
    short_names.emplace(part.module.short_name());
    TLL_CHECK(names.insert(part.module.name).second, "{} twice", part.module.name);
  }
  // Short names apply to every layer. Otherwise full names are written: as patterns they match no other module.
  const bool everywhere = names.size() == short_names.size() * size_t(header.layers);
  Json ranks = Json::object(), alphas = Json::object();
  for (const AdapterPart& part : parts) {
    if (part.rank != parts[0].rank) ranks[part.module.name] = part.rank;
    if (part.alpha != parts[0].alpha) alphas[part.module.name] = number(part.alpha);
  }
  Json config = {{"peft_type", "LORA"},
                 {"task_type", "CAUSAL_LM"},
                 {"base_model_name_or_path", header.base_model.empty() ? Json() : Json(header.base_model)},
                 {"revision", nullptr},
                 {"inference_mode", true},
                 {"r", parts[0].rank},
                 {"lora_alpha", number(parts[0].alpha)},
                 {"lora_dropout", header.dropout},
                 {"target_modules", everywhere ? short_names : names},
                 {"bias", "none"},
                 {"fan_in_fan_out", false},
                 {"init_lora_weights", true},
                 {"modules_to_save", header.whole.empty() ? Json() : Json({"embed_tokens", "lm_head"})},
                 {"rank_pattern", ranks},
                 {"alpha_pattern", alphas},
                 {"peft_version", kPeftVersion}};
  if (header.rslora) config["use_rslora"] = true;
  if (header.tied && !header.whole.empty()) config["ensure_weight_tying"] = true;
  return config;
}

}  // namespace

void write_adapter(const fs::path& directory, const AdapterHeader& header, const std::vector<AdapterPart>& parts) {
  TLL_CHECK(!parts.empty(), "an adapter without modules");
  std::vector<TensorEntry> entries;
  for (const AdapterPart& part : parts) {
    const auto bytes = [](const float* data, int64_t count) { return std::as_bytes(std::span(data, size_t(count))); };
    const int64_t rank = part.rank, in = part.module.cols, out = part.module.rows;
    entries.push_back({{peft_name(part.module, false), FileDtype::F32, {rank, in}}, bytes(part.a, rank * in)});
    entries.push_back({{peft_name(part.module, true), FileDtype::F32, {out, rank}}, bytes(part.b, out * rank)});
  }
  for (const WholeTensor& tensor : header.whole) {
    const auto bytes = std::as_bytes(std::span(tensor.values, size_t(element_count(tensor.shape))));
    entries.push_back({{peft_name(tensor.name), FileDtype::F32, tensor.shape}, bytes});
    if (header.tied) entries.push_back({{peft_name(std::string(kHeadTensor)), FileDtype::F32, tensor.shape}, bytes});
  }
  write_safetensors(directory / kAdapterTensors, entries);
  write_json(directory / kAdapterSettings, config_json(header, parts));
}

}  // namespace tll
