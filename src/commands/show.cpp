// show: samples of a data set, with the trained part marked; --check: what the whole set trains.
#include <unistd.h>

#include "data/data_check.h"
#include "data/template.h"
#include "src/commands/commands.h"
#include "src/commands/from_options.h"
#include "src/commands/source.h"
#include "src/options/resolve.h"
#include "src/report/terminal.h"

namespace tll {

namespace {

// Warnings are printed with --quiet, too: they are what was asked for.
void print_check(const Options& options, const Dataset& dataset, const ModelSource& source) {
  const DataCheck check = check_data(dataset, source.tokenizer.get(), source.eos, static_cast<int32_t>(options.seq_len));
  if (options.json) {
    fmt::print("{}\n", check.json().dump());
  } else {
    fmt::print("{}", check.text());
  }
  for (const std::string& warning : check.warnings()) fmt::print(stderr, "warning: {}\n", warning);
}

// Which template the texts have, and why.
std::string template_line(const Dataset& dataset, const PrepareOptions& options) {
  if (dataset.template_name.empty()) return "";
  const std::string why = options.template_name != TemplateName::kAuto ? "--template"
                          : dataset.format == DataFormat::kAuto        ? "as the file was prepared"
                                                                       : choose_template(dataset.format, options).why;
  return fmt::format("template {} ({})\n\n", dataset.template_name, why);
}

}  // namespace

int command_show(Options& options) {
  apply_demo_defaults(options);
  const ModelSource source = open_model(options, options.check ? TokenizerNeed::wanted : TokenizerNeed::required);
  PrepareOptions p = prepare_options(options, source);
  p.allow_empty = true;  // whoever looks for what is wrong with a sample must be able to see it
  p.any_length = !options.given("seq-len");
  const Dataset dataset = load_dataset(options.data, source.tokenizer.get(), p);
  print_notes(options, dataset.report);
  if (options.check) {
    print_check(options, dataset, source);
    return kExitDone;
  }
  if (!options.json && !options.quiet) fmt::print("{}", template_line(dataset, p));
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
