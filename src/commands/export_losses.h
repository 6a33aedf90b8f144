// What an export costs: the validation loss of the model with its adapter, and of what was written, as this program reads it.
#pragma once

#include <optional>

#include "data/dataset.h"
#include "src/base/json.h"
#include "src/commands/source.h"

namespace tll {

class ExportLosses {
 public:
  // Reads --data: the documents that training with these options holds out; all, if none are held out.
  ExportLosses(const Options& options, const ModelSource& source);

  int64_t documents() const { return documents_; }
  // The mean loss over the targets of the documents, the first --eval-docs of them. Nothing: there are no targets. Throws Stopped
  // (src/base/phase.h) if a signal asked to stop.
  std::optional<double> of_model(const ModelSource& source, const AdapterSource& adapter) const;
  // Of a model that was written. Its adapter, if it has one, is merged in.
  std::optional<double> of_written(const std::filesystem::path& model) const;

 private:
  Options options_;  // those of `evaluate`
  Dataset data_;
  int64_t documents_ = 0;
};

}  // namespace tll
