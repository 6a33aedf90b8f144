#include "src/report/trainer_state.h"

#include <algorithm>
#include <cmath>

namespace tll {

Json trainer_state_json(const RunHistory& history, const TrainerStateFacts& facts) {
  const auto epoch_of = [&](int64_t step) { return static_cast<double>(step) / facts.steps_per_epoch; };
  const auto put = [](Json& entry, const char* key, double value) {
    if (std::isfinite(value)) entry[key] = value;
  };
  Json log = Json::array();
  auto evaluation = history.evaluations().begin();
  const auto put_evaluations = [&](int64_t before) {
    for (; evaluation != history.evaluations().end() && evaluation->step < before; ++evaluation)
      log.push_back({{"epoch", epoch_of(evaluation->step)},
                     {"eval_loss", evaluation->loss},
                     {"eval_perplexity", std::exp(evaluation->loss)},
                     {"step", evaluation->step}});
  };
  double losses = 0;
  int64_t finite = 0;
  for (const HistoryEntry& e : history.entries()) {
    put_evaluations(e.step);
    Json entry = {{"epoch", epoch_of(e.step)}, {"step", e.step}};
    put(entry, "loss", e.loss);
    put(entry, "grad_norm", e.grad_norm);
    put(entry, "learning_rate", e.lr);
    log.push_back(std::move(entry));
    if (e.losses > 0) losses += e.loss * static_cast<double>(e.losses), finite += e.losses;
  }
  put_evaluations(std::numeric_limits<int64_t>::max());
  if (facts.finished) {
    Json whole = {{"epoch", epoch_of(facts.step)}, {"step", facts.step}, {"total_flos", facts.flops}};
    if (finite > 0) whole["train_loss"] = losses / static_cast<double>(finite);
    if (facts.seconds > 0) {
      const double steps = static_cast<double>(facts.step);
      whole["train_runtime"] = facts.seconds;
      whole["train_steps_per_second"] = steps / facts.seconds;
      whole["train_samples_per_second"] = steps * static_cast<double>(facts.rows_per_step) / facts.seconds;
    }
    log.push_back(std::move(whole));
  }
  const auto best = history.best();
  const auto or_end = [&](int64_t steps) { return steps > 0 ? steps : facts.total_steps; };
  return {{"best_global_step", best ? Json(best->step) : Json()},
          {"best_metric", best ? Json(best->loss) : Json()},
          {"best_model_checkpoint", facts.best_checkpoint.empty() ? Json() : Json(facts.best_checkpoint)},
          {"epoch", epoch_of(facts.step)},
          {"eval_steps", or_end(facts.eval_steps)},
          {"global_step", facts.step},
          {"is_hyper_param_search", false},
          {"is_local_process_zero", true},
          {"is_world_process_zero", true},
          {"log_history", std::move(log)},
          {"logging_steps", history.interval()},
          {"max_steps", facts.total_steps},
          {"num_input_tokens_seen", facts.tokens},
          {"num_train_epochs", std::max<int64_t>(1, static_cast<int64_t>(std::ceil(facts.epochs)))},
          {"save_steps", or_end(facts.save_steps)},
          {"stateful_callbacks", Json::object()},
          {"total_flos", facts.flops},
          {"train_batch_size", facts.batch_size},
          {"trial_name", Json()},
          {"trial_params", Json()}};
}

}  // namespace tll
