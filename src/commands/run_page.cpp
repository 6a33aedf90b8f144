#include "src/commands/run_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/base/json_path.h"
#include "src/base/units.h"
#include "src/files/servers.h"
#include "src/report/markup.h"
#include "src/report/training_chart.h"

namespace tll {
namespace {

constexpr double kWide = 960, kNarrow = 372;  // pixels of the curves, on a large screen and on a telephone

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--back:#fff;--card:#f6f8fa;--line:#d8dee4;--text:#1f2328;--soft:#57606a;--good:#00795a;--bad:#b3261e;--link:#0969da}
@media (prefers-color-scheme:dark){:root{--back:#0d1117;--card:#161b22;--line:#30363d;--text:#e6edf3;--soft:#9da7b3;--good:#3fc79a;--bad:#ff8a80;--link:#58a6ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:16px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:1100px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.6rem;line-height:1.25;margin:.2em 0}h2{font-size:1.2rem;margin:2.2em 0 .6em;padding-bottom:.3em;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.4em 0 .4em}p{margin:.5em 0}.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
nav{font-size:.9rem;margin:.8em 0}nav a{margin-right:1em;white-space:nowrap}a{color:var(--link)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(180px,46%),1fr));gap:12px;margin:1.2em 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.card b{display:block;font-size:1.15rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}.card span{font-size:.82rem;color:var(--soft)}
li{overflow-wrap:anywhere}table+table{margin-top:1.2em}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{font-weight:600}td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));column-gap:32px;font-size:.92rem;margin:0}
.pairs div{display:flex;gap:12px;justify-content:space-between;border-bottom:1px solid var(--line);padding:4px 0}
.pairs dt{color:var(--soft);flex:none;max-width:60%;overflow-wrap:anywhere}.pairs dd{margin:0;text-align:right;overflow-wrap:anywhere;min-width:0}
.typed dt::after{content:" \2022";color:var(--link)}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto;font:.86rem/1.45 ui-monospace,"DejaVu Sans Mono",monospace;margin:.6em 0}
.text{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
.sample{border:1px solid var(--line);border-radius:8px;padding:10px 14px;margin:0 0 12px;break-inside:avoid}
.sample dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:4px 14px;margin:0;font-size:.92rem}
.sample dt{color:var(--soft)}.sample dd{margin:0}.prompt{max-height:14em;overflow:auto}
.curves svg{display:block;width:100%;height:auto}.narrow{display:none}
.picture{overflow-x:auto;border:1px solid var(--line);border-radius:8px;background:#fff}.picture svg{display:block;margin:0 auto}
@media (max-width:640px){main{padding:16px 14px 48px}.curves .wide{display:none}.curves .narrow{display:block}.sample dl{grid-template-columns:minmax(0,1fr)}.sample dd{margin-bottom:6px}}
@media print{body{font-size:11pt}main{max-width:none;padding:0}nav{display:none}.prompt{max-height:none}pre{white-space:pre-wrap;overflow-wrap:anywhere}h2{break-after:avoid}.card,.curves,tr{break-inside:avoid}.picture{overflow:visible;border:0}.picture svg{width:100%;height:auto;max-height:24cm}}
)";

// A value as people read it.
std::string shown_value(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_integer()) return fmt::format("{}", value.get<int64_t>());
  if (value.is_number()) return fmt::format("{}", value.get<double>());
  if (value.is_null()) return "–";
  if (!value.is_array()) return json_text(value);
  std::string all;
  for (const Json& item : value) all += (all.empty() ? "" : ", ") + shown_value(item);
  return all.empty() ? "–" : all;
}

std::string fixed(const Json& number, int decimals) {
  return number.is_number() ? fmt::format("{:.{}f}", number.get<double>(), decimals) : "–";
}
std::string counted(const Json& number) {
  return number.is_number_integer() ? fmt::format("{}", Count{number.get<int64_t>()}) : shown_value(number);
}
std::string bytes(const Json& number) {
  return number.is_number_integer() ? fmt::format("{}", Bytes{number.get<int64_t>()}) : "–";
}
std::string speed(const Json& flops) {
  return flops.is_number() ? fmt::format("{} GFLOP/s", Count{std::llround(flops.get<double>() / 1e9)}) : "–";
}
std::string words_of(std::string key) {
  std::replace(key.begin(), key.end(), '_', ' ');
  return key;
}

