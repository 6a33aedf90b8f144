#include "src/commands/run_report.h"

#include <algorithm>
#include <cmath>

#include "data/prepare.h"
#include "src/base/units.h"
#include "src/commands/save.h"
#include "src/files/find_files.h"
#include "src/model/plan.h"
#include "src/model/plan_picture.h"
#include "src/options/option_table.h"
#include "src/options/run_options.h"
#include "src/report/build_facts.h"
#include "src/report/memory_probe.h"

namespace tll {
namespace {

// The answer to show: one that training turned from wrong to right, else the first.
const QuestionResult* telling_answer(const EvaluationResult& before, const EvaluationResult& after) {
  for (size_t i = 0; i < after.questions.size() && i < before.questions.size(); i++)
    if (after.questions[i].score.exact_match > before.questions[i].score.exact_match) return &after.questions[i];
  return after.questions.empty() ? nullptr : &after.questions[0];
}

}  // namespace

RunReport::RunReport(const Options& options, const ModelSource& source, const RunData& data, const SessionBase& session,
                     const ModelOptions& model, const TrainerState& state, bool speaks)
    : options_(options),
      source_(source),
      data_(data),
      session_(session),
      model_(model),
      state_(state),
      speaks_(speaks),
      flops_(step_flops(source.config, model)),
      files_(options) {}

void RunReport::say_plan(int64_t total_steps, int64_t trained) {
  if (!speaks_) return;
  trained_ = trained;
  say("model    {}, {}, {} trained", options_.init == InitOption::kRandom ? "random weights" : source_.directory.string(),
      Counted{parameter_count(source_.config), "parameter"}, Count{trained});
  const int64_t validation = data_.validation().count(Split::kValidation);
  const bool limited = options_.eval_docs > 0 && options_.eval_docs < validation;
  say("data     {}: {} to train on, {} to validate on{}, {} of {} x {} tokens", options_.data.string(),
      Counted{data_.train.count(Split::kTrain), "document"}, Count{validation},
      limited ? fmt::format(" (the first {}; --eval-docs)", Count{options_.eval_docs}) : "", Counted{total_steps, "step"},
      Count{options_.batch_size * options_.grad_accum * options_.ranks}, Count{options_.seq_len});
  for (const std::string& note : data_.train.report.notes()) say("         {}", note);
  if (data_.separate_validation)
    for (const std::string& note : data_.separate_validation->report.notes()) say("         --valid-data: {}", note);
  int32_t longest = 0;
  for (const Document& d : data_.train.documents) longest = std::max(longest, d.length);
  if (longest > source_.config.max_positions)
    fmt::print(stderr, "note: the longest document has {}, and the model was made for {} (max_position_embeddings)\n",
               Counted{longest, "token"}, Count{source_.config.max_positions});
  say("plan     {}", plan_line(session_.arena));
}

void RunReport::say_device(DType activations) const {
  if (!speaks_) return;
  const SessionBase& s = session_;
  if (on_host(s.device))
    say("device   {} ({}), {}, {} activations; matmul of this type {} GFLOP/s", processor().model, isa_name(s.device.isa),
        Counted{options_.threads, "thread"}, dtype_name(activations), Count{std::llround(s.ceilings.flops / 1e9)});
  else
    say("device   {} (sm_{}, {} multiprocessors, {}; {}), {} activations; matmul of this type {:.1f} TFLOP/s\n"
        "besides the plan: {} of kernels and libraries, {} of the driver's context and other programs",
        s.gpu.name, s.device.arch / 10, s.gpu.multiprocessors, Bytes{s.gpu.memory}, s.gpu.libraries, dtype_name(activations),
        s.ceilings.flops / 1e12, Bytes{s.gpu.loaded}, Bytes{s.gpu.in_use});
}

void RunReport::begin(const RunStart& start, const std::optional<RunRecord>& earlier) {
  if (!speaks_) return;
  start_ = start;
  first_step_ = state_.step;
  files_.begin(start.run, first_step_, progress());
  progress_line_.emplace(first_step_ + 1, start.total_steps, options_.quiet, options_.progress_output());
  const EarlierMetrics& metrics = files_.earlier();
  first_loss_ = metrics.first_loss, last_loss_ = metrics.last_loss;
  if (earlier) {
    const Json& result = earlier->result;
    if (const Json before = result.value("before", Json()); before.is_object()) before_ = before;
    gradients_ = result.value("first_gradients", Json());
    earlier_examples_ = earlier->examples;
    if (earlier->dates.is_object()) dates_ = earlier->dates;
  }
  if (!dates_.contains("started"))
    dates_ = {{"started", iso_now()}, {"resumed", Json::array()}};
  else if (Json& resumed = dates_["resumed"]; resumed.is_array())
    resumed.push_back(iso_now());
  dates_["ended"] = Json();
  write_run_json(before_.empty() ? Json() : result_json(false, false));
}

void RunReport::before(const Score& score) {
  if (!speaks_) return;
  before_ = score.json();
  answers_before_ = score.answers;
  progress_line_->start_clock();
  write_run_json(result_json(false, false));
  if (!score.loss) return;
  files_.evaluation(0, *score.loss);
  say("before   validation loss {:.4f}{}", *score.loss, score.answered(1));
}

void RunReport::step(const StepResult& r, double seconds, int graphs) {
  if (!speaks_) return;
  const SessionBase& s = session_;
  const int64_t step = state_.step;
  files_.step({step, r.loss, r.grad_norm, r.lr, r.tokens, r.target_tokens, seconds});
  if (r.skipped && r.target_tokens > 0) progress_line_->note("this step was not finite and was skipped");
  const double flops = flops_.of(r.tokens, r.target_tokens) + flops_.of_attention(r.pairs, r.window_pairs);
  progress_line_->show({step, r.loss, r.grad_norm, r.lr, r.tokens, seconds,
                        s.ceilings.flops > 0 ? flops / seconds / s.ceilings.flops : 0, s.arena.total()});
  seconds_ += seconds, tokens_ += r.tokens, graphs_ = graphs;
  if (r.target_tokens == 0) return;
  if (step == 1) first_loss_ = r.loss;
  last_loss_ = r.loss;
}

void RunReport::gradients(const GradientReport& report, int64_t target_tokens) {
  if (!speaks_) return;
  gradients_ = report.json();
  gradients_["target_tokens"] = target_tokens;
  write_run_json(result_json(false, false));
  progress_line_->finish();
  if (report.not_finite.empty()) {
    const std::string a = report.all_of_a_are_zero() ? "0, since B begins as 0" : report.norms(false);
    say("gradient {} in the first step; norms of B: {}; of A: {}", Counted{target_tokens, "trained token"}, report.norms(true),
        a);
  }
  if (!report.zero.empty())
    fmt::print(stderr, "note: no gradient reaches {} of the adapters' matrices in the first step: {}\n", report.zero.size(),
               some_of(report.zero));
  if (!report.not_finite.empty())
    fmt::print(stderr, "note: the gradients of {} of the adapters' matrices are not finite: {}\n", report.not_finite.size(),
               some_of(report.not_finite));
}

void RunReport::validated(double loss) {
  if (!speaks_) return;
  if (!evaluated_here()) files_.evaluation(state_.step, loss);
  progress_line_->note(fmt::format("step {}: validation loss {:.4f}", state_.step, loss));
}

void RunReport::compared(const BestEvaluation& best) { best_ = best; }

void RunReport::sample(const std::string& text) {
  if (!speaks_) return;
  files_.sample(state_.step, text);
  progress_line_->note(fmt::format("step {}: {} -> {}", state_.step, json_text(options_.sample_prompt), json_text(text)));
}

void RunReport::evaluated_in_part(std::optional<double> loss, int64_t done, int64_t batches) {
  if (loss)
    partial_ = fmt::format("; the validation loss of the first {} of {} batches was {:.4f}", Count{done}, Count{batches}, *loss);
}

void RunReport::end_of_steps() {
  if (!speaks_) return;
  progress_line_->finish();
  files_.end_of_steps();
  peak_resident_ = process_memory().peak;
}

void RunReport::saved() {
  if (speaks_) write_run_json(result_json(true, false));
}

void RunReport::after(const Score& score) {
  if (!speaks_) return;
  after_ = score;
  if (score.loss && !evaluated_here()) files_.evaluation(state_.step, *score.loss);
}

void RunReport::interrupted(const std::string& activity, bool saved) {
  if (!speaks_) return;
  peak_resident_ = process_memory().peak;  // with the checkpoint
  Json result = result_json(saved, false);
  result["interrupted"] = true;
  end_files(result);
  say_curves();
  if (saved)
    say("stopped  {}; the result is saved, and --resume completes the evaluation{}", activity, partial_);
  else if (state_.step == 0)
    say("stopped  {}, before the first step{}", activity, partial_);
  else
    say("stopped  after step {}, {}; go on with the same command and --resume{}", state_.step, activity, partial_);
}

void RunReport::failed(const std::string& reason) {
  if (!speaks_) return;
  Json result = result_json(false, false);
  result["error"] = reason;
  end_files(result);
}

void RunReport::finish() {
  if (!speaks_) return;
  const Json result = result_json(true, true);
  end_files(result);
  if (options_.json) fmt::print("{}\n", json_text(result));
  say_curves();
  say_steps();
  if (best_ && state_.step < start_.total_steps)
    say("stopped  after step {} of {}: the validation loss of step {} was the lowest, and {} had none lower", state_.step,
        start_.total_steps, best_->step, Counted{best_->without_better, "evaluation"});
  if (best_ && options_.keep == KeepOption::kBest && best_->step > 0)
    say("kept     the values of step {}, whose validation loss {:.4f} is the lowest", best_->step, best_->loss);
  say_memory();
  say_learned();
  say_next();
  print_profile(session_.device, session_.ceilings);
}

Json RunReport::result_json(bool finished, bool evaluated) const {
  Json result = {{"finished", finished},      {"evaluated", evaluated}, {"steps", state_.step},
                 {"updates", state_.updates}, {"first_loss", Json()},   {"last_loss", Json()},
                 {"before", before_},         {"after", after_.json()}, {"output", options_.output.string()}};
  if (first_loss_) result["first_loss"] = *first_loss_;
  if (last_loss_) result["last_loss"] = *last_loss_;
  if (!gradients_.is_null()) result["first_gradients"] = gradients_;
  if (best_) {
    result["best"] = best_->step > 0 ? Json{{"step", best_->step}, {"loss", best_->loss}} : Json();
    result["evaluations_without_better"] = best_->without_better;
    result["stopped_early"] = finished && state_.step < start_.total_steps;
  }
  return result;
}

void RunReport::say_steps() const {
  const int64_t steps = state_.step - first_step_;
  if (steps == 0) return;
  std::string losses;
  if (first_loss_ && last_loss_)
    losses = fmt::format("; loss {:.4f} in the first step, {:.4f} in the last, {:.4f} smoothed over {}", *first_loss_,
                         *last_loss_, files_.history().entries().back().smoothed, Counted{files_.history().smoothing(), "step"});
  say("trained  {} in {:.1f} s: {} tokens/s{}", Counted{steps, "step"}, seconds_, Count{std::llround(tokens_per_second())},
      losses);
}

void RunReport::say_memory() const {
  const SessionBase& s = session_;
  const int64_t grown = peak_resident_ - s.resident_before;
  if (on_host(s.device))
    say("memory   {} planned; the process grew by {} at most, from the {} that it had before; of the arena {} were touched",
        Bytes{s.arena.total()}, Bytes{grown}, Bytes{s.resident_before}, Bytes{s.arena.resident()});
  else
    say("memory   {} planned; beside that, kernels that were loaded later and {} of steps took {} of the GPU, for which {} were "
        "set aside; on the host {} planned, and the process grew by {} at most",
        Bytes{s.arena.total()}, Counted{graphs_, "graph"}, Bytes{gpu_bytes_later()}, Bytes{kSetAside}, Bytes{s.staging.total()},
        Bytes{grown});
  if (!on_host(s.device) && gpu_bytes_later() > kSetAside)
    fmt::print(stderr, "note: that is more than was set aside; --memory {} leaves room for it\n",
               Bytes{s.gpu_free_before - gpu_bytes_later()});
}

int64_t RunReport::gpu_bytes_later() const {
  return std::max<int64_t>(0, session_.gpu_free_before - cuda_free_memory(session_.device) - session_.arena.total());
}

void RunReport::say_learned() const {
  const auto arrow = [&](const char* key, int decimals) {
    return before_.contains(key) && before_.at(key).is_number()
               ? fmt::format("{:.{}f} -> ", before_.at(key).get<double>(), decimals)
               : std::string();
  };
  if (after_.loss) say("learned  validation loss {}{:.4f}", arrow("loss", 4), *after_.loss);
  if (!after_.answers) return;
  const EvaluationResult before = answers_before_.value_or(EvaluationResult{});
  const SquadTotals& is = after_.answers->totals;
  say("         exact match {}{:.1f}, F1 {}{:.1f} on {} that were not trained on", arrow("exact_match", 1), is.exact_match(),
      arrow("f1", 1), is.f1(), Counted{is.questions, "question"});
  const QuestionResult* q = telling_answer(before, *after_.answers);
  if (!q) return;
  const Dataset& data = data_.validation();
  const auto prompt = data.tokens_of(data.documents[static_cast<size_t>(q->document)]).first(size_t(q->prompt_tokens));
  say("example  {}", source_.tokenizer->decode(prompt));
  for (const QuestionResult& b : before.questions)
    if (b.document == q->document) say("before   {}", b.prediction);
  say("after    {}", q->prediction);
  say("correct  {}", q->gold.empty() ? "(no answer)" : q->gold[0]);
}

void RunReport::say_next() const {
  const std::string output = shell_word(options_.output.string());
  if (model_.train_all) {
    say_whole("model    {}", (options_.output / "model.safetensors").string());
    say_whole("next     ./train_llama_lora --model {} --data {}", output, shell_word(options_.data.string()));
    return;
  }
  say_whole("adapter  {}", (options_.output / kAdapterTensors).string());
  if (source_.rows_in_files > 0)
    say_whole("in PEFT  model.resize_token_embeddings({}) before PeftModel.from_pretrained(model, {})", source_.config.vocab_size,
              in_quotes(options_.output.string()));
  const std::string model = options_.model.empty() ? "" : fmt::format(" --model {}", shell_word(options_.model.string()));
  // A prepared file knows its split; of any other the same share has to be held out again.
  const std::filesystem::path& data = data_.separate_validation ? options_.valid_data : options_.data;
  const bool prepared = is_prepared_file(data);
  std::string split;
  if (!data_.separate_validation && data_.train.count(Split::kValidation) > 0 && !prepared)
    split = fmt::format(" --valid-split {} --seed {}", options_.valid_split, options_.seed);
  // So have the choices that made text of it.
  for (const char* name : {"format", "columns", "template", "system", "template-date", "train-on", "long", "parse-special",
                           "unanswerable", "seq-len"}) {
    const OptionRow& row = *find_row(name);
    if (prepared || !options_.given(name)) continue;
    split += fmt::format(" --{}{}", name, row.is_flag() ? "" : " " + shell_word(value_text(row, options_)));
  }
  say_whole("next     ./train_llama_lora evaluate{} --adapter {} --data {}{}", model, output, shell_word(data.string()), split);
}

Json RunReport::measured_json() const {
  const SessionBase& s = session_;
  Json measured = {{"planned_bytes", s.arena.total()},
                   {"resident_before_arena", s.resident_before},
                   {"peak_resident", peak_resident_},
                   {"peak_resident_over_start", peak_resident_ - s.resident_before},
                   {"train_seconds", seconds_},
                   {"tokens", tokens_},
                   {"tokens_per_second", tokens_per_second()},
                   {"documents", data_.train.count(Split::kTrain)}};
  const auto both = [](int64_t planned, int64_t found) { return Json{{"planned", planned}, {"measured", found}}; };
  const int64_t grown = peak_resident_ - s.resident_before;
  Json memory = {{"arena", both(s.arena.total(), s.arena.resident())}};
  if (on_host(s.device)) {
    memory["process"] = both(s.arena.total(), grown);
  } else {
    const int64_t taken = s.gpu_free_before - cuda_free_memory(s.device);
    measured["gpu_bytes_taken"] = taken;
    memory["gpu"] = both(s.arena.total(), taken);
    memory["gpu_later"] = both(kSetAside, gpu_bytes_later());
  }
  memory["host"] = both(on_host(s.device) ? s.arena.total() : s.staging.total(), grown);
  measured["memory"] = memory;
  return measured;
}

RunProgress RunReport::progress(bool finished) const {
  return {.total_steps = start_.total_steps, .steps_per_epoch = start_.steps_per_epoch, .flops = flops_, .finished = finished};
}

Json RunReport::run_json(const Json& result) const {
  const std::filesystem::path model = options_.model.empty() ? demo_directory() : options_.model;
  std::error_code none;
  int largest_rank = 0;
  for (const LoraTarget& t : model_.lora) largest_rank = std::max(largest_rank, t.rank);
  return {{"run", start_.run},
          {"program", version_json()},
          {"command_line", command_line(options_.arguments)},
          {"dates", dates_},
          {"options", options_json(options_)},
          {"given", options_.given_names},
          {"total_steps", start_.total_steps},
          {"paths",
           {{"working_directory", std::filesystem::current_path(none).string()},
            {"model", model.string()},
            {"model_word", shell_word(model.string())},
            {"output", options_.output.string()},
            {"output_word", shell_word(options_.output.string())}}},
          {"model",
           {{"base_name", base_name(options_)},
            {"base_on_hub", !options_.base_name.empty() || !hub_name_of(model).empty()},
            {"parameters", parameter_count(source_.config)},
            {"trained_parameters", trained_},
            {"largest_rank", largest_rank}}},
          {"data", data_json(options_, data_, start_.data_hash)},
          {"plan", session_.plan_json()},
          {"host", host_json()},
          {"device", device_json(options_, session_)},
          {"measured", result.is_null() ? Json() : measured_json()},
          {"examples", examples_json(source_, data_.validation(), answers_before_, after_.answers, earlier_examples_)},
          {"result", result}};
}

void RunReport::write_run_json(const Json& result) const { write_json(options_.output / "run.json", run_json(result)); }

// The end of the run, or of this part of it: run.json first, since it is the one that others rely on.
void RunReport::end_files(const Json& result) {
  dates_["ended"] = iso_now();
  const Json run = run_json(result);
  write_json(options_.output / "run.json", run);
  files_.write_trainer_state(options_.output, progress(result.at("finished").get<bool>()));
  files_.write_pictures(
      run,
      plan_picture(session_.arena, fmt::format("{}: {} at the peak", options_.output.string(), Bytes{session_.arena.total()})),
      result.at("finished").get<bool>());
}

void RunReport::say_curves() const {
  if (!options_.quiet) write_all(options_.progress_output(), files_.terminal_curves(options_.progress_output()));
}

}  // namespace tll
