// What `plan` says of one run, to people and to other programs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/commands/planner.h"

namespace tll {

// What textbooks add up for a training run: parameters, gradients and AdamW's moments in fp32, as if every weight were trained,
// and activations of 16 bits, none of them computed again, with the scores of attention:
// tokens · hidden · layers · (34 + 5 · heads · length / hidden) bytes (Korthikanti et al. 2022, section 4.1).
struct FourTerms {
  int64_t parameters, gradients, optimizer, activations;
  int64_t total() const { return parameters + gradients + optimizer + activations; }
};
FourTerms four_terms(const LlamaConfig& config, int64_t batch_size, int64_t seq_len);

// What a plan is of. It makes every choice that the options leave open, and writes it into them.
struct OpenPlan {
  explicit OpenPlan(Options& options);
  OpenPlan(const OpenPlan&) = delete;  // the planner refers to the source
  OpenPlan& operator=(const OpenPlan&) = delete;

  ModelSource source;
  AdapterSource adapter;
  Planner planner;
  std::optional<Solution> solution;  // with --batch-size auto
};

// Keeps references to its arguments.
class PlanScreen {
 public:
  // `trained`: parameters. `solution`: what --batch-size auto chose.
  PlanScreen(const Options& options, const ModelSource& source, const SessionBase& session, int64_t trained,
             const Planner& planner, const std::optional<Solution>& solution);

  std::string title() const;  // of a picture
  std::string text() const;
  Json json() const;

 private:
  std::string model_name() const;
  std::string device_line() const;
  std::string assumed_line() const;
  std::vector<std::string> joint_lines() const;
  std::string verdict_line() const;
  std::string ranks_line() const;
  std::string peak_line() const;
  std::string largest_line() const;
  std::string formula_lines() const;

  const Options& options_;
  const ModelSource& source_;
  const SessionBase& session_;
  const int64_t trained_;
  const std::optional<Solution>& solution_;
  const Traffic traffic_;
  const Largest largest_;
};

}  // namespace tll
