#include "src/commands/plan_screen.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "src/base/units.h"
#include "src/model/plan.h"
#include "src/options/option_table.h"
#include "src/report/known_gpus.h"
#include "src/report/terminal.h"

namespace tll {
namespace {

// The options that say what a plan is of, in the order in which they are shown.
constexpr const char* kAssumed[] = {"train",       "rank",      "targets",    "dtype",        "weights", "double-quant",
                                    "lora-states", "optimizer", "batch-size", "grad-accum",   "seq-len", "recompute",
                                    "mlp-chunk",   "offload",   "dropout",    "eval-samples", "ranks",   "shard"};
constexpr size_t kShownGroups = 5;

std::string value_of(const Options& options, const char* name) {
  const OptionRow& row = *find_row(name);
  return row.taken_by(options.command) ? value_text(row, options) : "";
}

// "q, v" for q_proj and v_proj, as people type them.
std::string short_targets(const std::vector<std::string>& targets, const Architecture& architecture) {
  if (targets.size() == adaptable_names(architecture).size()) return "all linear layers";
  std::vector<std::string> names;
  for (const std::string& t : targets) names.push_back(t.substr(0, t.rfind('_')));
  return fmt::format("{}", fmt::join(names, ", "));
}

ModelSource open_resolved(Options& options) {
  resolve_options(options);
  return open_model(options, TokenizerNeed::none);
}

}  // namespace

OpenPlan::OpenPlan(Options& options)
    : source(open_resolved(options)),
      adapter(open_adapter(options, source.config, options.init_adapter)),
      planner(source.config, adapter, training_needs) {
  if (adapter.loaded) adopt_adapter(options, *adapter.loaded);
  if (options.batch_size != kAutomatic) return;
  solution = solve(planner, options, planning_room(options));
  options = solution->options;
}

FourTerms four_terms(const LlamaConfig& config, int64_t batch_size, int64_t seq_len) {
  const int64_t parameters = parameter_count(config);
  const double tokens = static_cast<double>(batch_size * seq_len);
  const double per_token = config.layers * (34.0 * config.hidden + 5.0 * config.heads * static_cast<double>(seq_len));
  return {4 * parameters, 4 * parameters, 8 * parameters, static_cast<int64_t>(tokens * per_token)};
}

PlanScreen::PlanScreen(const Options& options, const ModelSource& source, const SessionBase& session, int64_t trained,
                       const Planner& planner, const std::optional<Solution>& solution)
    : options_(options),
      source_(source),
      session_(session),
      trained_(trained),
      solution_(solution),
      traffic_(options.ranks > 1 ? step_traffic(planner, options) : Traffic{}),
      largest_(largest(planner, options, planning_room(options))) {}

std::string PlanScreen::model_name() const {
  return source_.name.empty() ? (options_.config.empty() ? source_.directory : options_.config).string() : source_.name;
}

std::string PlanScreen::title() const { return fmt::format("{}: {}", model_name(), assumed_line()); }

std::string PlanScreen::device_line() const {
  const int64_t limit = memory_limit(options_);
  if (const KnownGpu* gpu = known_gpu(options_.gpu); !options_.gpu.empty()) {
    std::string line = fmt::format("{}: {} usable, of which driver, kernels and libraries take {} ({})", gpu->name,
                                   Bytes{gpu->usable}, Bytes{gpu->context}, gpu->source);
    if (options_.given("memory")) line += fmt::format("; --memory {} counts", Bytes{options_.memory});
    if (gpu->arch < 750) line += "; its compute capability is below 7.5, which the kernels need";
    return line;
  }
  const char* device = options_.device == DeviceOption::kCuda ? "a GPU" : "CPU";
  if (options_.memory > 0) return fmt::format("{} with {} (--memory)", device, Bytes{limit});
  return fmt::format("{} with {}, what {} has available", device, Bytes{limit}, session_.memory_owner());
}

std::string PlanScreen::assumed_line() const {
  const Options& o = options_;
  std::string line = o.train == TrainMode::kFull ? "all weights are trained"
                     : o.init_adapter.empty()
                         ? fmt::format("LoRA of rank {} on {}", o.rank, short_targets(o.targets, *source_.config.architecture))
                         : fmt::format("the adapter in {}", o.init_adapter.string());
  line += fmt::format("; activations {}", value_of(o, "dtype"));
  if (o.train == TrainMode::kLora) {
    line += fmt::format(", frozen weights {}", value_of(o, "weights"));
    if (value_of(o, "weights") == "nf4") line += value_of(o, "double-quant") == "on" ? " with double quantisation" : "";
    if (const std::string states = value_of(o, "lora-states"); !states.empty()) line += fmt::format(", adapter {}", states);
  }
  line += fmt::format(", {}; {} of {}", value_of(o, "optimizer"), Counted{o.batch_size, "row"}, Counted{o.seq_len, "token"});
  if (o.grad_accum > 1) line += fmt::format(", {} times a step", o.grad_accum);
  line += fmt::format("; recompute {}", value_of(o, "recompute"));
  for (const char* name : {"mlp-chunk", "offload"})
    if (const std::string value = value_of(o, name); !value.empty() && value != "0" && value != "none")
      line += fmt::format(", {} {}", name, value);
  if (o.dropout > 0) line += fmt::format(", dropout {}", o.dropout);
  if (o.ranks > 1) line += fmt::format("; {} ranks, shard {}", o.ranks, value_of(o, "shard"));
  if (o.eval_samples > 0) line += ", answers to validation questions";
  return line;
}

std::string PlanScreen::verdict_line() const {
  const int64_t limit = memory_limit(options_), total = session_.arena.total();
  std::string line =
      fmt::format("{}: {} ({} bytes) of {}", session_.fits() ? "fits" : "does not fit", Bytes{total}, Count{total}, Bytes{limit});
  line +=
      session_.fits() ? fmt::format(", {} to spare", Bytes{limit - total}) : fmt::format(", {} too much", Bytes{total - limit});
  if (const int64_t host = session_.staging.total(); host > 0) line += fmt::format("; and {} pinned on the host", Bytes{host});
  return line;
}

std::string PlanScreen::ranks_line() const {
  std::string line = fmt::format("all bytes here are of each of the {}; in a step it gets {} from the others: {} of gradients",
                                 Counted{options_.ranks, "rank"}, Bytes{traffic_.total()}, Bytes{traffic_.gradients});
  line += fmt::format(", {} of {}", Bytes{traffic_.gathered}, options_.shard == Shard::none ? "their sums" : "updated values");
  if (traffic_.weights > 0) line += fmt::format(", {} of frozen weights", Bytes{traffic_.weights});
  return line;
}

std::string PlanScreen::peak_line() const {
  const Arena& a = session_.arena;
  const int64_t live = a.bytes_in(a.peak());
  return fmt::format("in the phase \"{}\", where {} live at once ({:.4f} of that is allocated)", phase_name(a.peak()),
                     Bytes{live}, static_cast<double>(a.total()) / static_cast<double>(std::max<int64_t>(live, 1)));
}

std::string PlanScreen::largest_line() const {
  const std::string rows = options_.batch_size == 1 ? "a row" : fmt::format("{}", Counted{options_.batch_size, "row"});
  if (largest_.seq_len == 0) return fmt::format("nothing: not even {} of one token", rows);
  std::string line = largest_.batch_size > 0
                         ? fmt::format("{} of {}", Counted{largest_.batch_size, "row"}, Counted{options_.seq_len, "token"})
                         : fmt::format("not even a row of {}", Counted{options_.seq_len, "token"});
  line += fmt::format(", or {} of {}", rows, Counted{largest_.seq_len, "token"});
  if (largest_.seq_len > source_.config.max_positions)
    line += fmt::format("; the model was made for {}", Count{source_.config.max_positions});
  return line;
}

std::string PlanScreen::formula_lines() const {
  const FourTerms f = four_terms(source_.config, options_.batch_size, options_.seq_len);
  const int64_t parameters = parameter_count(source_.config);
  std::string text =
      fmt::format("parameters {} + gradients {} + optimizer {} + activations {} = {}, by the rule of textbooks",
                  Bytes{f.parameters}, Bytes{f.gradients}, Bytes{f.optimizer}, Bytes{f.activations}, Bytes{f.total()});
  std::vector<std::string> why;
  if (options_.train == TrainMode::kLora)
    why.push_back(fmt::format("gradients and moments are of the {:.2f} % that is trained",
                              100.0 * static_cast<double>(trained_) / static_cast<double>(parameters)));
  if (options_.train == TrainMode::kLora && value_of(options_, "weights") != "fp32")
    why.push_back(fmt::format("frozen weights are {}", value_of(options_, "weights")));
  why.push_back("scores of attention and the logits of all tokens are never held at once");
  if (options_.recompute != RecomputeOption::kNone) why.push_back("activations inside a block are computed again");
  return fmt::format("{}; here {}", text, fmt::join(why, ", "));
}

// An adapter on a module that joins several has one A for all of them, so its rank is not that of an adapter on each.
std::vector<std::string> PlanScreen::joint_lines() const {
  std::vector<std::string> lines;
  if (options_.train == TrainMode::kFull) return lines;
  for (const Module& m : adaptable_modules(source_.config)) {
    if (m.layer > 0 || m.parts.empty() || !m.is_among(options_.targets)) continue;
    const int64_t parts = 1 + std::count(m.parts.begin(), m.parts.end(), ' ');
    lines.push_back(fmt::format("{} is one layer with one adapter of rank {}, {}; on its {} parts they would be {}",
                                m.short_name(), options_.rank, Counted{options_.rank * (m.cols + m.rows), "parameter"}, parts,
                                Count{options_.rank * (parts * m.cols + m.rows)}));
  }
  return lines;
}

std::string PlanScreen::text() const {
  constexpr size_t kLabel = 9;
  std::string text;
  const auto say = [&](const char* label, const std::string& line) {
    text += fmt::format("{:<{}}", label, kLabel) + wrapped(line, terminal_columns(STDOUT_FILENO), kLabel, kLabel) + "\n";
  };
  say("model",
      fmt::format("{}, {}, {} trained", model_name(), Counted{parameter_count(source_.config), "parameter"}, Count{trained_}));
  for (const std::string& line : joint_lines()) say("", line);
  say("device", device_line());
  say("assumed", assumed_line());
  if (solution_) say("chosen", solution_->text());
  say("verdict", verdict_line());
  if (options_.ranks > 1) say("ranks", ranks_line());
  say("plan", plan_line(session_.arena));
  say("peak", peak_line());
  for (const std::string& line : largest_groups(session_.arena, kShownGroups)) say("", line);
  say("largest", largest_line());
  say("formula", formula_lines());
  return text;
}

Json PlanScreen::json() const {
  Json plan = session_.plan_json();
  Json assumed = {{"model", model_name()}, {"device", options_.device == DeviceOption::kCuda ? "cuda" : "cpu"}};
  assumed["gpu"] = options_.gpu.empty() ? Json() : Json(options_.gpu);
  for (const char* name : kAssumed)
    if (const OptionRow& row = *find_row(name); row.taken_by(options_.command))
      assumed[snake_case(row)] = value_json(row, options_);
  assumed["parameters"] = parameter_count(source_.config);
  assumed["trained"] = trained_;
  plan["assumed"] = assumed;
  plan["live_at_peak"] = session_.arena.bytes_in(session_.arena.peak());
  plan["largest"] = {{"batch_size", largest_.batch_size}, {"seq_len", largest_.seq_len}};
  const FourTerms f = four_terms(source_.config, options_.batch_size, options_.seq_len);
  plan["formula"] = {{"parameters", f.parameters},
                     {"gradients", f.gradients},
                     {"optimizer", f.optimizer},
                     {"activations", f.activations},
                     {"total", f.total()}};
  if (solution_) plan["solution"] = solution_->json();
  if (options_.ranks > 1)
    plan["received_bytes"] = {{"gradients", traffic_.gradients},
                              {"gathered", traffic_.gathered},
                              {"weights", traffic_.weights},
                              {"total", traffic_.total()}};
  return plan;
}

}  // namespace tll