// The page as it grows. What is passed as text is escaped here, and nowhere else.
class Page {
 public:
  void raw(std::string_view markup) { html_ += markup; }
  void text(std::string_view text) { html_ += markup_escaped(text); }
  void element(std::string_view name, std::string_view content, std::string_view attributes = "") {
    raw(fmt::format("<{}{}{}>", name, attributes.empty() ? "" : " ", attributes));
    text(content);
    raw(fmt::format("</{}>\n", name));
  }
  void section(std::string_view id, std::string_view title) {
    sections_ += fmt::format("<a href=\"#{}\">{}</a>\n", id, markup_escaped(title));
    element("h2", title, fmt::format("id=\"{}\"", id));
  }
  void card(std::string_view name, std::string_view value) {
    raw("<div class=\"card\">");
    element("b", value);
    element("span", name);
    raw("</div>\n");
  }
  void pair(std::string_view name, std::string_view value, std::string_view attributes = "") {
    raw(fmt::format("<div{}{}>", attributes.empty() ? "" : " ", attributes));
    element("dt", name);
    element("dd", value);
    raw("</div>\n");
  }
  void code(std::string_view code) {
    raw("<pre><code>");
    text(code);
    raw("</code></pre>\n");
  }
  const std::string& html() const { return html_; }
  const std::string& sections() const { return sections_; }

 private:
  std::string html_, sections_;
};

class RunPage {
 public:
  RunPage(const Json& run, const RunHistory& history, const std::string& plan_svg)
      : run_(run),
        result_(json_at(run, {"result"})),
        options_(json_at(run, {"options"})),
        history_(history),
        plan_svg_(plan_svg) {}

  std::string make() {
    results();
    curves();
    answers();
    data();
    memory();
    settings();
    machine();
    use();
    repeat();
    Page top;
    head(top);
    return fmt::format(
               "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
               "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
               "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">\n"
               "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n",
               markup_escaped(title()), kStyle) +
           top.html() + "<nav>\n" + page_.sections() + "</nav>\n" + page_.html() + "</main>\n</body>\n</html>\n";
  }

 private:
  std::string title() const { return fmt::format("Training run {}", shown_value(json_at(run_, {"run"}))); }
  bool trains_all() const { return json_at(options_, {"train"}) == "full"; }

  void head(Page& top) const {
    top.element("p", "train_llama_lora", "class=\"soft\"");
    top.element("h1", title());
    std::string state = "in progress";
    bool good = true;
    if (const Json& error = json_at(result_, {"error"}); error.is_string())
      state = "ended: " + error.get<std::string>(), good = false;
    else if (json_at(result_, {"interrupted"}) == true)
      state = "interrupted; --resume goes on", good = false;
    else if (json_at(result_, {"stopped_early"}) == true)
      state = "finished, before the last step: no evaluation was better any more";
    else if (json_at(result_, {"finished"}) == true)
      state = "finished";
    top.element("p", state, good ? "class=\"good\"" : "class=\"bad\"");
    std::string when = shown_value(json_at(run_, {"dates", "started"}));
    if (const Json& ended = json_at(run_, {"dates", "ended"}); ended.is_string()) when += " to " + ended.get<std::string>();
    if (const Json& resumed = json_at(run_, {"dates", "resumed"}); resumed.is_array() && !resumed.empty())
      when += fmt::format(", resumed {}", resumed.size() == 1 ? "once" : fmt::format("{} times", resumed.size()));
    top.element("p", when, "class=\"soft\"");
  }

  void results() {
    page_.raw("<div class=\"cards\">\n");
    const auto change = [&](const char* name, const char* key, int decimals) {
      const Json &before = json_at(result_, {"before", key}), &after = json_at(result_, {"after", key});
      if (before.is_number() || after.is_number())
        page_.card(name, fmt::format("{} → {}", fixed(before, decimals), fixed(after, decimals)));
    };
    change("validation loss, before → after", "loss", 4);
    change("exact match, %", "exact_match", 1);
    change("F1, %", "f1", 1);
    page_.card("training loss, first → last step",
               fmt::format("{} → {}", fixed(json_at(result_, {"first_loss"}), 4), fixed(json_at(result_, {"last_loss"}), 4)));
    if (const auto best = history_.best())
      page_.card("lowest validation loss", fmt::format("{:.4f} at step {}", best->loss, Count{best->step}));
    page_.card("steps", fmt::format("{} of {}", counted(json_at(result_, {"steps"})), counted(json_at(run_, {"total_steps"}))));
    const HistoryTotals totals = history_.totals();
    page_.card("tokens", fmt::format("{}", Count{totals.tokens}));
    if (totals.seconds > 0) {
      page_.card("time in steps", fmt::format("{}", Duration{totals.seconds}));
      page_.card("tokens a second", fmt::format("{}", Count{std::llround(static_cast<double>(totals.tokens) / totals.seconds)}));
    }
    page_.card("planned memory", bytes(json_at(run_, {"plan", "bytes", "total"})));
    page_.raw("</div>\n");
  }

