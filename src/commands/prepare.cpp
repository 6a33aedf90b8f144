// prepare: a data set as a file ready for training.
#include "src/commands/commands.h"
#include "src/commands/from_options.h"
#include "src/commands/source.h"
#include "src/options/resolve.h"

namespace tll {

int command_prepare(Options& options) {
  apply_demo_defaults(options);
  refuse_output_over_data(options);
  const ModelSource source = open_model(options, TokenizerNeed::wanted);
  const Dataset dataset = load_dataset(options.data, source.tokenizer.get(), prepare_options(options, source));
  write_dataset(dataset, options.output);
  if (options.json) {
    print_notes(options, dataset.report);
    fmt::print("{}\n", dataset.report.json().dump());
  } else if (!options.quiet) {
    fmt::print("{}wrote {}\n", dataset.report.text(), options.output.string());
  }
  return kExitDone;
}

}  // namespace tll
