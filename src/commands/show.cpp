// show: samples of a data set, with the trained part marked.
#include <unistd.h>

#include "src/commands/commands.h"
#include "src/commands/from_options.h"
#include "src/commands/source.h"
#include "src/options/resolve.h"
#include "src/report/terminal.h"

namespace tll {

int command_show(Options& options) {
  apply_demo_defaults(options);
  const ModelSource source = open_model(options, TokenizerNeed::required);
  PrepareOptions p = prepare_options(options, source);
  p.allow_empty = true;  // whoever looks for what is wrong with a sample must be able to see it
  p.any_length = !options.given("seq-len");
  const Dataset dataset = load_dataset(options.data, source.tokenizer.get(), p);
  print_notes(options, dataset.report);
  int64_t left = options.docs;
  for (int64_t i = 0; i < static_cast<int64_t>(dataset.documents.size()) && left > 0; i++) {
    const Split split = dataset.documents[static_cast<size_t>(i)].split;
    if ((options.split == SplitOption::kTrain && split != Split::kTrain) ||
        (options.split == SplitOption::kValidation && split != Split::kValidation))
      continue;
    left--;
    if (options.json)
      fmt::print("{}\n", show_json(dataset, i, *source.tokenizer).dump());
    else
      fmt::print("{}\n", show_text(dataset, i, *source.tokenizer, takes_escapes(STDOUT_FILENO)));
  }
  if (left == options.docs && !options.quiet) fmt::print(stderr, "note: no sample is in this split\n");
  return kExitDone;
}

}  // namespace tll
