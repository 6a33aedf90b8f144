// What run.json says of a run besides its options, plan and result: the machine, the data, some of the answers.
#pragma once

#include <optional>
#include <string>

#include "src/commands/session.h"
#include "src/commands/source.h"
#include "src/train/evaluate.h"

namespace tll {

// The data of a run: documents to train on and to validate on.
struct RunData {
  Dataset train;
  std::optional<Dataset> separate_validation;  // --valid-data
  const Dataset& validation() const { return separate_validation ? *separate_validation : train; }
};

// The local time as ISO 8601 has it: 2026-11-27T09:30:00+01:00.
std::string iso_now();

Json host_json();
Json device_json(const Options& options, const SessionBase& session);
// `hash`: of the content of what is trained on.
Json data_json(const Options& options, const RunData& run, const std::string& hash);

// Some of the questions that were answered before and after training, those whose score changed first: a list of {document,
// prompt, before, after, reference}. `earlier`: such a list, of the part of the run before it was resumed, or null.
Json examples_json(const ModelSource& source, const Dataset& data, const std::optional<EvaluationResult>& before,
                   const std::optional<EvaluationResult>& after, const Json& earlier);

}  // namespace tll