  void curves() {
    if (history_.entries().empty()) return;
    page_.section("curves", "Curves");
    const Chart chart = training_chart(history_);
    page_.raw("<div class=\"curves\"><div class=\"wide\">\n" + chart_svg(chart, kWide) + "</div>\n<div class=\"narrow\">\n" +
              chart_svg(chart, kNarrow) + "</div></div>\n");
    if (history_.interval() > 1)
      page_.element("p", fmt::format("Means over {} each.", Counted{history_.interval(), "step"}), "class=\"soft\"");
  }

  void sample_row(std::string_view name, const Json& value, std::string_view attributes = "class=\"text\"") {
    page_.element("dt", name);
    page_.element("dd", value.is_string() ? value.get<std::string>() : "–", attributes);
  }

  void answers() {
    const Json& examples = json_at(run_, {"examples"});
    if (examples.is_array() && !examples.empty()) {
      page_.section("answers", "Answers before and after");
      for (const Json& example : examples) {
        page_.raw("<div class=\"sample\"><dl>\n");
        sample_row("prompt", json_at(example, {"prompt"}), "class=\"text prompt\"");
        sample_row("before", json_at(example, {"before"}));
        sample_row("after", json_at(example, {"after"}));
        sample_row("reference", json_at(example, {"reference"}));
        page_.raw("</dl></div>\n");
      }
    }
    if (history_.samples().empty()) return;
    page_.section("samples", "Samples");
    page_.element("p", shown_value(json_at(options_, {"sample_prompt"})), "class=\"text soft\"");
    page_.raw("<div class=\"sample\"><dl>\n");
    for (const HistorySample& sample : history_.samples()) {
      page_.element("dt", fmt::format("step {}", Count{sample.step}));
      page_.element("dd", sample.text, "class=\"text\"");
    }
    page_.raw("</dl></div>\n");
  }

  void data() {
    const Json& data = json_at(run_, {"data"});
    if (!data.is_object()) return;
    page_.section("data", "Data");
    page_.raw("<dl class=\"pairs\">\n");
    page_.pair("file", shown_value(json_at(data, {"path"})));
    page_.pair("size", bytes(json_at(data, {"bytes"})));
    page_.pair("content hash", shown_value(json_at(data, {"content_hash"})));
    page_.pair("format", shown_value(json_at(data, {"format"})));
    page_.pair("template", shown_value(json_at(data, {"template"})));
    page_.pair("documents to train on", counted(json_at(data, {"train_documents"})));
    page_.pair("documents to validate on", counted(json_at(data, {"validation_documents"})));
    page_.pair("tokens", counted(json_at(data, {"tokens"})));
    if (const Json& share = json_at(data, {"trained_share"}); share.is_number())
      page_.pair("trained tokens",
                 fmt::format("{} ({:.1f}%)", counted(json_at(data, {"target_tokens"})), 100 * share.get<double>()));
    page_.raw("</dl>\n");
    if (const Json& notes = json_at(data, {"notes"}); notes.is_array() && !notes.empty()) {
      page_.raw("<ul>\n");
      for (const Json& note : notes) page_.element("li", shown_value(note));
      page_.raw("</ul>\n");
    }
  }

  void memory() {
    const Json& plan = json_at(run_, {"plan"});
    if (!plan.is_object()) return;
    page_.section("memory", "Plan and memory");
    page_.raw("<table><thead><tr><th>At the peak</th><th class=\"number\">planned</th></tr></thead><tbody>\n");
    const Json& categories = json_at(plan, {"bytes"});
    const auto row = [&](std::string_view name, std::string_view value) {
      page_.raw("<tr>");
      page_.element("td", name);
      page_.element("td", value, "class=\"number\"");
      page_.raw("</tr>\n");
    };
    if (categories.is_object())
      for (const auto& [name, value] : categories.items())
        if (name != "total") row(name, bytes(value));
    row("total", bytes(json_at(categories, {"total"})));
    page_.raw(
        "</tbody></table>\n<table><thead><tr><th>Memory</th><th class=\"number\">planned</th><th class=\"number\">measured</th>"
        "</tr></thead><tbody>\n");
    const Json& measured = json_at(run_, {"measured", "memory"});
    if (measured.is_object())
      for (const auto& [name, value] : measured.items()) {
        page_.raw("<tr>");
        page_.element("td", name);
        page_.element("td", bytes(json_at(value, {"planned"})), "class=\"number\"");
        page_.element("td", bytes(json_at(value, {"measured"})), "class=\"number\"");
        page_.raw("</tr>\n");
      }
    page_.raw("</tbody></table>\n");
    if (plan_svg_.empty()) return;
    page_.element("h3", "What lies where in memory over the phases of a step");
    page_.raw("<div class=\"picture\">\n" + plan_svg_ + "</div>\n");
  }

