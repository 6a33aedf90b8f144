#include "src/commands/training_run.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/signals.h"
#include "src/base/units.h"
#include "src/commands/save.h"
#include "src/model/initialize.h"
#include "src/model/plan.h"
#include "src/report/memory_probe.h"
#include "src/report/profile.h"

namespace tll {
namespace {

constexpr int kAnswerTokens = 32;  // an answer of a validation question
constexpr int kHopelessSteps = 3;  // in a row that are not finite: training cannot go on
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

LoaderOptions loader_options(const Options& o, Split split) {
  LoaderOptions l;
  l.rows = static_cast<int32_t>(o.batch_size);
  l.seq_len = static_cast<int32_t>(o.seq_len);
  l.split = split;
  l.seed = static_cast<uint64_t>(o.seed);
  l.packing = o.packing;
  if (split == Split::kTrain) {
    l.grad_accum = static_cast<int32_t>(o.grad_accum);
    l.shuffle = o.shuffle;
  } else {
    l.shuffle = false;
  }
  return l;
}

// The answer to show: one that training turned from wrong to right, else the first.
const QuestionResult* telling_answer(const EvaluationResult& before, const EvaluationResult& after) {
  for (size_t i = 0; i < after.questions.size() && i < before.questions.size(); i++)
    if (after.questions[i].score.exact_match > before.questions[i].score.exact_match) return &after.questions[i];
  return after.questions.empty() ? nullptr : &after.questions[0];
}

// The checkpoint that --resume means, whole and undamaged; nothing where there is none yet.
std::optional<std::filesystem::path> checkpoint_to_resume(const Options& options) {
  if (!options.resume) return std::nullopt;
  const auto found = options.resume->empty() ? newest_checkpoint(options.output) : options.resume;
  if (found) check_checkpoint(*found);
  return found;
}

}  // namespace

RunData load_run_data(const Options& options, const ModelSource& source) {
  PrepareOptions p = prepare_options(options, source.config);
  RunData data;
  if (!options.valid_data.empty()) p.valid_split = 0;
  data.train = load_dataset(options.data, source.tokenizer.get(), p);
  if (!options.valid_data.empty()) {
    data.separate_validation = load_dataset(options.valid_data, source.tokenizer.get(), p);
    for (Document& d : data.separate_validation->documents) d.split = Split::kValidation;
  }
  return data;
}

template <class Float>
TrainingRun<Float>::TrainingRun(const Options& options)
    : options_(options),
      source_(open_model(options_, TokenizerNeed::wanted)),
      data_(load_run_data(options_, source_)),
      resume_from_(checkpoint_to_resume(options)),
      adapter_(open_adapter(options_, source_.config,
                            resume_from_ && options.train == TrainMode::kLora ? *resume_from_ : options.init_adapter)),
      session_(options_, source_.config, adapter_.targets, training_needs(options_)),
      loader_(data_.train, loader_options(options_, Split::kTrain)) {
  if (data_.validation().count(Split::kValidation) > 0)
    validation_loader_.emplace(data_.validation(), loader_options(options_, Split::kValidation));
  const double epochs = options.epochs * static_cast<double>(loader_.steps_per_epoch());
  total_steps_ = options.max_steps > 0 ? options.max_steps : std::max<int64_t>(1, static_cast<int64_t>(std::ceil(epochs)));
  session_.trainer.set_options(trainer_options(options_, total_steps_));
}

template <class Float>
void TrainingRun<Float>::say(const std::string& line) const {
  if (!silent()) write_to_reader(STDOUT_FILENO, line + "\n");
}

// What the numbers of a run depend on: a resumed run must agree in all of it.
template <class Float>
Json TrainingRun<Float>::settings() const {
  Json adapters = Json::array();
  for (const LoraTarget& t : session_.model.options().lora)
    adapters.push_back({t.layer, kTargetNames[static_cast<int>(t.target)], t.rank, t.scale});
  const Options& o = options_;
  Json all = options_json(o);
  Json s = Json::object();
  for (const char* name :
       {"seed", "seq_len", "batch_size", "grad_accum", "packing", "shuffle", "lr", "schedule", "warmup_ratio", "warmup_steps",
        "weight_decay", "beta1", "beta2", "eps", "clip", "train", "dropout", "dtype", "weights"})
    s[name] = all.at(name);
  s["total_steps"] = total_steps_;
  s["data"] = fmt::format("{:016x}", data_.train.content_hash());
  s["adapters"] = adapters;
  s["parameters"] = parameter_count(source_.config);
  // With --train full the weights are in the checkpoint itself.
  if (!session_.model.options().train_all)
    s["base_weights"] = fmt::format("{:016x}", weights_fingerprint(session_.device, session_.model.weight_places()));
  return s;
}

template <class Float>
void TrainingRun<Float>::start() {
  Session<Float>& s = session_;
  catch_stop_signals();
  say(fmt::format("model    {}, {} parameters, {} trained", source_.random ? "random weights" : source_.directory.string(),
                  parameter_count(source_.config), s.model.trained_count()));
  say(fmt::format("data     {}: {} documents to train on, {} to validate on, {} steps of {} x {} tokens", options_.data.string(),
                  data_.train.count(Split::kTrain), data_.validation().count(Split::kValidation), total_steps_,
                  options_.batch_size * options_.grad_accum, options_.seq_len));
  for (const std::string& note : data_.train.report.notes()) say("         " + note);
  int32_t longest = 0;
  for (const Document& d : data_.train.documents) longest = std::max(longest, d.length);
  if (longest > source_.config.max_positions)
    fmt::print(stderr, "note: the longest document has {} tokens, and the model was made for {} (max_position_embeddings)\n",
               longest, source_.config.max_positions);
  say(fmt::format("plan     {}", plan_line(s.arena)));
  std::error_code failed;
  std::filesystem::create_directories(options_.output, failed);
  if (failed) fail(kExitFault, "{}: cannot make this directory: {}", options_.output.string(), failed.message());
  lock_.emplace(options_.output);
  s.start(source_, adapter_);
  if (on_host(s.device))
    say(fmt::format("device   {} ({}), {} threads, {} activations; product of this type {:.0f} GFLOP/s", processor().model,
                    isa_name(s.device.isa), options_.threads, dtype_name(dtype_of<Float>), s.peak_flops / 1e9));
  else
    say(
        fmt::format("device   {} (sm_{}, {} multiprocessors, {}; {}), {} activations; product of this type {:.1f} TFLOP/s\n"
                    "         besides the plan: {} of kernels and libraries, {} of the driver's context and other programs",
                    s.gpu.name, s.device.arch / 10, s.gpu.multiprocessors, Bytes{s.gpu.memory}, s.gpu.libraries,
                    dtype_name(dtype_of<Float>), s.peak_flops / 1e12, Bytes{s.gpu.loaded}, Bytes{s.gpu.in_use}));
  remove_old_checkpoints(options_.output, 0, 0);
  if (const auto older = newest_checkpoint(options_.output); older && !options_.resume)
    fmt::print(stderr, "note: {} is of an earlier run, and this one starts anew; --resume would go on from it\n",
               older->string());
  if (resume_from_) {
    if (s.model.options().train_all)
      load_weights(s.device, s.weight_stream, ModelFiles(*resume_from_, source_.config), s.model.weight_places());
    const RunPosition position =
        read_checkpoint(*resume_from_, settings(), s.device, s.model.moment1(), s.model.moment2(), s.model.trained_count());
    s.model.refresh_compute_copy(s.device);
    s.trainer.state = position.trainer;
    loader_.restore(position.loader);
    say(fmt::format("resume   {}: {} of {} steps are done", resume_from_->string(), position.trainer.step, total_steps_));
  } else if (options_.resume) {
    say(fmt::format("resume   no checkpoint in {}: starting from the beginning", options_.output.string()));
  }
  first_step_ = s.trainer.state.step;
  metrics_.emplace(options_.output / "metrics.jsonl", first_step_);
  progress_.emplace(first_step_ + 1, total_steps_, silent());
  write_run_json(nullptr);
}

template <class Float>
typename TrainingRun<Float>::Score TrainingRun<Float>::evaluate(bool questions) {
  Score score;
  Session<Float>& s = session_;
  if (validation_loader_) score.loss = s.trainer.evaluate(s.device, *validation_loader_).loss;
  if (questions && s.generator && source_.tokenizer) {
    const std::vector<int64_t> all = question_indices(data_.validation(), Split::kValidation, options_.eval_samples);
    EvaluationOptions e;
    e.max_new_tokens = kAnswerTokens, e.eos = source_.eos;
    struct Stopped {};
    e.progress = [](int64_t, int64_t) {
      if (tll::stop_requested()) throw Stopped();
    };
    if (all.empty() || tll::stop_requested()) return score;
    try {
      score.answers = evaluate_questions(s.device, *s.generator, data_.validation(), all, *source_.tokenizer, e);
    } catch (const Stopped&) {  // there are no answers then
    }
  }
  return score;
}

template <class Float>
void TrainingRun<Float>::evaluate_before() {
  if (first_step_ > 0) return;  // a resumed run: done before
  before_ = evaluate(true);
  progress_->start_clock();
  if (!before_.loss) return;
  metrics_->evaluation(0, *before_.loss);
  say(fmt::format("before   validation loss {:.4f}{}", *before_.loss,
                  before_.answers
                      ? fmt::format(", exact match {:.1f}, F1 {:.1f} on {} questions", before_.answers->totals.exact_match(),
                                    before_.answers->totals.f1(), before_.answers->totals.questions)
                      : ""));
}

template <class Float>
void TrainingRun<Float>::step() {
  Session<Float>& s = session_;
  const auto begin = Clock::now();
  const StepResult r = s.trainer.step(s.device, loader_);
  const double seconds = seconds_since(begin);
  const int64_t step = s.trainer.state.step;
  if (s.trainer.state.skipped_in_a_row >= kHopelessSteps) {
    progress_->finish();
    fail(kExitCannotTrain,
         "step {}: the loss is {} and the norm of the gradients {}; the {}rd step in a row that is not finite: lower --lr, or "
         "check the weights and the data",
         step, std::abs(r.loss), std::abs(r.grad_norm), kHopelessSteps);
  }
  metrics_->step({step, r.loss, r.grad_norm, r.lr, r.tokens, r.target_tokens, seconds});
  if (r.skipped && r.target_tokens > 0) progress_->note("this step was not finite and was skipped");
  const double flops = step_flops(source_.config, s.model.options(), r.tokens, r.target_tokens);
  progress_->show({step, r.loss, r.grad_norm, r.lr, static_cast<double>(r.tokens) / seconds,
                   s.peak_flops > 0 ? flops / seconds / s.peak_flops : 0, s.arena.total()});
  seconds_ += seconds, tokens_ += r.tokens;
  if (step == first_step_ + 1) first_loss_ = r.loss;
  last_loss_ = r.loss;
  if (options_.save_steps > 0 && step % options_.save_steps == 0) write_checkpoint_here();
  if (options_.eval_steps > 0 && step % options_.eval_steps == 0 && step < total_steps_ && validation_loader_) {
    const double loss = *evaluate(false).loss;
    metrics_->evaluation(step, loss);
    progress_->note(fmt::format("step {}: validation loss {:.4f}", step, loss));
  }
}

template <class Float>
bool TrainingRun<Float>::stop_requested() const {
  return tll::stop_requested() && !finished();
}

template <class Float>
int TrainingRun<Float>::interrupt() {
  progress_->finish();
  write_checkpoint_here();
  peak_resident_ = process_memory().peak;
  write_run_json({{"steps", session_.trainer.state.step}, {"interrupted", true}});
  say(fmt::format("stopped after step {}; go on with the same command and --resume", session_.trainer.state.step));
  return kExitInterrupted;
}

template <class Float>
void TrainingRun<Float>::evaluate_after() {
  progress_->finish();
  peak_resident_ = process_memory().peak;
  after_ = evaluate(true);
  if (after_.loss) metrics_->evaluation(session_.trainer.state.step, *after_.loss);
}

template <class Float>
void TrainingRun<Float>::write_checkpoint_here() {
  Session<Float>& s = session_;
  const int64_t n = s.model.trained_count();
  const HostCopy m(s.device, s.model.moment1(), n), v(s.device, s.model.moment2(), n);
  write_checkpoint(options_.output, {s.trainer.state, loader_.state(), settings()}, m.data(), v.data(), n,
                   [&](const std::filesystem::path& directory) { write_values(directory, FileDtype::F32); });
  remove_old_checkpoints(options_.output, options_.save_total_limit, s.trainer.state.step);
}

// The adapter as PEFT loads it, or with --train full the whole model.
template <class Float>
void TrainingRun<Float>::write_values(const std::filesystem::path& directory, FileDtype dtype) const {
  const Llama<Float>& model = session_.model;
  const HostCopy values(session_.device, model.values(), model.trained_count());
  if (model.options().train_all)
    save_model(directory, source_.config_file, model.trained(), values.data(), dtype);
  else
    save_adapter(directory, options_, adapter_, source_.config, model.trained(), values.data());
}

template <class Float>
void TrainingRun<Float>::save() {
  if (options_.save_steps > 0 && session_.trainer.state.step % options_.save_steps != 0) write_checkpoint_here();
  write_values(options_.output, options_.weights == DtypeOption::kBf16 ? FileDtype::BF16 : FileDtype::F32);
  if (session_.model.options().train_all) copy_tokenizer(source_.directory, options_.output);
  const auto score = [](const Score& x) {
    Json j = Json::object();
    if (x.loss) j["loss"] = *x.loss, j["perplexity"] = std::exp(*x.loss);
    if (x.answers)
      j["exact_match"] = x.answers->totals.exact_match(), j["f1"] = x.answers->totals.f1(),
      j["questions"] = x.answers->totals.questions;
    return j;
  };
  const Json result = {{"steps", session_.trainer.state.step},
                       {"updates", session_.trainer.state.updates},
                       {"first_loss", first_loss_},
                       {"last_loss", last_loss_},
                       {"before", score(before_)},
                       {"after", score(after_)},
                       {"output", options_.output.string()}};
  write_run_json(result);
  if (options_.json) fmt::print("{}\n", result.dump());
  tell_what_was_learned();
  print_profile(session_.device, session_.peak_flops, session_.peak_bytes);
}

template <class Float>
void TrainingRun<Float>::tell_what_was_learned() const {
  const int64_t steps = session_.trainer.state.step - first_step_;
  say(fmt::format("trained  {} steps in {:.1f} s: {:.0f} tokens/s; loss {:.4f} in the first step, {:.4f} in the last", steps,
                  seconds_, seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0, first_loss_, last_loss_));
  if (on_host(session_.device))
    say(fmt::format("memory   {} planned; the process grew by {} at most, from the {} that it had before",
                    Bytes{session_.arena.total()}, Bytes{peak_resident_ - session_.resident_before},
                    Bytes{session_.resident_before}));
  else
    say(fmt::format("memory   {} planned; the GPU has {} less free than before (the plan and the graphs of steps)",
                    Bytes{session_.arena.total()}, Bytes{session_.gpu_free_before - cuda_free_memory(session_.device)}));
  if (after_.loss)
    say(fmt::format("learned  validation loss {}{:.4f}", before_.loss ? fmt::format("{:.4f} -> ", *before_.loss) : "",
                    *after_.loss));
  if (after_.answers) {
    const SquadTotals& after = after_.answers->totals;
    const auto arrow = [&](double was) { return before_.answers ? fmt::format("{:.1f} -> ", was) : std::string(); };
    say(fmt::format("         exact match {}{:.1f}, F1 {}{:.1f} on {} questions about contexts that were not trained on",
                    arrow(before_.answers ? before_.answers->totals.exact_match() : 0), after.exact_match(),
                    arrow(before_.answers ? before_.answers->totals.f1() : 0), after.f1(), after.questions));
    const EvaluationResult none;
    const EvaluationResult& before = before_.answers ? *before_.answers : none;
    if (const QuestionResult* q = telling_answer(before, *after_.answers)) {
      const Dataset& data = data_.validation();
      const Document& d = data.documents[static_cast<size_t>(q->document)];
      say("example  " + source_.tokenizer->decode(data.prompt_of(d)));
      for (const QuestionResult& b : before.questions)
        if (b.document == q->document) say("before   " + b.prediction);
      say("after    " + q->prediction);
      say(fmt::format("correct  {}", q->gold.empty() ? "(no answer)" : q->gold[0]));
    }
  }
  const std::string model = options_.model.empty() ? "" : fmt::format(" --model {}", options_.model.string());
  if (session_.model.options().train_all) {
    say(fmt::format("model    {}", (options_.output / "model.safetensors").string()));
    say(fmt::format("next     ./train_llama_lora --model {} --data {}", options_.output.string(), options_.data.string()));
  } else {
    say(fmt::format("adapter  {}", (options_.output / "adapter_model.safetensors").string()));
    // A prepared file knows its split; of any other the same share has to be held out again.
    const bool separate = !options_.valid_data.empty();
    const std::filesystem::path& data = separate ? options_.valid_data : options_.data;
    std::string split;
    if (!separate && validation_loader_ && data.extension() != ".bin")
      split = fmt::format(" --valid-split {} --seed {}", options_.valid_split, options_.seed);
    say(fmt::format("next     ./train_llama_lora evaluate{} --adapter {} --data {}{}", model, options_.output.string(),
                    data.string(), split));
  }
}

template <class Float>
void TrainingRun<Float>::write_run_json(const Json& result) const {
  const MachineMemory memory = machine_memory();
  const Processor cpu = processor();
  RunRecord record;
  record.options = options_json(options_);
  record.plan = session_.plan_json();
  if (on_host(session_.device))
    record.device = {{"kind", "cpu"},
                     {"name", cpu.model},
                     {"features", cpu.features},
                     {"isa", isa_name(session_.device.isa)},
                     {"threads", options_.threads},
                     {"memory_total", memory.total},
                     {"peak_flops", session_.peak_flops}};
  else
    record.device = {{"kind", cuda_backend()},
                     {"name", session_.gpu.name},
                     {"compute_capability", session_.device.arch},
                     {"multiprocessors", session_.gpu.multiprocessors},
                     {"libraries", session_.gpu.libraries},
                     {"memory_total", session_.gpu.memory},
                     {"loaded_bytes", session_.gpu.loaded},
                     {"in_use_before", session_.gpu.in_use},
                     {"staging_bytes", session_.staging.total()},
                     {"peak_flops", session_.peak_flops}};
  if (!result.is_null())
    record.measured = {{"planned_bytes", session_.arena.total()},
                       {"resident_before_arena", session_.resident_before},
                       {"peak_resident", peak_resident_},
                       {"peak_resident_over_start", peak_resident_ - session_.resident_before},
                       {"train_seconds", seconds_},
                       {"tokens", tokens_},
                       {"tokens_per_second", seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0},
                       {"documents", data_.train.count(Split::kTrain)}};
  if (!result.is_null() && !on_host(session_.device))
    record.measured["gpu_bytes_taken"] = session_.gpu_free_before - cuda_free_memory(session_.device);
  record.result = result;
  write_run_record(options_.output / "run.json", record);
}

template class TrainingRun<float>;
template class TrainingRun<bf16>;
template class TrainingRun<half>;

}  // namespace tll
