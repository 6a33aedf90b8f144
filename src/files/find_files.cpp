#include "src/files/find_files.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <vector>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/file_kind.h"
#include "src/base/json.h"
#include "src/files/adapter.h"
#include "src/files/gguf_model.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModel = "a Hugging Face directory with config.json, *.safetensors and a tokenizer, or a GGUF file";
constexpr const char* kAdapter = "PEFT's directory with adapter_config.json and adapter_model.safetensors";
constexpr const char* kModelSettings = "config.json";
constexpr std::string_view kCached = "models--";  // models--ORG--NAME

bool is_there(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none);
}

// The names in a directory that fit, sorted; none if it cannot be read.
template <class Fits>
std::vector<std::string> names_in(const fs::path& directory, const Fits& fits) {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(directory, none))
    if (const std::string name = entry.path().filename().string(); fits(name)) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

// "a", "b" and 7 more
std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); i++) text += (i ? ", " : "") + in_quotes(names[i]);
  return names.size() > kShown ? text + fmt::format(" and {} more", names.size() - kShown) : text;
}

// ORG/NAME, also of a page's address; nothing for another text.
std::optional<std::string> hub_name(std::string text) {
  for (const std::string_view site : {"https://huggingface.co/", "http://huggingface.co/", "huggingface.co/", "hf.co/"})
    if (text.starts_with(site)) text.erase(0, site.size());
  if (const size_t tree = text.find("/tree/"); tree != std::string::npos) text.resize(tree);
  const auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/'; };
  const size_t slash = text.find('/');
  const bool two =
      slash != std::string::npos && slash > 0 && slash + 1 < text.size() && text.find('/', slash + 1) == std::string::npos;
  return two && text[0] != '.' && std::all_of(text.begin(), text.end(), allowed) ? std::optional(text) : std::nullopt;
}

// Of the environment; empty: not set.
std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Where huggingface_hub keeps what it downloads (its constants.py).
fs::path hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string cache = variable(name); !cache.empty()) return cache;
  if (const std::string home = variable("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  const std::string caches = variable("XDG_CACHE_HOME");
  return (caches.empty() ? fs::path(variable("HOME")) / ".cache" : fs::path(caches)) / "huggingface" / "hub";
}

// ORG/NAME as the directory models--ORG--NAME of the Hub's cache, if it is there.
std::optional<fs::path> cached(const std::string& name) {
  const size_t slash = name.find('/');
  const fs::path directory = hub_cache() / fmt::format("{}{}--{}", kCached, name.substr(0, slash), name.substr(slash + 1));
  return is_there(directory / "snapshots") ? std::optional(directory) : std::nullopt;
}

[[noreturn]] void refuse_absent(const fs::path& path, const char* option) {
  const std::string text = path.string();
  const auto name = hub_name(text);
  // A path whose first directory is there was misspelt.
  if (name && !is_there(*path.begin()))
    bad_file(
        "{}: no such directory, and the Hub's cache, {}, has no such model, and nothing is downloaded here; run: hf download {}",
        text, hub_cache().string(), *name);
  bad_file("{}: no such directory; {} takes {}", text, option, option == std::string_view("--model") ? kModel : kAdapter);
}

// A file in place of the directory.
[[noreturn]] void refuse_file(const fs::path& path, const char* option, const char* expected) {
  const MappedFile file(path);
  const FileKind kind = file_kind(file.bytes());
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const bool beside = is_there(directory / (option == std::string_view("--model") ? "config.json" : kAdapterSettings));
  if (beside) bad_file("{}: expected a directory, found a file in it: give {} {}", path.string(), option, directory.string());
  if (kind == FileKind::safetensors)
    bad_file("{}: this looks like a safetensors file alone; expected {}", path.string(), expected);
  if (kind != FileKind::unknown) bad_file("{}: {}", path.string(), wrong_kind(kind, expected));
  bad_file("{}: this is a file; expected {}", path.string(), expected);
}

// "ORG/NAME" of a path that goes through models--ORG--NAME.
std::optional<std::string> name_in_cache(const fs::path& path) {
  for (const fs::path& part : path) {
    std::string name = part.string();
    if (!name.starts_with(kCached)) continue;
    name.erase(0, kCached.size());
    if (const size_t cut = name.find("--"); cut != std::string::npos) return name.replace(cut, 2, "/");
  }
  return std::nullopt;
}

// The snapshot in a model's directory of the Hub's cache: that of refs/main, or the only one. `settings`: the file that it must
// have.
std::optional<fs::path> snapshot(const fs::path& cached, const char* settings) {
  const auto any = [](const std::string&) { return true; };
  const std::vector<std::string> all = names_in(cached / "snapshots", any);
  if (!is_there(cached / "snapshots")) return std::nullopt;
  std::string revision = all.size() == 1 ? all[0] : "";
  if (is_there(cached / "refs" / "main")) {
    revision = read_file(cached / "refs" / "main");
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) revision.pop_back();
  }
  const bool plain =
      !revision.empty() && revision.find_first_of(std::string("/\0", 2)) == std::string::npos && revision[0] != '.';
  if (plain && is_there(cached / "snapshots" / revision / settings)) return cached / "snapshots" / revision;
  if (plain && is_there(cached / "snapshots" / revision))
    bad_file("{}: the snapshot {} in the Hub's cache has no {}; run again: hf download {}", cached.string(), in_quotes(revision),
             settings, name_in_cache(cached).value_or("ORG/NAME"));
  bad_file("{}: this is a model in the Hub's cache, but {}; give one of its snapshots: {}", cached.string(),
           revision.empty() ? "refs/main is missing"
                            : fmt::format("there is no snapshot {}, which refs/main names", in_quotes(revision)),
           all.empty() ? "there is none, so download it with hf download" : listed(all));
}