  void settings() {
    if (!options_.is_object()) return;
    page_.section("options", "Options");
    page_.element("p", "As they were resolved. Those with a dot were given.", "class=\"soft\"");
    const Json& given = json_at(run_, {"given"});
    page_.raw("<dl class=\"pairs\">\n");
    for (const auto& [key, value] : options_.items()) {
      std::string name = key;
      std::replace(name.begin(), name.end(), '_', '-');
      const bool typed = given.is_array() && std::find(given.begin(), given.end(), Json(name)) != given.end();
      page_.pair(name, shown_value(value), typed ? "class=\"typed\"" : "");
    }
    page_.raw("</dl>\n");
  }

  void machine() {
    page_.section("machine", "Machine and versions");
    page_.raw("<dl class=\"pairs\">\n");
    for (const char* part : {"host", "device", "program"})
      if (const Json& facts = json_at(run_, {part}); facts.is_object())
        for (const auto& [name, value] : facts.items()) {
          const bool size = name.ends_with("_bytes") || name == "memory" || name == "memory_total" || name == "in_use_before";
          const std::string text = size ? bytes(value) : name == "peak_flops" ? speed(value) : shown_value(value);
          page_.pair(fmt::format("{}: {}", part, words_of(name)), text);
        }
    page_.raw("</dl>\n");
  }

  // JSON's strings are Python's, too.
  static std::string python_text(const Json& text) { return json_text(text.is_string() ? text : Json("")); }

  void use() {
    if (json_at(result_, {"finished"}) != true || json_at(options_, {"init"}) == "random") return;
    const Json &output = json_at(run_, {"paths", "output"}), &model = json_at(run_, {"paths", "model"});
    page_.section("use", trains_all() ? "How to load the model" : "How to load the adapter");
    const std::string path = shown_value(json_at(run_, {"paths", "output_word"})),
                      base = shown_value(json_at(run_, {"paths", "model_word"}));
    if (trains_all()) {
      page_.element("h3", "transformers");
      page_.code(
          fmt::format("from transformers import AutoModelForCausalLM, AutoTokenizer\n"
                      "model = AutoModelForCausalLM.from_pretrained({0}, dtype=\"auto\")\n"
                      "tokenizer = AutoTokenizer.from_pretrained({0})\n",
                      python_text(output)));
      page_.element("h3", "vLLM");
      page_.code(fmt::format("vllm serve {}\n", path));
      page_.element("h3", "llama.cpp");
      page_.code(fmt::format("python convert_hf_to_gguf.py {} --outfile model.gguf\n", path));
      return;
    }
    page_.element("h3", "PEFT");
    page_.code(
        fmt::format("from transformers import AutoModelForCausalLM, AutoTokenizer\n"
                    "from peft import PeftModel\n"
                    "model = AutoModelForCausalLM.from_pretrained({0}, dtype=\"auto\")\n"
                    "model = PeftModel.from_pretrained(model, {1})\n"
                    "tokenizer = AutoTokenizer.from_pretrained({0})\n"
                    "# model = model.merge_and_unload()  makes one model of both\n",
                    python_text(model), python_text(output)));
    page_.element("h3", "vLLM");
    const Json& rank = json_at(run_, {"model", "largest_rank"});
    const int64_t most = vllm_lora_rank(rank.is_number_integer() ? rank.get<int64_t>() : 0);
    page_.code(fmt::format("vllm serve {} --enable-lora --max-lora-rank {} --lora-modules mine={}\n", base, most, path));
    page_.element("h3", "llama.cpp");
    page_.code(
        fmt::format("python convert_lora_to_gguf.py --base {} --outfile adapter.gguf {}\n"
                    "llama-cli --model model.gguf --lora adapter.gguf\n",
                    base, path));
    page_.element("p", "The scripts are llama.cpp's; model.gguf is the base model, converted by convert_hf_to_gguf.py.",
                  "class=\"soft\"");
  }

  void repeat() {
    page_.section("repeat", "To repeat the run");
    const Json& line = json_at(run_, {"command_line"});
    if (line.is_string()) {
      page_.element("p", "It was begun with");
      page_.code(shown_value(line) + "\n");
      if (const Json& directory = json_at(run_, {"paths", "working_directory"}); directory.is_string())
        page_.element("p", "in " + directory.get<std::string>(), "class=\"soft\"");
    }
    page_.element("p", "The same with the options of this page, which run.json holds, and a new directory for the result:");
    page_.code(fmt::format("./train_llama_lora --config {}/run.json --output repeated\n",
                           shown_value(json_at(run_, {"paths", "output_word"}))));
  }

  const Json &run_, &result_, &options_;
  const RunHistory& history_;
  const std::string& plan_svg_;
  Page page_;
};

}  // namespace

std::string run_page(const Json& run, const RunHistory& history, const std::string& plan_svg) {
  return RunPage(run, history, plan_svg).make();
}

}  // namespace tll
