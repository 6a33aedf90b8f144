// prepare: a data set as a file ready for training.
#include "data/prepare.h"

#include <chrono>

#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/from_options.h"
#include "src/commands/source.h"
#include "src/options/resolve.h"

namespace tll {

int command_prepare(Options& options) {
  using Clock = std::chrono::steady_clock;
  apply_demo_defaults(options);
  refuse_output_over_inputs(options, options.output);
  const ModelSource source = open_model(options, TokenizerNeed::wanted);
  const auto begin = Clock::now();
  catch_stop_signals();
  Prepared prepared;
  try {
    prepared = prepare_file(options.data, options.output, source.tokenizer.get(), prepare_options(options, source));
  } catch (const StoppedInPart& stopped) {
    fmt::print(stderr, "note: {}; what is done is in {}: run the same command to go on\n", stopped.what(), stopped.part.string());
    return kExitInterrupted;
  } catch (const Stopped& stopped) {
    fmt::print(stderr, "note: {}; {} was not written\n", stopped.what(), options.output.string());
    return kExitInterrupted;
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (options.json) {
    print_notes(options, prepared.report);
    fmt::print("{}\n", json_text(prepared.report.json()));
  } else if (!options.quiet) {
    const int64_t bytes = prepared.source_bytes - prepared.resumed_bytes;
    fmt::print("{}\n{}", prepared.decision, prepared.report.text());
    if (prepared.resumed_bytes > 0)
      fmt::print("went on behind {} that an earlier run had prepared\n", Bytes{prepared.resumed_bytes});
    fmt::print("wrote {}: {} in {:.1f} s, {:.1f} MB/s\n", options.output.string(), Bytes{bytes}, seconds,
               static_cast<double>(bytes) / 1e6 / std::max(seconds, 1e-3));
  }
  return kExitDone;
}

}  // namespace tll
