#include "src/commands/model_card.h"

#include <fmt/format.h>

#include <fstream>
#include <initializer_list>
#include <vector>

#include "src/base/json_path.h"
#include "src/base/units.h"
#include "src/files/servers.h"
#include "src/options/run_options.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "<!-- model card by train_llama_lora: a new run into this directory replaces it -->";

std::string text_at(const Json& json, std::initializer_list<const char*> keys) {
  const Json& value = json_at(json, keys);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:g}", value.get<double>());
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  return value.is_null() ? "" : json_text(value);
}

// In a cell of a Markdown table, or in a line of text.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      out += ' ';
    } else {
      if (std::string_view("|`<*[]\\").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

class Card {
 public:
  explicit Card(const Json& run) : run_(run), full_(text_at(run, {"options", "train"}) == "full") {
    const std::string base = text_at(run, {"model", "base_name"});
    on_hub_ = json_at(run, {"model", "base_on_hub"}) == true;
    const fs::path path(base);
    base_ = on_hub_ ? base : (path.has_filename() ? path : path.parent_path()).filename().string();
    const fs::path output(text_at(run, {"paths", "output"}));
    name_ = (output.has_filename() ? output : output.parent_path()).filename().string();
    if (name_.empty() || name_ == "." || name_ == "..") name_ = "adapter";
  }

  std::string text() {
    header();
    add("{}\n\n# {}\n\n", kMark, escaped(name_));
    add("{} of `{}`, trained with train_llama_lora.\n", full_ ? "A full fine-tuning" : "A LoRA adapter", base_);
    if (!on_hub_)
      add("\nThe base model was read from files of a machine; `--base-name ORG/NAME` names it as on the Hub, here and in the "
          "adapter's "
          "settings.\n");
    results();
    data();
    recipe();
    use();
    add("\n## Licence and limits\n\nFill in: the licence (it is bound by the base model's and by the data's), what this model is "
        "for, and what it should not be used for.\n");
    return std::move(text_);
  }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }
  std::string option(const char* name) const { return text_at(run_, {"options", name}); }

  void header() {
    add("---\n");
    if (on_hub_) add("base_model: {}\n", json_text(Json(base_)));
    add("library_name: {}\npipeline_tag: text-generation\ntags:\n", full_ ? "transformers" : "peft");
    if (on_hub_) add("- {}\n", json_text(Json(fmt::format("base_model:{}:{}", full_ ? "finetune" : "adapter", base_))));
    if (!full_) add("- lora\n");
    add("- train_llama_lora\n---\n");
  }

  // A row of two cells, unless the value is empty.
  void row(std::string_view name, const std::string& value) {
    if (!value.empty()) add("| {} | {} |\n", name, escaped(value));
  }

  void results() {
    const Json& before = json_at(run_, {"result", "before"});
    const Json& after = json_at(run_, {"result", "after"});
    struct Measure {
      const char *key, *name;
      int decimals;
    };
    std::string rows;
    const auto cell = [](const Json& score, const Measure& m) {
      const Json& value = json_at(score, {m.key});
      return value.is_number() ? fmt::format("{:.{}f}", value.get<double>(), m.decimals) : std::string("–");
    };
    for (const Measure& m :
         {Measure{"loss", "validation loss", 4}, Measure{"exact_match", "exact match", 1}, Measure{"f1", "F1", 1}})
      if (json_at(before, {m.key}).is_number() || json_at(after, {m.key}).is_number())
        rows += fmt::format("| {} | {} | {} |\n", m.name, cell(before, m), cell(after, m));
    if (rows.empty()) return;
    add("\n## Results\n\n| | before | after |\n| --- | --: | --: |\n{}", rows);
    if (const Json& best = json_at(run_, {"result", "best", "loss"}); best.is_number() && option("keep") == "best")
      add("\nThe values are those of step {}, whose validation loss {:.4f} was the lowest.\n",
          text_at(run_, {"result", "best", "step"}), best.get<double>());
  }

  void data() {
    add("\n## Data\n\n| | |\n| --- | --- |\n");
    row("file", fs::path(text_at(run_, {"data", "path"})).filename().string());
    row("format", text_at(run_, {"data", "format"}));
    row("template", text_at(run_, {"data", "template"}));
    row("training samples", text_at(run_, {"data", "train_documents"}));
    row("validation samples", text_at(run_, {"data", "validation_documents"}));
    row("tokens", text_at(run_, {"data", "tokens"}));
    row("of which trained", text_at(run_, {"data", "target_tokens"}));
    row("content hash", text_at(run_, {"data", "content_hash"}));
  }

  void recipe() {
    add("\n## Recipe\n\n| | |\n| --- | --- |\n");
    if (!full_)
      for (const char* name : {"rank", "alpha", "dropout", "rslora", "train_embeddings"}) row(name, option(name));
    if (const Json& targets = json_at(run_, {"options", "targets"}); !full_ && targets.is_array()) {
      std::string names;
      for (const Json& name : targets) names += (names.empty() ? "" : ", ") + (name.is_string() ? name.get<std::string>() : "");
      row("targets", names);
    }
    for (const char* name : {"lr", "schedule", "warmup_ratio", "optimizer", "weight_decay", "beta1", "beta2", "clip",
                             "batch_size", "grad_accum", "seq_len", "packing", "dtype", "weights", "seed"})
      row(name, option(name));
    row("steps", text_at(run_, {"result", "steps"}));
    row("device", text_at(run_, {"device", "name"}));
    if (const Json& seconds = json_at(run_, {"measured", "train_seconds"}); seconds.is_number())
      row("training time", fmt::format("{:.0f} s", seconds.get<double>()));
    row("program", fmt::format("train_llama_lora {}", text_at(run_, {"program", "version"})));
  }

  void use() {
    const std::string base = on_hub_ ? base_ : "BASE_MODEL";
    const std::string here = json_text(Json(name_));
    add("\n## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n");
    if (full_) {
      add("\nmodel = AutoModelForCausalLM.from_pretrained({0})\ntokenizer = AutoTokenizer.from_pretrained({0})\n```\n", here);
      return;
    }
    add("from peft import PeftModel\n\nmodel = AutoModelForCausalLM.from_pretrained({0})\nmodel = "
        "PeftModel.from_pretrained(model, "
        "{1})\ntokenizer = AutoTokenizer.from_pretrained({1})\n```\n",
        json_text(Json(base)), here);
    const Json& rank = json_at(run_, {"model", "largest_rank"});
    add("\n```sh\nvllm serve {} --enable-lora --max-lora-rank {} --lora-modules {}={}\n```\n", base,
        vllm_lora_rank(rank.is_number_integer() ? rank.get<int64_t>() : 0), shell_word(name_), shell_word(name_));
  }

  const Json& run_;
  const bool full_;
  bool on_hub_ = false;
  std::string base_, name_, text_;
};

}  // namespace

std::string model_card(const Json& run) { return Card(run).text(); }

bool is_model_card(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string begin(4096, '\0');
  in.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  begin.resize(static_cast<size_t>(in.gcount()));
  return begin.find(kMark) != std::string::npos;
}

}  // namespace tll
