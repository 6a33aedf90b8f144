#include "src/commands/training_run.h"

#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/base/units.h"
#include "src/commands/save.h"
#include "src/commands/shared_questions.h"
#include "src/files/model_files.h"
#include "src/model/initialize.h"
#include "src/options/option_table.h"
#include "src/report/build_facts.h"

namespace tll {
namespace {

constexpr int kAnswerTokens = 32, kLongAnswerTokens = 256;  // an answer of a validation question, at most
constexpr int kHopelessSteps = 3;                           // in a row that are not finite: training cannot go on
constexpr std::chrono::minutes kAutomaticSave{10};
constexpr size_t kAutomaticKeep = 2;  // checkpoints of those that were written by the clock

RunData load_run_data(const Options& options, const ModelSource& source) {
  PrepareOptions p = prepare_options(options, source);
  RunData data;
  if (!options.valid_data.empty()) p.valid_split = 0;
  data.train = load_dataset(options.data, source.tokenizer.get(), p);
  refuse_other_choices(options, options.data, data.train);
  if (!options.valid_data.empty()) {
    data.separate_validation = load_dataset(options.valid_data, source.tokenizer.get(), p);
    for (Document& d : data.separate_validation->documents) d.split = Split::kValidation;
  }
  return data;
}

// --resume means the newest checkpoint of the run that run.json in --output names. --resume DIR names a checkpoint, or a
// directory that holds some.
std::optional<ResumePoint> resume_point(const Options& options) {
  if (!options.resume) return std::nullopt;
  ResumePoint point;
  point.record = read_run_record(options.output);
  const bool named = !options.resume->empty();
  const std::filesystem::path& directory = named ? *options.resume : options.output;
  if (named && std::filesystem::exists(directory / "state.json")) {
    point.checkpoint = directory;
  } else {
    const std::optional<RunRecord> record = named ? read_run_record(directory) : point.record;
    if (const auto newest = newest_checkpoint(directory, record ? record->run : "")) point.checkpoint = newest->path;
    if (named && !point.checkpoint) bad_file("{}: there is no checkpoint here", directory.string());
  }
  if (!point.checkpoint) return point;
  check_checkpoint(*point.checkpoint);
  point.position = read_position(*point.checkpoint);
  const Json& settings = point.position.settings;
  const Json now = options.train == TrainMode::kFull ? "full" : "lora", then = settings.value("train", now);
  if (then != now)
    bad_file("{} is of a run with --train {}; resume it with the same", point.checkpoint->string(),
             then.is_string() ? then.get<std::string>() : then.dump());
  if (settings.value("train_embeddings", Json(false)) != Json(options.train_embeddings))
    bad_file("{} is of a run with{} --train-embeddings; resume it so", point.checkpoint->string(),
             options.train_embeddings ? "out" : "");
  return point;
}

// A run may go on with another number of ranks: what each accumulates follows from what all did.
std::optional<ResumePoint> resume_point_of_ranks(Options& options) {
  std::optional<ResumePoint> point = resume_point(options);
  if (!point || !point->checkpoint) return point;
  const Json then = point->position.settings.value("grad_accum", Json());
  if (!then.is_number_integer() || options.given("grad-accum")) return point;
  const int64_t all = then.get<int64_t>();
  if (all < options.ranks || all % options.ranks != 0)
    bad_file("{}: a step of this run has {} batches, which {} cannot share equally; resume on a number of ranks that divides it",
             point->checkpoint->string(), all, Counted{options.ranks, "rank"});
  options.grad_accum = all / options.ranks;
  if (options.batch_size == kAutomatic) options.given_names.emplace("grad-accum");
  return point;
}

std::filesystem::path adapter_directory(const Options& options, const std::optional<ResumePoint>& resume) {
  const bool from_checkpoint = resume && resume->checkpoint && options.train == TrainMode::kLora;
  return from_checkpoint ? *resume->checkpoint : options.init_adapter;
}

// With --batch-size auto, writes what is chosen into the options. A resumed run keeps its batches.
std::optional<Solution> choose_batch(Options& options, const ModelSource& source, const AdapterSource& adapter,
                                     const std::optional<ResumePoint>& resume, Collectives* collectives) {
  if (options.batch_size != kAutomatic) return std::nullopt;
  if (resume && resume->checkpoint) {
    const OptionRow& row = *find_row("mlp-chunk");
    const Json& settings = resume->position.settings;
    if (const auto then = settings.find(snake_case(row)); then != settings.end()) {
      set_value(row, options, then->is_string() ? then->get<std::string>() : then->dump(), row.name);
      options.given_names.emplace(row.name);
    }
  }
  const Planner planner(source.config, adapter, training_needs);
  Solution solution;
  if (collectives) {
    solution.options = options;
    if (collectives->is_first()) solution = solve(planner, options, planning_room(options));
    solution = of_first(*collectives, std::move(solution));
  } else {
    solution = solve(planner, options, planning_room(options));
  }
  options = solution.options;
  return solution;
}

}  // namespace

template <class Float>
TrainingRun<Float>::TrainingRun(const Options& options, Collectives* collectives)
    : options_(options),
      collectives_(collectives),
      resume_(resume_point_of_ranks(options_)),
      source_(open_model(options_, TokenizerNeed::wanted, adapter_directory(options, resume_))),
      data_(load_run_data(options_, source_)),
      adapter_(open_adapter(options_, source_.config, adapter_directory(options, resume_))),
      chosen_(choose_batch(options_, source_, adapter_, resume_, collectives)),
      session_(options_, source_.config, adapter_.targets, training_needs),
      report_(options_, source_, data_, session_, session_.model.options(), session_.trainer.state, is_first()),
      loader_(data_.train, loader_options(options_, Split::kTrain)),
      best_values_(options_.output, session_.model.options().train_all) {
  if (adapter_.loaded) adopt_adapter(options_, *adapter_.loaded);
  options_.train_on = data_.train.train_on, options_.long_samples = data_.train.long_samples;  // as a prepared file has them
  if (resume_ && resume_->checkpoint && !options_.given("init-adapter"))
    options_.init_adapter = resume_->position.settings.value("init_adapter", "");
  add_end_marks(source_, data_.train);
  add_end_marks(source_, data_.validation());
  if (data_.validation().count(Split::kValidation) > 0) {
    LoaderOptions validation = loader_options(options_, Split::kValidation);
    validation.most_documents = options_.eval_docs;
    validation_loader_.emplace(data_.validation(), validation);
  } else if (compares()) {
    fail(kExitUsage, "--{} compares validation losses, and no document is held out: give --valid-split F or --valid-data PATH",
         keeps_best() ? "keep best" : "patience");
  }
  if (options_.eval_samples > 0 && source_.tokenizer)
    questions_ = questions_of(data_.validation(), Split::kValidation, *source_.tokenizer, options_.eval_samples);
  if (!options_.sample_prompt.empty())
    sample_prompt_ = sample_prompt(options_, source_, data_.train, session_.generator->longest_prompt());
  const double epochs = options.epochs * static_cast<double>(loader_.steps_per_epoch());
  total_steps_ = options.max_steps > 0 ? options.max_steps : std::max<int64_t>(1, static_cast<int64_t>(std::ceil(epochs)));
  session_.trainer.set_schedule(schedule(options_, total_steps_));
  const auto trains = [](const Document& d) { return d.split == Split::kTrain && d.target_tokens > 0; };
  if (std::none_of(data_.train.documents.begin(), data_.train.documents.end(), trains))
    bad_file("{}: no document to train on has a trained token; see which tokens are trained with show", options_.data.string());
}

// What the numbers of a run depend on: a resumed run must agree in all of it.
template <class Float>
Json TrainingRun<Float>::settings() {
  Json s = settings_without_weights();
  // Weights that are trained are in the checkpoint itself.
  if (!session_.model.options().train_all)
    s["base_weights"] =
        fmt::format("{:016x}", weights_fingerprint(session_.device, session_.model.weights(), session_.model.block_shards()));
  return s;
}

template <class Float>
Json TrainingRun<Float>::settings_without_weights() const {
  Json adapters = Json::array();
  for (const LoraTarget& t : session_.model.options().lora)
    adapters.push_back({t.module.layer, t.module.short_name(), t.rank, t.scale});
  Json s = resume_settings_json(options_);
  s["total_steps"] = total_steps_;
  s["warmup_steps"] = schedule(options_, total_steps_).warmup_updates;
  s["data"] = fmt::format("{:016x}", data_.train.content_hash());
  s["adapters"] = adapters;
  s["parameters"] = parameter_count(source_.config);
  s["init_adapter"] = options_.init_adapter.string();
  return s;
}

// A hash of the settings and of the values that training starts from.
template <class Float>
std::string TrainingRun<Float>::new_run_id() {
  const TrainedRange<Float>& trained = session_.model.trained();
  uint64_t start = 0;
  if (session_.model.options().train_all) {
    start = values_fingerprint(session_.device, trained, collectives_);
  } else {
    const HostFloats values(session_.device, trained.values, trained.dtype, trained.count);
    start = XXH3_64bits(values.data(), static_cast<size_t>(trained.count) * sizeof(float));
  }
  const std::string text = json_text(settings_) + fmt::format("{:016x}", start);
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

template <class Float>
bool TrainingRun<Float>::already_done() const {
  if (!resume_ || !resume_->record) return false;
  const RunRecord& record = *resume_->record;
  if (!record.finished || (resume_->checkpoint && resume_->position.run != record.run)) return false;
  const bool stopped_early = options_.patience > 0 && record.without_better >= options_.patience;
  if ((record.steps >= total_steps_ || stopped_early) && (record.evaluated || !resume_->checkpoint)) {
    if (resume_->checkpoint) {
      Json asked = settings_without_weights();
      for (const char* key : {"total_steps", "warmup_steps"}) asked.erase(key);  // fewer steps may be asked for
      require_unchanged(asked);
    }
    if (record.steps >= total_steps_)
      report_.say("done     the run in {} has done its {} steps, {} are asked for: there is nothing to do",
                  options_.output.string(), record.steps, total_steps_);
    else
      report_.say("done     the run in {} ended after {} steps, since {} in a row had no lower loss; a larger --patience goes on",
                  options_.output.string(), record.steps, Counted{record.without_better, "evaluation"});
    return true;
  }
  if (!resume_->checkpoint)
    fail(kExitUsage,
         "{}: the run there is finished after {} steps, and there is no checkpoint to go on from; train on from its "
         "result with --init-adapter {} and another --output",
         options_.output.string(), record.steps, options_.output.string());
  return false;
}

// What was asked for and does nothing, or is hardly meant.
template <class Float>
void TrainingRun<Float>::note_options() const {
  if (options_.given("eval-samples") && options_.eval_samples > 0 && questions_.empty())
    fmt::print(stderr, "note: --eval-samples: nothing is answered, since {}\n",
               source_.tokenizer ? "no validation document has a prompt and a reference answer" : "the model has no tokenizer");
  const Schedule s = schedule(options_, total_steps_);
  const bool asked =
      options_.given("warmup-steps") ? options_.warmup_steps > 0 : options_.given("warmup-ratio") && options_.warmup_ratio > 0;
  if (s.kind == ScheduleKind::kConstant && asked)
    fmt::print(stderr, "note: --schedule constant has no warm-up; constant_with_warmup has\n");
  if (s.warmup_updates >= total_steps_)
    fmt::print(stderr, "note: the warm-up of {} is as long as the run: the learning rate rises from 0 to {:.2e} in it\n",
               Counted{s.warmup_updates, "step"}, s.learning_rate(total_steps_ - 1));
}

template <class Float>
void TrainingRun<Float>::start() {
  if (is_first()) check_output(options_, source_.directory);
  report_.say_plan(total_steps_, session_.model.trained().count);
  if (chosen_) report_.say("chosen   {}", chosen_->text());
  note_options();
  options_.warmup_steps = schedule(options_, total_steps_).warmup_updates;  // as run.json has it
  if (is_first()) {
    std::filesystem::create_directories(options_.output);
    lock_.emplace(options_.output);
  }
  session_.collectives = collectives_;
  session_.start(source_, adapter_);
  collectives_ = session_.collectives;                  // with GPUs it is NCCL's
  if (adapter_.loaded) adapter_.loaded->drop_values();  // the device has them
  report_.say_device(dtype_of<Float>);
  if (is_first()) remove_unfinished_files(options_.output);
  settings_ = settings();
  require_same_on_all_ranks();
  if (resume_) resume();
  const int64_t step = session_.trainer.state.step;
  if (step == 0) run_ = new_run_id();
  wait_for_ranks();  // which have read the checkpoint
  if (is_first()) set_aside_earlier_runs(options_, step > 0 ? run_ : "", step);
  if (step > 0) take_best(*resume_->checkpoint);
  saved_step_ = step;
  const bool same_run = step > 0 && resume_->record && resume_->record->run == run_;
  report_.begin({run_, total_steps_, loader_.steps_per_epoch(), settings_.at("data").get<std::string>()},
                same_run ? resume_->record : std::nullopt);
  evaluated_at_ = of_first(is_first() ? report_.evaluated_at() : 0);
  catch_stop_signals();
  session_.trainer.stops();  // from here on all ranks stop together
}

// Settings of the schedule may differ with --reschedule. Where the schedule does not depend on the number of steps, that number
// may differ too.
template <class Float>
void TrainingRun<Float>::require_unchanged(const Json& now) const {
  const RunPosition& position = resume_->position;
  Json compared = now;
  if (options_.reschedule)
    for (const char* key : {"lr", "schedule", "warmup_steps", "total_steps"}) compared.erase(key);
  else if (schedule(options_, total_steps_).independent_of_length())
    compared.erase("total_steps");
  const auto change = changed_setting(position, compared);
  if (!change) return;
  const std::string where = (*resume_->checkpoint / "state.json").string();
  const std::string result =
      fmt::format("--init-adapter {} trains on from its adapter as a new run", resume_->checkpoint->string());
  if (change->name == "total_steps")
    bad_file(
        "{}: the run was planned for {} steps and is asked for {} now, and its learning rates depend on that (those of "
        "--schedule constant do not); --reschedule lays them anew over {} steps, {}",
        where, change->then, change->now, change->now, result);
  const bool of_schedule = change->name == "lr" || change->name == "schedule" || change->name == "warmup_steps";
  bad_file("{}: {} was {} when the checkpoint was written and is {} now; resume with the same settings{}, or {}", where,
           change->name, change->then, change->now, of_schedule ? ", add --reschedule to lay the learning rates anew" : "",
           result);
}

// Another program, data set, model, checkpoint or option on one rank would spoil the run, or stop it half-way.
template <class Float>
void TrainingRun<Float>::require_same_on_all_ranks() const {
  if (!collectives_) return;
  Json own = settings_;
  own["program"] = json_text(version_json());
  own["checkpoint"] = "";
  if (resume_ && resume_->checkpoint) {
    const std::string state = read_file(*resume_->checkpoint / "state.json");
    own["checkpoint"] = fmt::format("{} ({:016x})", resume_->checkpoint->string(), XXH3_64bits(state.data(), state.size()));
  }
  for (const char* name : {"ranks", "shard", "grad-accum", "recompute", "save-steps", "eval-steps", "eval-docs", "eval-samples",
                           "eval-on-start", "keep", "patience", "sample-prompt"})
    own[snake_case(*find_row(name))] = value_text(*find_row(name), options_);
  RunPosition first;
  first.settings = parse_json(text_of_first(*collectives_, json_text(own)), "the settings of rank 0");
  if (const auto change = changed_setting(first, own))
    fail(kExitUsage, "{} is {} here and {} on rank 0; start all ranks with the same program, files and options", change->name,
         change->now, change->then);
  wait_for_ranks();
}

template <class Float>
void TrainingRun<Float>::resume() {
  if (!resume_->checkpoint) {
    fmt::print(stderr, "note: there is no checkpoint in {}: starting from the beginning\n", options_.output.string());
    return;
  }
  Session<Float>& s = session_;
  const RunPosition& position = resume_->position;
  require_unchanged(settings_);
  if (s.model.options().train_all) s.load_weights(ModelFiles(*resume_->checkpoint, source_.config));
  read_optimizer(*resume_->checkpoint, s.device, s.optimizer.tensors(), options_.process_rank);
  s.model.refresh_compute_copies(s.device);
  s.trainer.state = position.trainer;
  loader_.restore(position.loader);
  run_ = position.run;
  report_.say("resume   {}: {} of {} steps are done", resume_->checkpoint->string(), position.trainer.step, total_steps_);
}

// Of a checkpoint: what its evaluations found, and the values of the best one.
template <class Float>
void TrainingRun<Float>::take_best(const std::filesystem::path& checkpoint) {
  best_ = resume_->position.best;
  const bool kept = BestValues::are_in(checkpoint);
  if (is_first()) {
    if (keeps_best() && kept)
      best_values_.take_from_checkpoint(checkpoint);
    else
      best_values_.remove();  // those of a step that is to come
  }
  if (keeps_best() && !kept && best_.step > 0) {
    report_.say("note     the values of step {}, the best until now, were not kept; the best of later evaluations will be",
                best_.step);
    best_.step = 0;
  }
  if (compares()) report_.compared(best_);
}

template <class Float>
Score TrainingRun<Float>::evaluate(bool questions) {
  Score score;
  Session<Float>& s = session_;
  if (validation_loader_) {
    LoaderBatches batches(*validation_loader_);
    typename Trainer<Float>::Evaluation partial;
    try {
      score.loss = s.trainer.evaluate(s.device, batches, {}, &partial).loss;
    } catch (const Stopped&) {
      report_.evaluated_in_part(partial.loss, partial.batches, batches.batches());
      throw;
    }
  }
  if (score.loss && !std::isfinite(*score.loss)) cannot_go_on(fmt::format("the validation loss is {}", std::abs(*score.loss)));
  if (!questions || questions_.empty()) return score;
  EvaluationOptions e;
  e.max_new_tokens = tokens_for_answers(questions_, kAnswerTokens, kLongAnswerTokens), e.eos = source_.eos;
  const auto answer = [&](const std::vector<Question>& asked) {
    EvaluationResult result;
    evaluate_questions(s.device, *s.generator, data_.validation(), asked, *source_.tokenizer, e, result);
    return result;
  };
  // Ranks that share the weights compute every token together.
  if (collectives_ && !s.model.options().ranks.splits_weights())
    score.answers = gather_results(*collectives_, answer(own_questions(*collectives_, questions_)));
  else
    score.answers = answer(questions_);
  return score;
}

template <class Float>
void TrainingRun<Float>::evaluate_before() {
  if (session_.trainer.state.step == 0) {
    if (options_.eval_on_start) report_.before(evaluate(true));
    show_sample();
  } else if (validation_is_due()) {
    validate();  // the run was interrupted before it had done this
  }
}

template <class Float>
void TrainingRun<Float>::evaluate_after() {
  report_.after(evaluate(true));
  show_sample();
}

// With --keep best the values of the last step may be the best ones, too.
template <class Float>
bool TrainingRun<Float>::validation_is_due() const {
  const int64_t step = session_.trainer.state.step;
  if (!validation_loader_ || options_.eval_steps == 0) return false;
  if (step >= total_steps_) return keeps_best() && best_.evaluated < step;
  if (step % options_.eval_steps != 0 || stops_early()) return false;
  return compares() ? best_.evaluated < step : evaluated_at_ != step;
}

template <class Float>
void TrainingRun<Float>::validate() {
  const Score score = evaluate(false);
  if (!score.loss) return;
  report_.validated(*score.loss);
  if (compares()) compare_with_best(*score.loss);
  if (session_.trainer.state.step < total_steps_ && !stops_early()) show_sample();
}

template <class Float>
void TrainingRun<Float>::compare_with_best(double loss) {
  const int64_t step = session_.trainer.state.step;
  const bool better = best_.step == 0 || loss < best_.loss;
  if (better)
    best_ = {.step = step, .loss = loss};
  else
    best_.without_better++;
  best_.evaluated = step;
  report_.compared(best_);
  if (!better || !keeps_best()) return;
  const KeepFromStopping keep;
  session_.arena.enter(session_.device, StepPhase::checkpoint);
  try {
    const TrainedValues values = values_to_write();
    if (is_first())
      best_values_.write([&](const std::filesystem::path& directory) { write_values(directory, FileDtype::F32, values); });
    wait_for_ranks();
  } catch (const std::exception&) {
    keep_values_alone(step, "the best values");
    throw;
  }
}

// The device gets the values of the best evaluation.
template <class Float>
void TrainingRun<Float>::load_best() {
  Session<Float>& s = session_;
  if (best_.step == 0 || best_.step == s.trainer.state.step) return;
  const TrainedRange<Float>& trained = s.model.trained();
  s.arena.enter(s.device, StepPhase::checkpoint);
  if (s.model.options().train_all)
    s.load_weights(ModelFiles(best_values_.directory(), source_.config));
  else
    load_adapter(s.device, read_adapter(best_values_.directory(), source_.config), trained.tensors, trained.values,
                 trained.dtype);
  s.model.refresh_compute_copies(s.device);
}

template <class Float>
void TrainingRun<Float>::show_sample() {
  Session<Float>& s = session_;
  if (!sample_prompt_ || !(is_first() || s.model.options().ranks.splits_weights())) return;
  const GenerateRequest request{sample_prompt_->ids, sample_prompt_->max_new_tokens};
  Phase phase("continuing --sample-prompt", request.max_new_tokens);
  const auto on_token = [&](size_t, int32_t) {
    phase.advance();
    return true;
  };
  const SamplingOptions greedy{.eos = source_.eos, .vocab_size = source_.tokenizer->vocab_size()};
  const auto ids = s.generator->generate(s.device, {&request, 1}, greedy, on_token);
  report_.sample(source_.tokenizer->decode(ids[0]));
}

template <class Float>
void TrainingRun<Float>::step() {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const double loss_scale = session_.trainer.state.loss_scale;
  const bool untrained = session_.trainer.state.updates == 0;
  const StepResult r = session_.trainer.step(session_.device, loader_);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const TrainerState& state = session_.trainer.state;
  report_.step(r, seconds, session_.trainer.graphs().count());
  // Ops of the first step are charged with the memory that they touch for the first time.
  if (!std::exchange(has_stepped_, true) && !finished()) session_.profile = {};
  if (untrained) report_first_gradients(r, loss_scale);
  // A base model or data that are not finite show themselves at once; later steps may be odd ones out.
  if (state.skipped_in_a_row >= (state.updates == 0 ? 1 : kHopelessSteps))
    cannot_go_on(fmt::format(
        "step {}: the loss is {} and the norm of the gradients {}{}", state.step, std::abs(r.loss), std::abs(r.grad_norm),
        state.updates == 0 ? "" : fmt::format("; {} steps in a row were not finite", state.skipped_in_a_row)));
  const bool due = options_.save_steps == kAutomatic ? of_first(Clock::now() - saved_at_ >= kAutomaticSave)
                                                     : options_.save_steps > 0 && state.step % options_.save_steps == 0;
  if (due && !finished()) write_checkpoint_here();
  if (!validation_is_due()) return;
  if (finished()) write_checkpoint_here();
  validate();
}

// Of the first step that counts, or that ends the run because it is not finite.
template <class Float>
void TrainingRun<Float>::report_first_gradients(const StepResult& result, double loss_scale) {
  const Session<Float>& s = session_;
  const std::vector<LoraTarget>& adapters = s.model.options().lora;
  if (adapters.empty() || result.target_tokens == 0 || (result.skipped && s.trainer.state.skipped_in_a_row == 0)) return;
  const TrainedRange<Float>& trained = s.model.trained();
  std::vector<float> gradients(static_cast<size_t>(trained.count));
  read_gradients(s.device, trained, collectives_, 0, trained.count, gradients.data());
  const auto b_was_zero = [&](const Module& module) {
    if (!adapter_.loaded) return true;
    for (const AdapterModule& m : adapter_.loaded->modules)
      if (m.module.name == module.name) return m.b_is_zero;
    return true;
  };
  report_.gradients(report_gradients(adapters, trained.tensors, gradients.data(), loss_scale, b_was_zero), result.target_tokens);
}

// Keeps the steps that were finite, and ends the run.
template <class Float>
void TrainingRun<Float>::cannot_go_on(const std::string& reason) {
  const bool trained = session_.trainer.state.updates > 0;
  report_.end_of_steps();
  if (trained) write_checkpoint_here();
  const auto newest = newest_checkpoint(options_.output, run_);
  report_.failed(reason);
  std::string kept = trained && newest ? fmt::format("; what was trained so far is in {}", newest->path.string()) : "";
  if (keeps_best() && best_.step > 0)
    kept += fmt::format(", and the best values, of step {}, in {}", best_.step, best_values_.directory().string());
  fail(kExitCannotTrain, "{}: {}check the weights and the data{}", reason, trained ? "lower --lr, or " : "", kept);
}

template <class Float>
int TrainingRun<Float>::interrupt(const Stopped& stopped) {
  report_.end_of_steps();
  write_checkpoint_here();
  report_.interrupted(stopped.what(), result_is_saved_);
  return kExitInterrupted;
}

template <class Float>
void TrainingRun<Float>::write_checkpoint_here() {
  Session<Float>& s = session_;
  const int64_t step = s.trainer.state.step;
  if (step == saved_step_) return;
  const KeepFromStopping keep;
  s.arena.enter(s.device, StepPhase::checkpoint);
  try {
    const RunPosition position{run_, s.trainer.state, loader_.state(), settings_, best_};
    const std::vector<StateTensor> states = s.optimizer.tensors();
    const TrainedValues values = values_to_write();
    const auto write_rest = [&](const std::filesystem::path& directory) {
      write_values(directory, FileDtype::F32, values);
      report_.write_trainer_state(directory);
      if (keeps_best() && best_.step > 0) best_values_.add_to_checkpoint(directory);
    };
    if (is_first())
      write_checkpoint(options_.output, position, s.device, states, write_rest, collectives_);
    else
      bring_optimizer(s.device, *collectives_, states);
    wait_for_ranks();
  } catch (const std::exception&) {
    keep_values_alone(step, "the checkpoint");
    throw;
  }
  saved_step_ = step;
  saved_at_ = std::chrono::steady_clock::now();
  if (!is_first()) return;
  // Without a wish for their number, all that were asked for by --save-steps stay.
  if (options_.save_steps != kAutomatic || options_.given("save-total-limit"))
    return remove_old_checkpoints(options_.output, options_.save_total_limit, run_);
  automatic_.push_back(step);
  if (automatic_.size() <= kAutomaticKeep) return;
  remove_checkpoint(options_.output, automatic_.front());
  automatic_.erase(automatic_.begin());
}

// A disk that is full may still have room for the trained values alone.
template <class Float>
void TrainingRun<Float>::keep_values_alone(int64_t step, const char* failed) const {
  if (!is_first() || session_.model.trained().splits_values) return;
  try {
    write_values(options_.output, FileDtype::F32, values_to_write());
    fmt::print(stderr, "note: {} of step {} could not be written; its {} alone is in {}\n", failed, step,
               session_.model.options().train_all ? "model" : "adapter", options_.output.string());
  } catch (const std::exception&) {  // the first error is the one to report
  }
}

// All ranks call this together.
template <class Float>
TrainedValues TrainingRun<Float>::values_to_write() const {
  const TrainedRange<Float>& trained = session_.model.trained();
  TrainedValues values;
  if (!trained.splits_values) {
    if (is_first()) values.here.emplace(session_.device, trained.values, trained.dtype, trained.count);
    return values;
  }
  if (is_first()) values.gathered.resize(static_cast<size_t>(trained.count));
  read_values(session_.device, trained, collectives_, 0, trained.count, is_first() ? values.gathered.data() : nullptr);
  return values;
}

// The adapter as PEFT loads it, or with --train full the whole model.
template <class Float>
void TrainingRun<Float>::write_values(const std::filesystem::path& directory, FileDtype dtype,
                                      const TrainedValues& values) const {
  const TrainedRange<Float>& trained = session_.model.trained();
  if (session_.model.options().train_all)
    save_model(directory, source_.config_file, trained.tensors, values.data(), dtype);
  else
    save_adapter(directory, options_, adapter_, source_.config, trained.tensors, values.data());
}

template <class Float>
void TrainingRun<Float>::save() {
  report_.end_of_steps();
  write_checkpoint_here();
  const KeepFromStopping keep;
  if (keeps_best()) load_best();
  wait_for_ranks();  // which have read the best values
  const TrainedValues values = values_to_write();
  result_is_saved_ = true;
  if (is_first()) {
    write_values(options_.output, options_.weights == DtypeOption::kBf16 ? FileDtype::BF16 : FileDtype::F32, values);
    copy_tokenizer(source_.directory, options_.output, session_.model.options().train_all);
    report_.saved();
    best_values_.remove();
  }
  wait_for_ranks();
}

template class TrainingRun<float>;
template class TrainingRun<bf16>;
template class TrainingRun<half>;

}  // namespace tll
