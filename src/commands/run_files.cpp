#include "src/commands/run_files.h"

#include <fmt/format.h>

#include <cmath>

#include "src/base/file.h"
#include "src/commands/model_card.h"
#include "src/commands/output_directory.h"
#include "src/commands/run_page.h"
#include "src/report/terminal.h"
#include "src/report/trainer_state.h"
#include "src/report/training_chart.h"

namespace tll {
namespace {

constexpr double kPictureWidth = 960;  // pixels

void note_failure(const std::string& reason) { fmt::print(stderr, "note: {}; the run itself goes on\n", reason); }

void write_or_note(const std::function<void()>& write) {
  try {
    write();
  } catch (const std::exception& error) {
    note_failure(error.what());
  }
}

}  // namespace

void RunFiles::begin(const std::string& run, int64_t resumed_step, const RunProgress& progress) {
  progress_ = progress;
  log_.emplace(options_.output / "metrics.jsonl", run, resumed_step, progress.total_steps);
  if (options_.report_to.empty()) return;
  events_.emplace(options_.output / event_directory(run), resumed_step > 0 ? std::optional(resumed_step + 1) : std::nullopt);
  written_step_ = resumed_step;
  events_->text(resumed_step, "args", json_text(options_json(options_), 2));
  note_events();
}

void RunFiles::step(const StepMetrics& metrics) {
  log_->step(metrics);
  if (events_ && metrics.step % history().interval() == 0) write_events(history().entries().back());
}

void RunFiles::write_events(const HistoryEntry& e) {
  Scalar scalars[5];
  size_t n = 0;
  const auto add = [&](std::string_view tag, double value) {
    if (std::isfinite(value)) scalars[n++] = {tag, value};
  };
  add("train/loss", e.loss);
  add("train/grad_norm", e.grad_norm);
  add("train/learning_rate", e.lr);
  add("train/epoch", static_cast<double>(e.step) / static_cast<double>(progress_.steps_per_epoch));
  add("train/tokens_per_second", static_cast<double>(e.tokens) / e.seconds);
  events_->scalars(e.step, {scalars, n});
  written_step_ = e.step;
  note_events();
}

void RunFiles::evaluation(int64_t step, double loss) {
  log_->evaluation(step, loss);
  if (!events_) return;
  const Scalar scalars[] = {{"eval/loss", loss}, {"eval/perplexity", std::exp(loss)}};
  events_->scalars(step, scalars);
  note_events();
}

void RunFiles::sample(int64_t step, const std::string& text) {
  if (earlier().sampled_at == step) return;
  log_->sample(step, text);
  if (!events_) return;
  events_->text(step, "sample", text);
  note_events();
}

void RunFiles::end_of_steps() {
  if (events_ && history().steps() > written_step_) write_events(history().entries().back());
}

// Once: a file that failed is written no more.
void RunFiles::note_events() {
  if (events_->failure().empty()) return;
  note_failure(events_->failure());
  events_.reset();
}

void RunFiles::write_trainer_state(const std::filesystem::path& directory, const RunProgress& progress) const {
  write_or_note([&] {
    const HistoryTotals totals = history().totals();
    TrainerStateFacts facts{.step = history().steps(),
                            .total_steps = progress.total_steps,
                            .steps_per_epoch = static_cast<double>(progress.steps_per_epoch),
                            .epochs = options_.max_steps > 0 ? static_cast<double>(progress.total_steps) /
                                                                   static_cast<double>(progress.steps_per_epoch)
                                                             : options_.epochs,
                            .eval_steps = options_.eval_steps,
                            .save_steps = options_.save_steps,
                            .batch_size = options_.batch_size,
                            .tokens = totals.tokens,
                            .flops = progress.flops.of(totals.tokens, totals.target_tokens),
                            .finished = progress.finished,
                            .seconds = totals.seconds,
                            .rows_per_step = options_.batch_size * options_.grad_accum * options_.ranks};
    if (const auto best = history().best(); best && best->step > 0) {
      const std::filesystem::path checkpoint = options_.output / fmt::format("checkpoint-{}", best->step);
      const bool this_one = directory != options_.output && best->step == facts.step;
      if (this_one || std::filesystem::exists(checkpoint)) facts.best_checkpoint = checkpoint.string();
    }
    write_file_atomic(directory / "trainer_state.json", json_text(trainer_state_json(history(), facts), 2) + "\n");
  });
}

void RunFiles::write_pictures(const Json& run, const std::string& plan_svg, bool card) const {
  if (!history().entries().empty())
    write_or_note(
        [&] { write_file_atomic(options_.output / "curves.svg", chart_svg(training_chart(history()), kPictureWidth)); });
  write_or_note([&] { write_file_atomic(options_.output / "report.html", run_page(run, history(), plan_svg)); });
  const std::filesystem::path readme = options_.output / kModelCard;
  if (card && (!std::filesystem::exists(readme) || is_model_card(readme)))  // another one is the user's
    write_or_note([&] { write_file_atomic(readme, model_card(run)); });
}

std::string RunFiles::terminal_curves(int output) const {
  constexpr size_t kLeast = 10, kColumnsOfFiles = 80;
  if (history().entries().size() < kLeast) return "";
  const size_t columns = terminal_columns(output);
  return chart_text(
      training_chart(history()),
      {.columns = columns > 0 ? columns : kColumnsOfFiles, .unicode = takes_braille(output), .colour = takes_escapes(output)});
}

}  // namespace tll