// The snapshot of a model or an adapter that is named as on the Hub.
std::optional<fs::path> in_hub_cache(const fs::path& named, const char* settings) {
  const auto name = hub_name(named.string());
  const auto directory = name ? cached(*name) : std::nullopt;
  return directory ? snapshot(*directory, settings) : std::nullopt;
}

std::string base_of_adapter(const fs::path& directory) {
  try {
    const Json config = parse_json(read_file(directory / kAdapterSettings), "");
    const std::string base = config.value("base_model_name_or_path", "");
    return base.empty() ? "MODEL" : base;
  } catch (const std::exception&) {
    return "MODEL";
  }
}

}  // namespace

fs::path find_model(const fs::path& path) {
  if (!is_there(path)) {
    if (const auto found = in_hub_cache(path, kModelSettings)) return *found;
    refuse_absent(path, "--model");
  }
  if (is_gguf(path)) return path;
  if (!fs::is_directory(path)) refuse_file(path, "--model", kModel);
  if (is_there(path / "config.json")) return path;
  const std::string text = path.string();
  if (const auto found = snapshot(path, kModelSettings)) return *found;
  const auto with_config = [&](const std::string& name) { return is_there(path / name / "config.json"); };
  const auto ends = [](std::string_view suffix) { return [suffix](const std::string& name) { return name.ends_with(suffix); }; };
  const auto begins = [](std::string_view prefix) {
    return [prefix](const std::string& name) { return name.starts_with(prefix); };
  };
  if (const auto models = names_in(path, begins(kCached)); !models.empty())
    bad_file("{}: this is the Hub's cache; give one of its models: {}", text, listed(models));
  if (const auto models = names_in(path / "hub", begins(kCached)); !models.empty())
    bad_file("{}: the Hub's cache is in it; give one of its models, in {}: {}", text, (path / "hub").string(), listed(models));
  if (is_there(path / kAdapterSettings))
    bad_file("{}: this looks like an adapter, not a model: give --model {} --adapter {}", text, base_of_adapter(path), text);
  if (const auto files = names_in(path, ends(".gguf")); !files.empty())
    bad_file("{}: there is no config.json, but {}: give {}--model {}", text, listed(files),
             files.size() > 1 ? "one of them: " : "", (path / files[0]).string());
  if (is_there(path / "params.json"))
    bad_file(
        "{}: this looks like a model in Meta's own format (params.json); expected {}; convert it with transformers' "
        "convert_llama_weights_to_hf.py, or download the -hf version",
        text, kModel);
  if (const auto below = names_in(path, with_config); !below.empty())
    bad_file("{}: there is no config.json, but in these directories: {}; give one of them", text, listed(below));
  bad_file("{}: there is no config.json; expected {}", text, kModel);
}

fs::path find_adapter(const fs::path& path) {
  if (!is_there(path)) {
    const auto found = in_hub_cache(path, kAdapterSettings);
    if (!found) refuse_absent(path, "--adapter");
    return find_adapter(*found);
  }
  if (!fs::is_directory(path)) refuse_file(path, "--adapter", kAdapter);
  const std::string text = path.string();
  const bool tensors = is_there(path / kAdapterTensors), config = is_there(path / kAdapterSettings);
  if (tensors && config) return path;
  if (const auto found = snapshot(path, kAdapterSettings)) return *found;
  const auto with_adapter = [&](const std::string& name) { return is_there(path / name / kAdapterSettings); };
  const auto gguf = names_in(path, [](const std::string& name) { return name.ends_with(".gguf"); });
  if (!tensors && is_there(path / "adapter_model.bin"))
    bad_file(
        "{}: adapter_model.bin is pickled, and is not read; expected adapter_model.safetensors; load it with PEFT and call "
        "save_pretrained(DIR)",
        text);
  if (config) bad_file("{}: adapter_model.safetensors is missing beside adapter_config.json", text);
  if (tensors) bad_file("{}: adapter_config.json is missing beside adapter_model.safetensors", text);
  if (is_there(path / "config.json"))
    bad_file("{}: this looks like a model, not an adapter; if the adapter was merged into it, give it as --model alone", text);
  if (!gguf.empty())
    bad_file("{}: {} is a GGUF file, which is not read as an adapter; expected {}", text, listed(gguf), kAdapter);
  if (const auto below = names_in(path, with_adapter); !below.empty())
    bad_file("{}: there is no adapter_config.json, but in these directories: {}; give one of them", text, listed(below));
  bad_file("{}: there is no adapter_config.json; expected {}", text, kAdapter);
}

std::string hub_name_of(const fs::path& path) {
  if (const auto name = name_in_cache(path)) return *name;
  const auto name = is_there(path) ? std::nullopt : hub_name(path.string());
  return name && cached(*name) ? *name : "";
}

}  // namespace tll
