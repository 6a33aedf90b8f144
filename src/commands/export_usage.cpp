#include "src/commands/export_usage.h"

#include <algorithm>

#include "src/base/json.h"
#include "src/commands/export_names.h"
#include "src/commands/save.h"
#include "src/files/gguf_model.h"
#include "src/files/servers.h"
#include "src/options/run_options.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

// In Python's and a Modelfile's quotes.
std::string quoted(const std::string& text) { return json_text(text); }

// Ollama's names of models: lower case letters, digits, and some signs.
std::string ollama_name(std::string name) {
  for (char& c : name)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c + 32);
    else if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
      c = '-';
  return name;
}

std::string this_program(const Options& options, bool with_adapter, const std::string& rest) {
  std::string line = "./train_llama_lora export";
  if (!options.model.empty()) line += " --model " + shell_word(options.model.string());
  if (with_adapter && !options.adapter.empty()) line += " --adapter " + shell_word(options.adapter.string());
  return line + " " + rest;
}

std::string from_pretrained(const std::string& arguments) {
  return fmt::format("AutoModelForCausalLM.from_pretrained({})", arguments);
}
std::string from_gguf(const fs::path& directory, const fs::path& file) {
  return from_pretrained(fmt::format("{}, gguf_file={}", quoted(directory.string()), quoted(file.string())));
}

// `model` and `adapter`: their files; empty: none.
std::string ollama(const std::string& name, const std::string& model, const std::string& adapter = "") {
  const std::string file = adapter.empty()
                               ? fmt::format("printf 'FROM %s\\n' {}", shell_word(model))
                               : fmt::format("printf 'FROM %s\\nADAPTER %s\\n' {} {}", shell_word(model), shell_word(adapter));
  return fmt::format("{} > Modelfile && ollama create {} -f Modelfile && ollama run {}", file, name, name);
}

}  // namespace

std::vector<Usage> usages(const Options& options, const ModelSource& source, const AdapterSource& adapter,
                          const Exported& exported) {
  const std::string own_name = adapter_name(options);
  const std::string name = ollama_name(model_name(options, source) + (own_name.empty() ? "" : "-" + own_name));
  const std::string directory = options.output.string();
  const std::string as_gguf = this_program(options, true, "--format gguf --output model.gguf");
  const std::string base = base_name(options);
  if (options.format == ExportFormat::kMerged)
    return {{"transformers", from_pretrained(quoted(directory))},
            {"vLLM", "vllm serve " + shell_word(directory)},
            {"llama.cpp, Ollama", "read GGUF: " + as_gguf}};
  if (options.format == ExportFormat::kBnb4bit)
    return {{"transformers", from_pretrained(quoted(directory)) + ", with the package bitsandbytes"},
            {"vLLM", "vllm serve " + shell_word(directory) + ", with the package bitsandbytes"},
            {"llama.cpp, Ollama", "read GGUF: " + as_gguf}};
  const fs::path file = exported.directory / exported.files.at(0);
  const std::string absolute = fs::absolute(file).lexically_normal().string();
  if (options.format == ExportFormat::kGguf)
    return {{"llama.cpp", "llama-cli -m " + shell_word(file.string())},
            {"Ollama", ollama(name, absolute)},
            {"transformers", from_gguf(exported.directory.empty() ? "." : exported.directory, exported.files[0])},
            {"vLLM", fmt::format("vllm serve {} --tokenizer {}", shell_word(file.string()), shell_word(base))}};
  // A base model that is a GGUF file itself is loaded as it is.
  const bool is_file = is_gguf(source.directory);
  const std::string base_file = is_file ? fs::absolute(source.directory).lexically_normal().string() : "base.gguf";
  const std::string loaded =
      is_file ? from_gguf(fs::path(base_file).parent_path(), fs::path(base_file).filename()) : from_pretrained(quoted(base));
  int rank = 0;
  for (const LoraTarget& target : adapter.targets) rank = std::max(rank, target.rank);
  std::vector<Usage> all;
  if (!is_file) all.push_back({"the base model", this_program(options, false, "--format gguf --output " + base_file)});
  all.push_back({"llama.cpp", fmt::format("llama-cli -m {} --lora {}", shell_word(base_file), shell_word(file.string()))});
  all.push_back({"Ollama", ollama(name, is_file ? base_file : "./" + base_file, absolute)});
  all.push_back({"transformers",
                 fmt::format("PeftModel.from_pretrained({}, {}): the adapter itself", loaded, quoted(options.adapter.string()))});
  all.push_back({"vLLM", fmt::format("vllm serve {} --enable-lora --max-lora-rank {} --lora-modules {}={}: the adapter itself",
                                     shell_word(base), vllm_lora_rank(rank), name, shell_word(options.adapter.string()))});
  return all;
}

}  // namespace tll
