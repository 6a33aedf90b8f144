// The program: options → data → plan → load → train → save. Everything that computes is in kernels/ and src/.
//
// This file holds no CUDA syntax; it is a .cu so that one compiler driver builds the program wherever nvcc is found.
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "src/base/process.h"
#include "src/commands/commands.h"
#include "src/commands/start_ranks.h"
#include "src/commands/training_run.h"
#include "src/options/help.h"
#include "src/options/resolve.h"
#include "src/report/phase_line.h"

namespace tll {
namespace {

// With --quiet the result's directory is all that is printed: a script passes it to --adapter or --model.
int trained(const Options& options) {
  if (options.quiet && !options.json) fmt::print("{}\n", options.output.string());
  return kExitDone;
}

template <class Float>
int train(const Options& options, Collectives* collectives) {
  end_on_stop_signals();                         // there is nothing to lose yet
  TrainingRun<Float> run(options, collectives);  // reads the data, plans every byte; nothing large is allocated yet
  if (run.already_done()) return trained(options);
  run.start();  // takes the memory, loads weights, adapter, or the checkpoint to resume from
  try {
    run.evaluate_before();
    while (!run.finished()) run.step();
    run.save();  // first of all: what follows may be interrupted
    run.evaluate_after();
  } catch (const Stopped& stopped) {
    return run.interrupt(stopped);
  }
  run.finish();
  return trained(options);
}

// From the beginning on each rank of the run is a process of its own, which does all of what follows.
int train_on_ranks(Options& options, std::optional<Ranks>& ranks) {
  ranks.emplace(rank_start(options));
  take_place(options, *ranks);
  const int code = with_resolved_type(options, [&](auto type) { return train<decltype(type)>(options, ranks->collectives()); });
  ranks->finish(code);
  return code;
}

int run_command(Options& options, std::optional<Ranks>& ranks) {
  switch (options.command) {
    case Command::kTrain:
      return train_on_ranks(options, ranks);
    case Command::kPlan:
      return command_plan(options);
    case Command::kPrepare:
      return command_prepare(options);
    case Command::kShow:
      return command_show(options);
    case Command::kEvaluate:
      return command_evaluate(options);
    case Command::kGenerate:
      return command_generate(options);
    case Command::kTokenize:
      return command_tokenize(options);
    case Command::kDump:
      return command_dump(options);
    case Command::kExport:
      return command_export(options);
    case Command::kVerify:
      return command_verify(options);
    case Command::kHelp:
    case Command::kCompletion:
    case Command::kVersion:
      break;  // answered by help_text
  }
  return kExitDone;
}

void say_without_effect(const Options& options) {
  const std::vector<std::string>& names = options.without_effect;
  if (names.empty() || options.quiet) return;
  fmt::print(stderr, "note: {} {} nothing here\n", fmt::join(names, ", "), names.size() == 1 ? "changes" : "change");
}

int run_program(const std::vector<std::string>& arguments) {
  std::optional<Ranks> ranks;  // they end when the error of one is printed
  try {
    Options options = parse_options(arguments);
    if (const auto text = help_text(options)) {
      std::fwrite(text->data(), 1, text->size(), stdout);
      flush_output();
      return kExitDone;
    }
    say_without_effect(options);
    const PhaseLine phases(options.progress_output(), options.quiet);
    const int code = run_command(options, ranks);
    flush_output();
    return code;
  } catch (...) {
    const auto [code, message] = what_failed();
    if (ranks) ranks->leave(code, message);
    return report(code, message);
  }
}

}  // namespace
}  // namespace tll

int main(int argc, char** argv) {
  tll::fill_closed_streams();
  return tll::run_program({argv + std::min(argc, 1), argv + argc});
}
