// show: samples of a data set, with the trained part marked; --check: what the whole set trains.
#include <unistd.h>

#include "data/data_check.h"
#include "data/prepare.h"
#include "data/template.h"
#include "src/base/check.h"
#include "src/commands/commands.h"
#include "src/commands/from_options.h"
#include "src/commands/source.h"
#include "src/options/resolve.h"
#include "src/report/terminal.h"

namespace tll {

namespace {

// The first blocks of a source.
class FirstBlocks : public DataSource {
 public:
  FirstBlocks(DataSource& source, int64_t blocks) : source_(source), left_(blocks) {
    facts_ = source.facts();
    source.seek(0, 0);
  }
  bool has_all() const { return has_all_; }
  std::optional<SourceBlock> next() override {
    if (left_-- <= 0) return std::nullopt;
    std::optional<SourceBlock> block = source_.next();
    has_all_ |= !block;
    return block;
  }
  void seek(int64_t end_bytes, int64_t rows) override { source_.seek(end_bytes, rows); }
  std::vector<Example> parse(const SourceBlock& block, SourceFindings& findings) const override {
    return source_.parse(block, findings);
  }

 private:
  DataSource& source_;
  int64_t left_;
  bool has_all_ = false;
};

struct Shown {
  Dataset data;
  std::string decision;  // which format and template, and why
};

// A large source is read as far as the samples to show need it, unless what is held out was asked for.
Shown load_shown(const Options& options, const ModelSource& source, PrepareOptions prepare) {
  constexpr int64_t kLarge = int64_t{64} << 20;
  const Tokenizer* tokenizer = source.tokenizer.get();
  if (is_prepared_file(options.data)) {
    Dataset data = load_dataset(options.data, tokenizer, prepare);
    refuse_other_choices(options, options.data, data);
    const std::string form = data.template_name.empty() ? "" : fmt::format("; template {}", data.template_name);
    return {std::move(data), options.data.string() + ": prepared" + form};
  }
  const std::string file = options.data.string();
  const std::unique_ptr<DataSource> reader = DataSource::open(options.data, prepare, thread_count(prepare));
  std::string decision = reader->facts().decision;
  if (reader->facts().format != DataFormat::kIds) {
    const TemplateChoice choice = choose_template(reader->facts().format, prepare);
    decision += fmt::format("; template {} ({})", template_names()[size_t(choice.name)], choice.why);
  }
  const bool of_split = options.split == SplitOption::kValidation || options.given("valid-split");
  if (options.check || of_split || reader->facts().bytes <= kLarge)
    return {prepare_dataset(*reader, file, tokenizer, prepare), decision};
  prepare.valid_split = 0;  // which samples are held out only the whole tells
  for (int64_t blocks = 1;; blocks *= 4) {
    FirstBlocks first(*reader, blocks);
    try {
      Dataset data = prepare_dataset(first, file, tokenizer, prepare);
      if (first.has_all() || static_cast<int64_t>(data.documents.size()) >= options.docs) return {std::move(data), decision};
    } catch (const Error& error) {
      // Perhaps the first blocks have no sample that stays.
      if (error.exit_code != kExitBadFile || first.has_all() || blocks > 64) throw;
    }
  }
}

// Warnings are printed with --quiet, too: they are what was asked for.
void print_check(const Options& options, const Shown& shown, const ModelSource& source) {
  const DataCheck check = check_data(shown.data, source.tokenizer.get(), source.eos, static_cast<int32_t>(options.seq_len));
  if (options.json) {
    Json json = check.json();
    json["decision"] = shown.decision;
    json["template"] = shown.data.template_name;
    fmt::print("{}\n", json_text(json));
  } else {
    fmt::print("{}\n{}", shown.decision, check.text());
  }
  for (const std::string& warning : check.warnings()) fmt::print(stderr, "warning: {}\n", warning);
}

}  // namespace

int command_show(Options& options) {
  apply_demo_defaults(options);
  const ModelSource source = open_model(options, options.check ? TokenizerNeed::wanted : TokenizerNeed::required);
  PrepareOptions p = prepare_options(options, source);
  p.allow_empty = true;  // whoever looks for what is wrong with a sample must be able to see it
  p.any_length = !options.given("seq-len");
  const Shown shown = load_shown(options, source, p);
  const Dataset& dataset = shown.data;
  print_notes(options, dataset.report);
  if (options.check) {
    print_check(options, shown, source);
    return kExitDone;
  }
  if (!options.json && !options.quiet) fmt::print("{}\n\n", shown.decision);
  int64_t left = options.docs;
  for (int64_t i = 0; i < static_cast<int64_t>(dataset.documents.size()) && left > 0; i++) {
    const Split split = dataset.documents[static_cast<size_t>(i)].split;
    if ((options.split == SplitOption::kTrain && split != Split::kTrain) ||
        (options.split == SplitOption::kValidation && split != Split::kValidation))
      continue;
    left--;
    if (options.json)
      fmt::print("{}\n", json_text(show_json(dataset, i, *source.tokenizer)));
    else
      fmt::print("{}\n", show_text(dataset, i, *source.tokenizer, takes_escapes(STDOUT_FILENO)));
  }
  if (left == options.docs && !options.quiet) fmt::print(stderr, "note: no sample is in this split\n");
  return kExitDone;
}

}  // namespace tll
