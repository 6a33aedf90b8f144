#include "src/commands/export_losses.h"

#include <algorithm>
#include <cmath>

#include "data/loader.h"
#include "data/prepare.h"
#include "src/base/check.h"
#include "src/commands/session.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

Options as_evaluate(Options options) {
  options.command = Command::kEvaluate;
  options.output.clear();
  return options;
}

template <class Float>
std::optional<double> loss_of(const Options& options, const Dataset& data, const ModelSource& source,
                              const AdapterSource& adapter) {
  const auto needs_of = [](const Options& o) { return SessionNeeds{.tokens = o.batch_size * o.seq_len, .positions = o.seq_len}; };
  Session<Float> session(options, source.config, adapter.targets, needs_of);
  session.start(source, adapter);
  LoaderOptions validation = loader_options(options, Split::kValidation);
  validation.most_documents = options.eval_docs;
  Loader loader(data, validation);
  LoaderBatches batches(loader);
  return session.trainer.evaluate(session.device, batches).loss;
}

}  // namespace

ExportLosses::ExportLosses(const Options& options, const ModelSource& source) : options_(as_evaluate(options)) {
  PrepareOptions prepare = prepare_options(options_, source);
  prepare.allow_empty = true;  // samples without targets change no mean
  data_ = load_dataset(options_.data, source.tokenizer.get(), prepare);
  refuse_other_choices(options_, options_.data, data_);
  print_notes(options_, data_.report);
  if (data_.count(Split::kValidation) == 0)
    for (Document& d : data_.documents) d.split = Split::kValidation;
  documents_ = data_.count(Split::kValidation);
  if (options_.eval_docs > 0) documents_ = std::min(documents_, options_.eval_docs);
  if (documents_ == 0) bad_file("{}: there is no sample in it", options_.data.string());
}

std::optional<double> ExportLosses::of_model(const ModelSource& source, const AdapterSource& adapter) const {
  Options options = options_;
  take_quantization(options, source.config);
  const auto loss = with_type(options, [&](auto type) { return loss_of<decltype(type)>(options, data_, source, adapter); });
  if (loss && !std::isfinite(*loss))
    fail(kExitCannotTrain, "the loss of {} on {} is {}: check the weights and the adapter", source.directory.string(),
         options_.data.string(), *loss);
  return loss;
}

std::optional<double> ExportLosses::of_written(const std::filesystem::path& model) const {
  Options options = options_;
  options.model = model;
  options.adapter.clear();
  options.config.clear();
  const ModelSource source = open_model(options, TokenizerNeed::none);
  return with_type(options, [&](auto type) { return loss_of<decltype(type)>(options, data_, source, {}); });
}

}  // namespace tll
