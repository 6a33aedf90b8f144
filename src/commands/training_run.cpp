#include "src/commands/training_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "src/base/check.h"
#include "src/commands/save.h"
#include "src/files/model_files.h"
#include "src/model/initialize.h"

namespace tll {
namespace {

constexpr int kAnswerTokens = 32;  // an answer of a validation question
constexpr int kHopelessSteps = 3;  // in a row that are not finite: training cannot go on

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

// The checkpoint that --resume means, whole and undamaged; nothing where there is none yet.
std::optional<std::filesystem::path> checkpoint_to_resume(const Options& options) {
  if (!options.resume) return std::nullopt;
  const auto found = options.resume->empty() ? newest_checkpoint(options.output) : options.resume;
  if (found) check_checkpoint(*found);
  return found;
}

}  // namespace

template <class Float>
TrainingRun<Float>::TrainingRun(const Options& options)
    : options_(options),
      source_(open_model(options_, TokenizerNeed::wanted)),
      data_(load_run_data(options_, source_)),
      resume_from_(checkpoint_to_resume(options)),
      adapter_(open_adapter(options_, source_.config,
                            resume_from_ && options.train == TrainMode::kLora ? *resume_from_ : options.init_adapter)),
      session_(options_, source_.config, adapter_.targets, training_needs),
      report_(options_, source_, data_, session_, session_.model.options(), session_.trainer.state),
      loader_(data_.train, loader_options(options_, Split::kTrain)) {
  if (data_.validation().count(Split::kValidation) > 0)
    validation_loader_.emplace(data_.validation(), loader_options(options_, Split::kValidation));
  const double epochs = options.epochs * static_cast<double>(loader_.steps_per_epoch());
  total_steps_ = options.max_steps > 0 ? options.max_steps : std::max<int64_t>(1, static_cast<int64_t>(std::ceil(epochs)));
  session_.trainer.set_schedule(schedule(options_, total_steps_));
}

// What the numbers of a run depend on: a resumed run must agree in all of it.
template <class Float>
Json TrainingRun<Float>::settings() const {
  Json adapters = Json::array();
  for (const LoraTarget& t : session_.model.options().lora)
    adapters.push_back({t.module.layer, t.module.short_name(), t.rank, t.scale});
  Json s = resume_settings_json(options_);
  s["total_steps"] = total_steps_;
  s["data"] = fmt::format("{:016x}", data_.train.content_hash());
  s["adapters"] = adapters;
  s["parameters"] = parameter_count(source_.config);
  // With --train full the weights are in the checkpoint itself.
  if (!session_.model.options().train_all)
    s["base_weights"] = fmt::format("{:016x}", weights_fingerprint(session_.device, session_.model.weights()));
  return s;
}

template <class Float>
void TrainingRun<Float>::start() {
  catch_stop_signals();
  report_.say_plan(total_steps_, session_.model.trained().count);
  std::error_code failed;
  std::filesystem::create_directories(options_.output, failed);
  if (failed) fail(kExitFault, "{}: cannot make this directory: {}", options_.output.string(), failed.message());
  lock_.emplace(options_.output);
  session_.start(source_, adapter_);
  report_.say_device(dtype_of<Float>);
  remove_old_checkpoints(options_.output, 0, 0);
  if (const auto older = newest_checkpoint(options_.output); older && !options_.resume)
    fmt::print(stderr, "note: {} is of an earlier run, and this one starts anew; --resume would go on from it\n",
               older->string());
  if (options_.resume) resume();
  report_.begin(total_steps_);
}

template <class Float>
void TrainingRun<Float>::resume() {
  if (!resume_from_) {
    report_.say("resume   no checkpoint in {}: starting from the beginning", options_.output.string());
    return;
  }
  Session<Float>& s = session_;
  if (s.model.options().train_all)
    load_weights(s.device, s.weight_stream, ModelFiles(*resume_from_, source_.config), s.model.weights());
  const RunPosition position = read_checkpoint(*resume_from_, settings(), s.device, s.optimizer.tensors());
  s.model.trained().refresh_compute_copy(s.device);
  s.trainer.state = position.trainer;
  loader_.restore(position.loader);
  report_.say("resume   {}: {} of {} steps are done", resume_from_->string(), position.trainer.step, total_steps_);
}

template <class Float>
Score TrainingRun<Float>::evaluate(bool questions) {
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
void TrainingRun<Float>::step() {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const StepResult r = session_.trainer.step(session_.device, loader_);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const int64_t step = session_.trainer.state.step;
  if (session_.trainer.state.skipped_in_a_row >= kHopelessSteps) {
    report_.end_of_steps();
    fail(kExitCannotTrain,
         "step {}: the loss is {} and the norm of the gradients {}; the {}rd step in a row that is not finite: lower --lr, or "
         "check the weights and the data",
         step, std::abs(r.loss), std::abs(r.grad_norm), kHopelessSteps);
  }
  report_.step(r, seconds);
  if (options_.save_steps > 0 && step % options_.save_steps == 0) write_checkpoint_here();
  if (options_.eval_steps > 0 && step % options_.eval_steps == 0 && step < total_steps_ && validation_loader_)
    report_.validated(*evaluate(false).loss);
}

template <class Float>
int TrainingRun<Float>::interrupt() {
  report_.end_of_steps();
  write_checkpoint_here();
  report_.interrupted();
  return kExitInterrupted;
}

template <class Float>
void TrainingRun<Float>::write_checkpoint_here() {
  Session<Float>& s = session_;
  write_checkpoint(options_.output, {s.trainer.state, loader_.state(), settings()}, s.device, s.optimizer.tensors(),
                   [&](const std::filesystem::path& directory) { write_values(directory, FileDtype::F32); });
  remove_old_checkpoints(options_.output, options_.save_total_limit, s.trainer.state.step);
}

// The adapter as PEFT loads it, or with --train full the whole model.
template <class Float>
void TrainingRun<Float>::write_values(const std::filesystem::path& directory, FileDtype dtype) const {
  const TrainedRange<Float>& trained = session_.model.trained();
  const HostCopy values(session_.device, trained.values, trained.count);
  if (session_.model.options().train_all)
    save_model(directory, source_.config_file, trained.tensors, values.data(), dtype);
  else
    save_adapter(directory, options_, adapter_, source_.config, trained.tensors, values.data());
}

template <class Float>
void TrainingRun<Float>::save() {
  if (options_.save_steps > 0 && session_.trainer.state.step % options_.save_steps != 0) write_checkpoint_here();
  write_values(options_.output, options_.weights == DtypeOption::kBf16 ? FileDtype::BF16 : FileDtype::F32);
  if (session_.model.options().train_all) copy_tokenizer(source_.directory, options_.output);
  report_.finish();
}

template class TrainingRun<float>;
template class TrainingRun<bf16>;
template class TrainingRun<half>;

}  // namespace tll
