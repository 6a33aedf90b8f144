// Commands that need no weights: plan, prepare, show, tokenize.
#include "src/commands/commands.h"

#include <unistd.h>

#include <iostream>

#include "src/base/units.h"
#include "src/commands/session.h"
#include "src/model/plan.h"

namespace tll {
namespace {

template <class Float>
int plan_with(const Options& options) {
  const ModelSource source = open_model(options, TokenizerNeed::none);
  const AdapterSource adapter = open_adapter(options, source.config, options.init_adapter);
  Session<Float> session(options, source.config, adapter.targets, training_needs(options));
  if (options.json) {
    fmt::print("{}\n", session.plan_json().dump());
  } else {
    fmt::print("{}", plan_table(session.arena));
    fmt::print("{} in {} ({})\n", session.fits() ? "fits" : "does not fit", Bytes{session.memory_limit()},
               options.memory > 0 ? "--memory" : fmt::format("what {} has available", session.memory_owner()));
  }
  std::fflush(stdout);
  session.require_fit();
  return kExitDone;
}

}  // namespace

int command_plan(Options& options) {
  resolve_options(options);
  return with_type(options, [&](auto type) { return plan_with<decltype(type)>(options); });
}

int command_prepare(Options& options) {
  apply_demo_defaults(options);
  const ModelSource source = open_model(options, TokenizerNeed::wanted);
  const std::filesystem::path output = options.output.empty() ? "squad.bin" : options.output;
  const Dataset dataset = load_dataset(options.data, source.tokenizer.get(), prepare_options(options, source.config));
  write_dataset(dataset, output);
  if (options.json)
    fmt::print("{}\n", dataset.report.json().dump());
  else if (!options.quiet)
    fmt::print("{}wrote {}\n", dataset.report.text(), output.string());
  return kExitDone;
}

int command_show(Options& options) {
  apply_demo_defaults(options);
  const ModelSource source = open_model(options, TokenizerNeed::required);
  PrepareOptions p = prepare_options(options, source.config);
  p.allow_empty = true;  // whoever looks for what is wrong with a sample must be able to see it
  p.any_length = !options.given("seq-len");
  const Dataset dataset = load_dataset(options.data, source.tokenizer.get(), p);
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
      fmt::print("{}\n", show_text(dataset, i, *source.tokenizer, isatty(STDOUT_FILENO) != 0));
  }
  return kExitDone;
}

int command_tokenize(Options& options) {
  const ModelSource source = open_model(options, TokenizerNeed::required);
  std::ios::sync_with_stdio(false);
  std::string line, out;
  for (int64_t number = 1; std::getline(std::cin, line); number++) {
    const std::string where = fmt::format("standard input, line {}", number);
    const Json text = parse_json(line, where);
    if (!text.is_string()) bad_file("{}: expected a JSON string, found {}", where, text.type_name());
    const std::string& s = text.get_ref<const std::string&>();
    const std::vector<int32_t> ids = options.add_special ? source.tokenizer->encode_with_special(s) : source.tokenizer->encode(s);
    out = "[";
    for (size_t i = 0; i < ids.size(); i++) fmt::format_to(std::back_inserter(out), "{}{}", i ? "," : "", ids[i]);
    out += "]\n";
    std::fwrite(out.data(), 1, out.size(), stdout);
  }
  return kExitDone;
}

}  // namespace tll
